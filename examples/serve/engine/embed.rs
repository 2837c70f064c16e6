//! Vectors of texts, as many at once as a step has room for.

use sterna::Result;
use sterna::generate::Session;

use super::Event;

/// Tokens of texts that are computed together; a text that is longer is computed by itself.
const TOGETHER: usize = 512;

/// Texts of one request.
pub struct Embedding {
    texts: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

impl Embedding {
    pub fn new(texts: Vec<Vec<u32>>) -> Self {
        Self { vectors: Vec::with_capacity(texts.len()), texts }
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }

    /// Computes some of them; tells the vectors when there are all.
    pub fn step(&mut self, session: &mut Session) -> Result<Option<Event>> {
        let left = &self.texts[self.vectors.len()..];
        let mut tokens = 0;
        let fits = |text: &&Vec<u32>| {
            tokens += text.len();
            tokens <= TOGETHER
        };
        let some = left.iter().take(session.sequences()).take_while(fits).count().max(1);
        self.vectors.extend(session.embed_ids(&left[..some.min(left.len())])?);
        Ok((self.vectors.len() == self.texts.len()).then(|| Event::Vectors(std::mem::take(&mut self.vectors))))
    }
}
