//! What queries have summed over some positions.

/// Sums of values times weights, not yet divided by the weights'. A weight is `e^(score - largest)`.
pub(super) struct Sums<'a> {
    pub(super) out: &'a mut [f32],     // [queries, head_dim]
    pub(super) largest: &'a mut [f32], // [queries], scores
    pub(super) totals: &'a mut [f32],  // [queries], weights
}

impl<'a> Sums<'a> {
    /// Floats of the sums of so many queries.
    pub(super) fn len(queries: usize, head_dim: usize) -> usize {
        queries * (head_dim + 2)
    }

    /// Sums that lie in `room`, of at least [`Sums::len`], as they were left there.
    pub(super) fn of(room: &'a mut [f32], queries: usize, head_dim: usize) -> Self {
        let (out, rest) = room.split_at_mut(queries * head_dim);
        let (largest, rest) = rest.split_at_mut(queries);
        Self { out, largest, totals: &mut rest[..queries] }
    }

    /// Nothing was summed.
    pub(super) fn clear(&mut self) {
        self.out.fill(0.0);
        self.largest.fill(f32::NEG_INFINITY);
        self.totals.fill(0.0);
    }

    pub(super) fn copy(&mut self, from: &Sums<'_>) {
        self.out.copy_from_slice(from.out);
        self.largest.copy_from_slice(from.largest);
        self.totals.copy_from_slice(from.totals);
    }

    /// Adds what the same queries summed over the following positions.
    pub(super) fn add(&mut self, next: &Sums<'_>) {
        let head_dim = self.out.len() / self.totals.len();
        let features = self.out.chunks_exact_mut(head_dim).zip(next.out.chunks_exact(head_dim));
        for (query, (out, next_out)) in features.enumerate() {
            let (largest, next_largest) = (self.largest[query], next.largest[query]);
            let most = if next_largest > largest { next_largest } else { largest };
            let (shrink, shrink_next) = ((largest - most).exp(), (next_largest - most).exp());
            for (value, next) in out.iter_mut().zip(next_out) {
                *value = *value * shrink + next * shrink_next;
            }
            self.totals[query] = self.totals[query] * shrink + next.totals[query] * shrink_next;
            self.largest[query] = most;
        }
    }

    /// Scales down what a query summed so far if there is a larger score.
    pub(super) fn raise(&mut self, query: usize, score: f32) {
        if score > self.largest[query] {
            let head_dim = self.out.len() / self.totals.len();
            // 0 the first time, when nothing was summed.
            let shrink = (self.largest[query] - score).exp();
            self.totals[query] *= shrink;
            self.out[query * head_dim..][..head_dim].iter_mut().for_each(|o| *o *= shrink);
            self.largest[query] = score;
        }
    }

    /// The weighted means of the queries from `first` on: as many as `out: [_, head_dim]` has.
    pub(super) fn means(&self, first: usize, out: &mut [f32]) {
        let head_dim = self.out.len() / self.totals.len();
        let sums = self.out[first * head_dim..].chunks_exact(head_dim).zip(&self.totals[first..]);
        for (out, (sums, total)) in out.chunks_exact_mut(head_dim).zip(sums) {
            out.iter_mut().zip(sums).for_each(|(o, sum)| *o = sum / *total);
        }
    }
}
