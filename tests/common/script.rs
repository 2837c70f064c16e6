//! A sampler that says what it is told to, whatever the network makes of it: the steps are real, the text is known.

use sterna::generate::{Draw, History, Logits, Need, Sampler};

/// The tokens that are said.
pub struct Script(pub Vec<u32>);

impl Sampler for Script {
    fn needs(&self, _: &History<'_>) -> Need {
        Need::Candidates(1)
    }

    fn draw(&mut self, _: Logits<'_>, history: &History<'_>) -> sterna::Result<Draw> {
        Ok(Draw::Token(self.0[history.made().len()]))
    }
}
