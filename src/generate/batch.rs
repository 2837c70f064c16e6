//! Several prompts, continued together to their ends; a single generation is a batch of one.

use std::collections::VecDeque;

use crate::backend::Work;
use crate::error::{Error, Result};
use crate::generate::lookup::LONGEST_DRAFT;
use crate::generate::{Piece, Prompt, SequenceId, Session, StepBudget};
use crate::measure::Timings;

/// An iterator over the pieces of several sequences, step by step. In each piece, `sequence` is the place among the prompts. A
/// sequence that fails is an error, after which the others go on; so is a step that was [interrupted](crate::Interrupt), after
/// which all do.
pub struct Batch<'s> {
    session: &'s mut Session,
    ids: Vec<SequenceId>, // of the prompts, in their order
    budget: StepBudget,
    ready: VecDeque<Piece>,
    before: Timings, // of the session, when the batch began
}

impl<'s> Batch<'s> {
    pub(super) fn new(session: &'s mut Session, prompts: &[Prompt], texts: bool) -> Result<Self> {
        if prompts.is_empty() || prompts.len() > session.sequences() {
            return Err(Error::Input(format!(
                "{} prompts for a session of {} sequences; make the session with as many as there are prompts",
                prompts.len(),
                session.sequences()
            )));
        }
        if session.running() + session.waiting() > 0 {
            return Err(Error::Busy(
                "sequences that joined this session are not over; step it to their end, or make another session".into(),
            ));
        }
        let (ids, before) = (Vec::with_capacity(prompts.len()), session.timings());
        // So that no step allocates.
        let ready = VecDeque::with_capacity(prompts.len() * (1 + LONGEST_DRAFT));
        let mut batch = Self { session, ids, budget: StepBudget::whole_chunks(), ready, before };
        for prompt in prompts {
            batch.ids.push(batch.session.join_as(prompt.clone(), None, texts)?);
        }
        Ok(batch)
    }

    /// The same, with steps of another budget.
    pub fn with_budget(mut self, budget: StepBudget) -> Self {
        self.budget = budget;
        self
    }

    /// Time and tokens of the steps so far, prompts and made tokens apart; of the last step, some tokens may still be to come.
    pub fn timings(&self) -> Timings {
        self.session.timings().since(self.before)
    }

    /// What the device did for the session.
    pub fn work(&self) -> Work {
        self.session.work()
    }
}

impl Iterator for Batch<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        // A step that reads prompts alone makes nothing.
        while self.ready.is_empty() {
            let pieces = self.session.step(&self.budget);
            self.ready.extend(pieces.iter().cloned());
            if self.ready.is_empty() && self.session.was_interrupted() {
                return Some(Err(Error::Interrupted));
            }
            if self.ready.is_empty() && self.session.running() + self.session.waiting() == 0 {
                return None;
            }
        }
        let mut piece = self.ready.pop_front()?;
        piece.sequence = self.ids.iter().position(|&id| id == piece.sequence)?;
        Some(match piece.error.take() {
            Some(error) => Err(error),
            None => Ok(piece),
        })
    }
}

/// What was not finished ends here; what it computed stays cached.
impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.session.abandon_all();
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("timings", &self.timings()).finish_non_exhaustive()
    }
}
