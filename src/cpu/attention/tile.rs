//! A tile of positions: its scores, what they weigh, and the values times that.

use std::ops::Range;

use crate::cpu::attention::POSITIONS;
use crate::cpu::kernels::{Entries, HEADS, Kernels};

/// At most [`HEADS`] queries that share a key/value head, row by row, and what they have summed so far.
pub(super) struct Queries<'a> {
    pub(super) kernels: &'static dyn Kernels,
    pub(super) rows: usize,
    pub(super) head_dim: usize,
    pub(super) q: &'a [f32],           // [rows, heads, head_dim]
    pub(super) out: &'a mut [f32],     // [rows, heads, head_dim], sums of values, not yet divided
    pub(super) largest: &'a mut [f32], // [rows, heads], scores
    pub(super) totals: &'a mut [f32],  // [rows, heads], sums of the weights
}

/// Keys and values of some places of the tile.
type EntriesOf<'a> = &'a dyn Fn(Range<usize>) -> (Entries<'a>, Entries<'a>);

impl Queries<'_> {
    /// Adds a tile of `len` positions. All rows see the first `all_see` of them, and each row one more than the row before it.
    /// Every query sums what it would alone, in the same order.
    pub(super) fn attend(&mut self, all_see: usize, len: usize, entries: EntriesOf<'_>) {
        let factor = 1.0 / (self.head_dim as f32).sqrt();
        let (queries, heads) = (self.largest.len(), self.largest.len() / self.rows);
        let row_len = heads * self.head_dim;
        let mut weights = [0.0f32; HEADS * POSITIONS];
        let (keys, values) = entries(0..all_see);
        let some = &mut weights[..queries * all_see];
        self.kernels.scores(some, self.q, keys, self.head_dim, factor);
        if all_see == len {
            // One row, or rows that all see all of it.
            for (query, scores) in some.chunks_exact_mut(len).enumerate() {
                self.weigh(query, scores);
            }
            return self.kernels.mix(self.out, some, values, self.head_dim);
        }
        let mut scores = [[0.0f32; POSITIONS]; HEADS];
        for (scores, some) in scores.iter_mut().zip(some.chunks_exact(all_see)) {
            scores[..all_see].copy_from_slice(some);
        }
        let seen = |row: usize| len.min(all_see + row);
        for row in 1..self.rows {
            let places = all_see..seen(row);
            let more = &mut weights[..heads * places.len()];
            let (keys, _) = entries(places.clone());
            self.kernels.scores(more, &self.q[row * row_len..][..row_len], keys, self.head_dim, factor);
            for (scores, more) in scores[row * heads..].iter_mut().zip(more.chunks_exact(places.len())) {
                scores[places.clone()].copy_from_slice(more);
            }
        }
        for (query, scores) in scores.iter_mut().enumerate().take(queries) {
            self.weigh(query, &mut scores[..seen(query / heads)]);
        }
        for (weights, scores) in weights.chunks_exact_mut(all_see).zip(&scores).take(queries) {
            weights.copy_from_slice(&scores[..all_see]);
        }
        self.kernels.mix(self.out, &weights[..queries * all_see], values, self.head_dim);
        for row in 1..self.rows {
            let places = all_see..seen(row);
            let more = &mut weights[..heads * places.len()];
            for (more, scores) in more.chunks_exact_mut(places.len()).zip(&scores[row * heads..]) {
                more.copy_from_slice(&scores[places.clone()]);
            }
            let (_, values) = entries(places);
            self.kernels.mix(&mut self.out[row * row_len..][..row_len], more, values, self.head_dim);
        }
    }

    /// Turns the scores of a query into weights, and scales down what it summed so far if there is a larger one among them.
    fn weigh(&mut self, query: usize, scores: &mut [f32]) {
        let (least, most) = self.kernels.extremes(scores);
        if least == f32::NEG_INFINITY {
            // It would weigh nothing, but is a sum that left the numbers. (What +∞ and NaN weigh is NaN anyway.)
            scores.fill(f32::NAN);
        }
        if most > self.largest[query] {
            // 0 the first time, when nothing was summed.
            let shrink = (self.largest[query] - most).exp();
            self.totals[query] *= shrink;
            self.out[query * self.head_dim..][..self.head_dim].iter_mut().for_each(|o| *o *= shrink);
            self.largest[query] = most;
        }
        self.totals[query] += self.kernels.exp_sum(scores, self.largest[query]);
    }
}
