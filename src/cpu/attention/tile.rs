//! A tile of positions: its scores, what they weigh, and the values times that.

use std::ops::Range;

use crate::cpu::attention::sums::Sums;
use crate::cpu::kernels::{Entries, FEW_QUERIES, Kernels, POSITIONS, QUERIES_TOGETHER, Scores};

/// What a thread has before it: the queries of a group, their scores with a tile, and the tile itself in single precision.
pub(super) struct Desk<'a> {
    pub(super) q: &'a mut [f32], // [queries, head_dim]
    scores: &'a mut [Scores],    // [queries]
    keys: &'a mut [f32],         // [POSITIONS / KEYS_TOGETHER, head_dim, KEYS_TOGETHER]
    values: &'a mut [f32],       // [POSITIONS, head_dim]
}

impl<'a> Desk<'a> {
    /// Floats of a desk for so many queries.
    pub(super) fn len(queries: usize, head_dim: usize) -> usize {
        queries * (POSITIONS + head_dim) + 2 * POSITIONS * head_dim
    }

    /// A desk that lies in `room`, of at least [`Desk::len`].
    pub(super) fn of(room: &'a mut [f32], queries: usize, head_dim: usize) -> Self {
        let (scores, room) = room.split_at_mut(queries * POSITIONS);
        let (q, room) = room.split_at_mut(queries * head_dim);
        let (keys, values) = room.split_at_mut(POSITIONS * head_dim);
        Self { q, scores: scores.as_chunks_mut().0, keys, values }
    }
}

/// Some of the positions of a tile, counted from its first: each row sees one more than the row before it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// The first that all rows see.
    pub(super) first: usize,
    /// Behind the last that all rows see.
    pub(super) all: usize,
    /// Behind the last that any row sees.
    pub(super) end: usize,
}

impl Seen {
    fn end(&self, row: usize) -> usize {
        self.end.min(self.all + row)
    }
}

impl Desk<'_> {
    /// Adds a tile to the sums of as many rows of queries. Every query sums what it would alone, in the same order. `keys` are those of
    /// the whole tile, `values` those of the positions that are seen.
    pub(super) fn attend(
        &mut self,
        kernels: &dyn Kernels,
        rows: usize,
        sums: &mut Sums<'_>,
        seen: Seen,
        keys: Entries<'_>,
        values: Entries<'_>,
    ) {
        let queries = sums.totals.len();
        let (heads, head_dim) = (queries / rows, sums.out.len() / queries);
        let widens = queries > FEW_QUERIES;
        let (scores, q) = (&mut self.scores[..queries], &self.q[..queries * head_dim]);
        let keys = if widens { widened(kernels, self.keys, keys) } else { keys };
        let values = if widens { widened(kernels, self.values, values) } else { values };
        kernels.scores(scores, q, keys, 1.0 / (head_dim as f32).sqrt());
        for (query, scores) in scores.iter_mut().enumerate() {
            let scores = &mut scores[seen.first..seen.end(query / heads)];
            let (least, most) = kernels.extremes(scores);
            if least == f32::NEG_INFINITY {
                // It would weigh nothing, but is a sum that left the numbers. (What +∞ and NaN weigh is NaN anyway.)
                scores.fill(f32::NAN);
            }
            sums.raise(query, most);
            sums.totals[query] += kernels.exp_sum(scores, sums.largest[query]);
        }
        let mut mix = |rows: Range<usize>, positions: Range<usize>| {
            if !positions.is_empty() {
                let queries = rows.start * heads..rows.end * heads;
                let out = &mut sums.out[queries.start * head_dim..queries.end * head_dim];
                let features = |position: usize| (position - seen.first) * head_dim;
                let values = values.slice(features(positions.start)..features(positions.end));
                kernels.mix(out, &scores[queries], positions, values);
            }
        };
        mix(0..rows, seen.first..seen.all);
        // What some rows see and those before them do not: by as many rows as make queries that go together.
        let some = (QUERIES_TOGETHER / heads).max(1);
        for first in (0..rows).step_by(some) {
            let rows = first..rows.min(first + some);
            mix(rows.clone(), seen.all..seen.end(first));
            rows.for_each(|row| mix(row..row + 1, seen.end(first)..seen.end(row)));
        }
    }
}

/// Entries in single precision.
fn widened<'e>(kernels: &dyn Kernels, room: &'e mut [f32], entries: Entries<'e>) -> Entries<'e> {
    match entries {
        Entries::F16(halves) => {
            let room = &mut room[..halves.len()];
            kernels.widen(room, halves);
            Entries::F32(room)
        }
        Entries::F32(_) => entries,
    }
}
