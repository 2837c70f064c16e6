//! The few best of many: which logits are the largest, in an order that is total, so that every device and every way of
//! looking finds the same ones.

use std::cmp::Ordering;

use crate::allocation::reserve;
use crate::error::Result;

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f32,
}

impl Candidate {
    /// Stands where there is no candidate.
    pub(crate) const NONE: Self = Self { id: 0, logit: f32::NEG_INFINITY };

    /// More likely first; of equals the smaller id, so that the order is total.
    pub(crate) fn by_rank(a: &Self, b: &Self) -> Ordering {
        b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
    }
}

/// Collects the `keep` best of the candidates offered, in any order. Most of a vocabulary falls below the worst kept so
/// far and costs one comparison. The memory is used again and again.
#[derive(Debug)]
pub(crate) struct Ranking {
    keep: usize,
    kept: Vec<Candidate>, // at most 2 * keep
    worst: Candidate,     // nothing that ranks behind it is among the best
}

/// Logits that are compared together: most such pieces hold nothing worth keeping.
const PIECE: usize = 64;

impl Ranking {
    pub(crate) fn new() -> Self {
        Self { keep: 0, kept: Vec::new(), worst: Candidate { id: u32::MAX, logit: f32::NEG_INFINITY } }
    }

    /// Forgets what it has, and makes room to keep any number up to `most` of any number of offers.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no memory for it.
    pub(crate) fn reserve(&mut self, most: usize) -> Result<()> {
        self.kept.clear();
        reserve(&mut self.kept, most.saturating_mul(2))
    }

    /// Forgets what it has and makes ready to keep `keep`, at least one.
    pub(crate) fn begin(&mut self, keep: usize) {
        assert!(keep > 0);
        self.keep = keep;
        self.kept.clear();
        self.worst = Candidate { id: u32::MAX, logit: f32::NEG_INFINITY };
    }

    /// Offers one candidate. NaN and −∞ are never kept.
    pub(crate) fn offer(&mut self, id: u32, logit: f32) {
        // Zeros of both signs are equal: the sum with +0 makes them so.
        let candidate = Candidate { id, logit: logit + 0.0 };
        if logit > f32::NEG_INFINITY && Candidate::by_rank(&candidate, &self.worst).is_lt() {
            self.kept.push(candidate);
            if self.kept.len() == self.keep.saturating_mul(2) {
                self.kept.select_nth_unstable_by(self.keep - 1, Candidate::by_rank);
                self.kept.truncate(self.keep);
                self.worst = self.kept[self.keep - 1];
            }
        }
    }

    /// Offers the logits of the tokens from 0 on.
    pub(crate) fn offer_all(&mut self, logits: &[f32]) {
        for (piece, logits) in logits.chunks(PIECE).enumerate() {
            // Counting them all is one vector loop; looking for the first would not be.
            let worth_a_look = logits.iter().filter(|&&logit| logit >= self.worst.logit).count() > 0;
            if worth_a_look {
                for (place, &logit) in logits.iter().enumerate() {
                    self.offer((piece * PIECE + place) as u32, logit);
                }
            }
        }
    }

    /// The best of what was offered, at most `keep`, best first.
    pub(crate) fn finish(&mut self) -> &mut Vec<Candidate> {
        self.kept.sort_unstable_by(Candidate::by_rank);
        self.kept.truncate(self.keep);
        &mut self.kept
    }
}

/// `Σ exp((logit − best) · factor)`: what the odds of all tokens add up to. NaN and −∞ add nothing.
pub(crate) fn total_odds(logits: &[f32], best: f32, factor: f32) -> f64 {
    /// Odds that are added in f32, as single ones have no more digits.
    const PIECE: usize = 256;
    let odds = |&logit: &f32| if logit > f32::NEG_INFINITY { ((logit - best) * factor).exp() } else { 0.0 };
    logits.chunks(PIECE).map(|piece| f64::from(piece.iter().map(odds).sum::<f32>())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_whatever_the_order() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let mut logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 41) as f32 - 20.0).collect();
        logits.extend([nan, inf, -inf, 0.0, -0.0, inf, nan]);
        let mut sorted: Vec<Candidate> =
            logits.iter().zip(0..).map(|(&logit, id)| Candidate { id, logit: logit + 0.0 }).collect();
        sorted.retain(|candidate| candidate.logit > -inf);
        sorted.sort_by(Candidate::by_rank);
        let mut ranking = Ranking::new();
        for keep in [1, 2, 13, 64, 499, 2000] {
            ranking.begin(keep);
            ranking.offer_all(&logits);
            assert_eq!(*ranking.finish(), sorted[..keep.min(sorted.len())], "the best {keep}");
            ranking.begin(keep);
            for (id, &logit) in logits.iter().enumerate().rev() {
                ranking.offer(id as u32, logit);
            }
            assert_eq!(*ranking.finish(), sorted[..keep.min(sorted.len())], "the best {keep}, from behind");
        }
    }

    #[test]
    fn of_equals_the_first_are_kept() {
        let mut ranking = Ranking::new();
        ranking.begin(3);
        ranking.offer_all(&[1.0; 1000]);
        assert_eq!(ranking.finish().iter().map(|c| c.id).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
