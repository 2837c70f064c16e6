//! What a network says of given tokens: prompts computed ahead, logits of every position, likelihoods.

use std::ops::{ControlFlow, Range};

use crate::engine::Step;
use crate::error::{Error, Result};
use crate::generate::{Reuse, Session, row};
use crate::transformer::Wanted;

impl Session {
    /// Computes `ids` ahead of a generation that begins with them, chunk by chunk. After each chunk `progress` is told how
    /// many ids are done and may stop; what was done stays cached. (Of a model with recurrent layers a longer prompt finds it, not one
    /// that ends with `ids`: the state stands behind the last of them, and a generation begins by computing its last id.)
    ///
    /// # Errors
    /// [`Error::Input`] for ids outside the vocabulary or more than [`Session::positions`]; [`Error::Busy`] if all slots are
    /// taken by sequences that joined; [`Error::Interrupted`] if the session was, and what was done stays cached, but not of a model with
    /// recurrent layers.
    pub fn prefill(
        &mut self,
        ids: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.check_ids(ids)?;
        self.with_slot(ids, Reuse::Shared, |session, slot| session.read_chunks(slot, ids, progress))
    }

    /// Runs `ids` from an empty cache, and hands over the logits after each position: `sink(position, logits[vocabulary])`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn evaluate(&mut self, ids: &[u32], sink: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.evaluate_range(ids, 0..ids.len(), Reuse::Shared, sink)
    }

    /// [`Session::evaluate`] of some positions: what comes before them is found in the cache as far as `reuse` allows, or computed
    /// without logits. So a long text can be evaluated in pieces, between which sequences that joined go on. (With [`Reuse::Never`] each
    /// piece computes all that is before it.)
    ///
    /// # Errors
    /// As [`Session::prefill`], and for positions that `ids` do not have.
    pub fn evaluate_range(
        &mut self,
        ids: &[u32],
        positions: Range<usize>,
        reuse: Reuse,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<()> {
        self.check_ids(ids)?;
        let Some(some) = ids.get(positions.clone()) else {
            let Range { start, end } = positions;
            return Err(Error::Input(format!("positions {start} to {end} of a text of {} tokens", ids.len())));
        };
        let (vocabulary, known) = (self.model().config().vocabulary, &ids[..positions.start]);
        self.with_slot(known, reuse, |session, slot| {
            let _ = session.read_chunks(slot, known, &mut |_, _| ControlFlow::Continue(()))?;
            let (chunk, selected) = (session.engine.capacity().rows, session.engine.capacity().selected);
            for (first, ids) in (positions.start..).step_by(chunk).zip(some.chunks(chunk)) {
                session.compute_rows(slot, ids, true)?;
                // The layers are done at once; the head goes by pieces, as all logits together are large.
                for begin in (0..ids.len()).step_by(selected) {
                    let piece = begin..ids.len().min(begin + selected);
                    let logits = session.engine.logits(piece)?.chunks_exact(vocabulary);
                    logits.enumerate().for_each(|(row, logits)| sink(first + begin + row, logits));
                }
            }
            Ok(())
        })
    }

    /// The logits after `ids`, `[vocabulary]`. What is cached of them is reused, so that one more id than last time costs one
    /// row.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.check_ids(ids)?;
        let (last, known) = ids.split_last().expect("ids were checked to be some");
        self.with_slot(known, Reuse::Shared, |session, slot| {
            let _ = session.read_chunks(slot, known, &mut |_, _| ControlFlow::Continue(()))?;
            session.compute_rows(slot, &[*last], true)?;
            Ok(session.engine.logits(0..1)?.to_vec())
        })
    }

    /// The natural logarithm of the probability of each of `ids[1..]`, given those before it. The perplexity of a text
    /// is `exp(-mean)`.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn log_likelihoods(&mut self, ids: &[u32]) -> Result<Vec<f64>> {
        let mut result = Vec::with_capacity(ids.len());
        self.evaluate(ids, &mut |position, logits| {
            if let Some(&next) = ids.get(position + 1) {
                let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let total: f64 = logits.iter().map(|&l| (f64::from(l) - largest).exp()).sum();
                result.push(f64::from(logits[next as usize]) - largest - total.ln());
            }
        })?;
        Ok(result)
    }

    /// Computes what a slot does not hold of `ids`, chunk by chunk.
    fn read_chunks(
        &mut self,
        slot: usize,
        ids: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let rows = self.engine.capacity().rows;
        while self.slots.cached(slot) < ids.len() {
            let done = self.slots.cached(slot);
            let due = self.slots.snapshot_due(slot, ids.len());
            self.compute_rows(slot, &ids[done..due.unwrap_or(ids.len()).min(done + rows)], false)?;
            if due == Some(self.slots.cached(slot)) {
                self.keep_snapshot(slot)?;
            }
            if progress(self.slots.cached(slot), ids.len()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Lends a free slot, with what it holds of `ids`, to some work. What fails leaves nothing there.
    pub(super) fn with_slot<T>(
        &mut self,
        ids: &[u32],
        reuse: Reuse,
        work: impl FnOnce(&mut Self, usize) -> Result<T>,
    ) -> Result<T> {
        let admission = self.slots.admit(ids, reuse).ok_or_else(no_slot)?;
        let slot = admission.slot;
        let outcome = self.copy_to(admission).and_then(|()| work(self, slot));
        let outcome = outcome.map_err(|error| self.explain(error, slot));
        // A step that was left off half way has changed the state of recurrent layers.
        let is_sound = match outcome {
            Ok(_) => true,
            Err(Error::Interrupted) => !self.engine.is_recurrent(),
            Err(_) => false,
        };
        if !is_sound {
            self.slots.forget(slot);
        }
        self.slots.release(slot);
        outcome
    }

    /// The error, with where numbers stopped being finite if that is what it says.
    pub(super) fn explain(&mut self, error: Error, slot: usize) -> Error {
        match error {
            Error::NotFinite(_) => self.engine.why_not_finite(&[(slot, self.slots.cached(slot))]),
            error => error,
        }
    }

    /// Appends ids to a slot, at most a chunk; all of them may be asked for their logits or features afterwards, if wanted.
    pub(super) fn compute_rows(&mut self, slot: usize, ids: &[u32], wants_logits: bool) -> Result<()> {
        let first = self.slots.cached(slot);
        let rows: Vec<_> = (first..first + ids.len()).map(|position| row(slot, position, wants_logits)).collect();
        self.engine.start(&Step { tokens: ids, rows: &rows, wanted: Wanted::Nothing, factors: &[], steps_ahead: 0 });
        self.engine.finish()?;
        ids.iter().for_each(|&id| self.slots.push(slot, id));
        Ok(())
    }
}

/// Sequences that joined are not pushed aside.
pub(super) fn no_slot() -> Error {
    Error::Busy("all slots are taken by sequences that joined this session; step it until one ends".into())
}
