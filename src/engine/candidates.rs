//! What a step tells of candidates.

use crate::backend::MOST_CANDIDATES;

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
