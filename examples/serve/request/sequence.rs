//! The sequence of an answer, and who draws its tokens where that is more than the library's own sampler.

use sterna::Result as Outcome;
use sterna::generate::{Draw, History, Logits, Need, Sampler};

use super::options::Options;
use crate::app::Served;
use crate::engine::Start;
use crate::http::error::ApiError;

/// Lets nothing end before so many tokens were made.
struct AtLeast {
    inner: Box<dyn Sampler>,
    tokens: usize,
    /// Tokens that would end the answer.
    ends: Vec<u32>,
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

/// Puts a sampler around another.
pub type Wrap<'a> = &'a dyn Fn(Box<dyn Sampler>) -> Result<Box<dyn Sampler>, ApiError>;

/// The sequence of one answer, the `number`-th of its request, to a prompt that [fits](Served::check_length).
pub fn of(
    served: &Served,
    options: &Options,
    (ids, number): (&[u32], usize),
    logprobs: Option<usize>,
    wrap: Option<Wrap<'_>>,
) -> Result<Start, ApiError> {
    let mut generate = options.generate.clone();
    // The last token that is made takes no position.
    let room = served.positions - ids.len() + 1;
    generate.max_tokens = options.max_tokens.unwrap_or(usize::MAX).min(room);
    generate.sampling.seed = options.seed.wrapping_add(number as u64);
    generate.logprobs = logprobs;
    let sampler = match (options.min_tokens, wrap) {
        (0, None) => None,
        (tokens, wrap) => {
            let most = ids.len() + generate.max_tokens;
            let inner = generate.sampling.sampler(most, served.model.config().vocabulary)?;
            let model_ends = served.model.tokenizer()?.end_of_generation();
            let ends = generate.stop_ids.iter().chain(model_ends).copied().collect();
            let inner: Box<dyn Sampler> = Box::new(AtLeast { inner, tokens, ends });
            Some(match wrap {
                Some(wrap) => wrap(inner)?,
                None => inner,
            })
        }
    };
    Ok(Start { prompt: sterna::Prompt { ids: ids.to_vec(), options: generate }, sampler })
}
