//! Who draws the tokens of an answer, where that is more than the library's own sampler.

use sterna::Result as Outcome;
use sterna::generate::{Draw, GenerateOptions, History, Logits, Need, Sampler};

use crate::app::Served;
use crate::http::error::ApiError;

/// Lets nothing end before so many tokens were made.
pub struct AtLeast {
    pub inner: Box<dyn Sampler>,
    pub tokens: usize,
    /// Tokens that would end the answer.
    pub ends: Vec<u32>,
}

impl Sampler for AtLeast {
    fn needs(&self, history: &History<'_>) -> Need {
        match history.made().len() < self.tokens {
            true => Need::Logits,
            false => self.inner.needs(history),
        }
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Outcome<Draw> {
        match logits {
            Logits::All(logits) if history.made().len() < self.tokens => {
                self.ends.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
                self.inner.draw(Logits::All(logits), history)
            }
            logits => self.inner.draw(logits, history),
        }
    }
}

/// The sampler of an answer; none where the library's own does.
pub fn of(
    served: &Served,
    options: &GenerateOptions,
    min_tokens: usize,
    prompt: usize,
) -> Result<Option<Box<dyn Sampler>>, ApiError> {
    if min_tokens == 0 {
        return Ok(None);
    }
    let most = prompt.saturating_add(options.max_tokens).min(served.positions + 1);
    let inner = options.sampling.sampler(most, served.model.config().vocabulary)?;
    let model_ends = served.model.tokenizer()?.end_of_generation();
    let ends = options.stop_ids.iter().chain(model_ends).copied().collect();
    Ok(Some(Box::new(AtLeast { inner, tokens: min_tokens, ends })))
}
