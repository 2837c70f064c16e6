//! Who draws the next token: a trait for whoever does, and what a draw is told. [`Sampling`](crate::generate::Sampling) has the
//! one that is built in; grammars and samplers of one's own are others.

use crate::error::Result;

/// Draws the tokens of one sequence. Each sequence has a sampler of its own, so that what it says does not depend on who shares
/// its steps.
pub trait Sampler: Send {
    /// What the draw after `history` needs to know of the logits. Asked before each step, and between the draws of one; the less, the
    /// less is computed and brought back from the device.
    fn needs(&self, history: &History<'_>) -> Need;

    /// Draws the token after `history`, told at least what [`Sampler::needs`] asked for. Not called where that was
    /// [`Need::Best`].
    ///
    /// # Errors
    /// Whatever keeps it from drawing ends this sequence, with [`Finish::Failed`](crate::generate::Finish::Failed).
    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw>;
}

/// The tokens of a sequence so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History<'a> {
    /// The prompt, and what was made.
    pub ids: &'a [u32],
    /// How many of them are the prompt's.
    pub prompt: usize,
}

impl<'a> History<'a> {
    /// What was made.
    pub fn made(&self) -> &'a [u32] {
        &self.ids[self.prompt..]
    }
}

/// What a draw needs to know of the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Need {
    /// The most likely token alone, which is taken without a draw.
    Best,
    /// So many of the most likely tokens, 1 to [`MOST_CANDIDATES`](crate::backend::MOST_CANDIDATES).
    Candidates(usize),
    /// The same, and what the odds of all tokens add up to. All logits have to be computed for that, but few are brought back.
    Totals {
        /// How many of the most likely tokens.
        candidates: usize,
        /// The temperature of [`Totals::at_temperature`], above 0.
        temperature: f32,
    },
    /// All logits.
    Logits,
}

/// What a draw is told.
#[derive(Debug)]
pub enum Logits<'a> {
    /// The most likely tokens.
    Best(Candidates<'a>),
    /// Of all tokens, `[vocabulary]`. They may be changed.
    All(&'a mut [f32]),
}

/// The most likely tokens, best first, of equals the smaller id first.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The tokens. Where the vocabulary has fewer than were asked for, the last ones mean nothing: their logits are −∞.
    pub ids: &'a [u32],
    /// Their logits, as the network computed them.
    pub logits: &'a [f32],
    /// What the odds of all tokens add up to, if that was asked for.
    pub totals: Option<Totals>,
}

/// Sums over the whole vocabulary, in units of the most likely token's odds: at least 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// `Σ exp(logit − best)`: the probability of the most likely token is 1 over this.
    pub at_one: f64,
    /// `Σ exp((logit − best) / temperature)`.
    pub at_temperature: f64,
}

/// What came of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// This token.
    Token(u32),
    /// The candidates were too few to tell: the sampler is asked again, with [`Logits::All`].
    NeedsAll,
}
