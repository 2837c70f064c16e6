//! What a session asks of an engine, and what comes of it.

#[cfg(doc)]
use crate::backend::NO_TOKEN;
use crate::backend::{MOST_CANDIDATES, Row};
#[cfg(doc)]
use crate::transformer::Capacity;
use crate::transformer::Wanted;

/// One step of a session.
pub(crate) struct Step<'a> {
    /// `[rows]`, below the vocabulary.
    pub(crate) tokens: &'a [u32],
    /// At most [`Capacity::rows`], in slots and at positions that there are.
    pub(crate) rows: &'a [Row],
    /// Of the rows that want logits: at most [`Capacity::selected`] of them, unless this is [`Wanted::Nothing`].
    pub(crate) wanted: Wanted,
    /// Inverse temperatures of the rows that want logits, for [`Wanted::Totals`].
    pub(crate) factors: &'a [f32],
    /// With [`Wanted::Best`]: each of these rows will be continued with its best token, and nothing else, at most so many times.
    /// A device may start on those steps. They are wasted, and do no harm, if something else comes.
    pub(crate) steps_ahead: usize,
}

/// What a step chose, for the rows that want logits, in their order.
pub(crate) enum Chosen<'a> {
    Nothing,
    /// The most likely token of each; [`NO_TOKEN`] where a logit is not finite.
    Best(&'a [u32]),
    Candidates(AllCandidates<'a>),
}

/// The most likely tokens of each row.
#[derive(Clone, Copy)]
pub(crate) struct AllCandidates<'a> {
    pub(super) count: usize,
    pub(super) ids: &'a [u32],    // [selected, MOST_CANDIDATES]
    pub(super) logits: &'a [f32], // [selected, MOST_CANDIDATES], −∞ where there is no token
    pub(super) totals: &'a [f32], // [selected, 2], or none
}

impl<'a> AllCandidates<'a> {
    /// The ids and logits of one row, best first, and its totals, if they were wanted. Where a logit of the row was not finite, the
    /// first id is [`NO_TOKEN`].
    pub(crate) fn of(&self, row: usize) -> (&'a [u32], &'a [f32], Option<[f32; 2]>) {
        let places = row * MOST_CANDIDATES..row * MOST_CANDIDATES + self.count;
        let totals = self.totals.as_chunks().0.get(row).copied();
        (&self.ids[places.clone()], &self.logits[places], totals)
    }
}
