//! The logits that a screen leaves in the running, of up to [`TOGETHER`] rows of a step at once: the copy is read once for all of them, and so
//! is what it leaves of the head.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::screener::Pause;
use super::{ExactLogits, Screener};
use crate::backend::Backend;
use crate::cpu::Cpu;
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::DenseRow;
use crate::cpu::matrix::Matrix;
use crate::cpu::screen::{Bounds, Integers, Planes, Probe, Scratch, Screen, TOGETHER};
use crate::cpu::tensor::Tensor;

/// The largest share of bounds, one for each token and row, that the first plane may leave open, 1 in this many: beyond it, reading the
/// second here and there takes longer than reading both in one stream.
const MANY: usize = 3;
/// The largest share of logits that are computed exactly while a screen is worth reading, 1 in this many.
const MOST_EXACT: usize = 2;
/// The most times that the first plane alone is left out until it is tried again: once at first, twice as often whenever a try fails.
const LONGEST_PAUSE: u32 = 32;

/// Rows of the head that a task computes for the threshold.
const TASK_ROWS: usize = 8;
/// Tokens that a task looks at.
const TASK_TOKENS: usize = 256;

impl Cpu {
    /// Hands over, row by row, exact logits among which are the `count` largest. `scratch` is like `logits`' `out`.
    pub(in crate::cpu) fn enough_logits(
        &mut self,
        scratch: &mut Tensor,
        head: &Matrix,
        x: &Tensor,
        count: usize,
        found: &mut dyn FnMut(&mut Self, usize, ExactLogits<'_>),
    ) {
        let selected = self.selected.len();
        let screen = head.screen.as_ref().and_then(|growth| {
            let dense = head.dense().expect("a head with a screen is dense");
            let hidden = &x.values[..selected * x.cols];
            growth.screen(dense, hidden, self.kernels, &self.workers, self.pages.wanted())
        });
        let Some(screen) = screen else {
            self.logits(scratch, head, x);
            return (0..selected).for_each(|row| found(self, row, ExactLogits::All(scratch.row(row))));
        };
        for first in (0..selected).step_by(TOGETHER) {
            let rows = first..selected.min(first + TOGETHER);
            let Some(planes) = self.screener.planes() else {
                self.all_logits(scratch, head, x, rows.clone());
                self.screener.exact_logits += (rows.len() * head.rows) as u64;
                rows.for_each(|row| found(self, row, ExactLogits::All(scratch.row(row))));
                continue;
            };
            self.estimate(scratch, screen, x, rows.clone(), planes);
            self.find_thresholds(scratch, head, x, rows.clone(), count);
            self.compute_left(scratch, head, screen, x, rows.clone(), planes);
            for row in rows {
                if self.screener.thresholds[row - first].is_some() {
                    self.screener.gather(row - first, head.rows);
                    let (tokens, logits) =
                        (std::mem::take(&mut self.screener.tokens), std::mem::take(&mut self.screener.logits));
                    found(self, row, ExactLogits::Some(&tokens, &logits));
                    (self.screener.tokens, self.screener.logits) = (tokens, logits);
                } else {
                    self.all_logits(scratch, head, x, row..row + 1);
                    self.screener.exact_logits += head.rows as u64;
                    found(self, row, ExactLogits::All(scratch.row(row)));
                }
            }
        }
    }

    /// The estimates and upper bounds of some rows' logits.
    fn estimate(&mut self, out: &mut Tensor, screen: &Screen, x: &Tensor, rows: Range<usize>, planes: Planes) {
        let size = *screen.size();
        assert_eq!(out.cols, size.rows);
        self.counts.read(Kernel::Estimate, size.bytes_read(planes));
        let Screener { outliers, others, y, probes, uppers, .. } = &mut self.screener;
        probes.clear();
        probes.resize(rows.len(), None);
        let made = (Disjoint::new(outliers), Disjoint::new(others), Disjoint::new(y), Disjoint::new(probes));
        self.workers.share(rows.len() * size.others, rows.len(), &|place, _| {
            let part = |len: usize| place * len..(place + 1) * len;
            // SAFETY: each place is one task.
            let (outliers, others, y, probe) = unsafe {
                let (outliers, others, y, probes) = &made;
                let (outliers, others) = (outliers.cut(part(size.outliers)), others.cut(part(2 * size.others)));
                (outliers, others, y.cut(part(size.cols)), &mut probes.cut(part(1))[0])
            };
            let (high, low) = others.split_at_mut(size.others);
            *probe = Probe::new(screen, Scratch { outliers, high, low, y }, x.row(rows.start + place));
        });
        let integers = Integers {
            outliers: &outliers[..rows.len() * size.outliers],
            others: &others[..2 * rows.len() * size.others],
        };
        let (kernels, probes) = (self.kernels, &probes[..]);
        let bounds = Bounds {
            estimates: Disjoint::new(out.rows_mut(rows.end)),
            first: rows.start,
            uppers: Disjoint::new(uppers),
        };
        self.workers.share(rows.len() * size.rows * size.others, size.strips(), &|strip, _| {
            // SAFETY: each strip is one task, and both outputs are borrowed for this run.
            unsafe { screen.estimate(kernels, &bounds, integers, probes, planes, strip) };
        });
    }

    /// The `count`-th largest logit among those of the tokens of the largest estimates; none where the bounds say nothing.
    fn find_thresholds(&mut self, estimates: &Tensor, head: &Matrix, x: &Tensor, rows: Range<usize>, count: usize) {
        let dense = head.dense().expect("a head with a screen is dense");
        let room = (2 * count).min(head.rows);
        let (kernels, cols) = (self.kernels, x.cols);
        let Screener { rankings, largest, probes, thresholds, exact_logits, .. } = &mut self.screener;
        let largest = &mut largest[..rows.len() * room];
        largest.fill(None); // where a task is left out, as the threads were told to stop
        let (of_rows, found) = (Disjoint::new(rankings), Disjoint::new(largest));
        self.workers.share(rows.len() * head.rows, rows.len(), &|place, _| {
            // SAFETY: each place is one task.
            let (ranking, found) =
                unsafe { (&mut of_rows.cut(place..place + 1)[0], found.cut(place * room..(place + 1) * room)) };
            ranking.begin(room);
            ranking.offer_all(estimates.row(rows.start + place));
            let best = ranking.finish().iter().map(|candidate| Some((candidate.id, candidate.logit)));
            found.iter_mut().zip(best.chain(std::iter::repeat(None))).for_each(|(found, best)| *found = best);
        });
        self.counts.read(Kernel::DotDense, largest.len() * (head.bytes / head.rows.max(1)));
        *exact_logits += largest.iter().flatten().count() as u64;
        let found = Disjoint::new(largest);
        self.workers.share(rows.len() * room * cols, (rows.len() * room).div_ceil(TASK_ROWS), &|task, _| {
            let places = task * TASK_ROWS..(rows.len() * room).min((task + 1) * TASK_ROWS);
            // SAFETY: each place belongs to one task.
            for (place, found) in places.clone().zip(unsafe { found.cut(places) }) {
                let Some((token, logit)) = found else { continue };
                let row = DenseRow::new(dense, *token as usize);
                kernels.dot_dense(std::slice::from_mut(logit), row, x.row(rows.start + place / room));
            }
        });
        let of_rows = thresholds.iter_mut().zip(rankings).zip(largest.chunks_exact(room)).zip(&*probes);
        for (((threshold, ranking), largest), probe) in of_rows {
            ranking.begin(count);
            largest.iter().flatten().for_each(|&(token, logit)| ranking.offer(token, logit));
            *threshold = ranking.finish().get(count - 1).map(|worst| worst.logit).filter(|_| probe.is_some());
        }
    }

    /// Leaves in the running the tokens whose upper bounds reach their row's threshold, and computes their logits.
    fn compute_left(
        &mut self,
        estimates: &Tensor,
        head: &Matrix,
        screen: &Screen,
        x: &Tensor,
        rows: Range<usize>,
        planes: Planes,
    ) {
        let dense = head.dense().expect("a head with a screen is dense");
        let (kernels, size) = (self.kernels, screen.size());
        let Screener { others, probes, uppers, left, thresholds, exact_logits, pause, .. } = &mut self.screener;
        let (others, probes, thresholds) = (&others[..], &probes[..], &thresholds[..rows.len()]);
        let (uppers, left) = (Disjoint::new(uppers), Disjoint::new(left));
        let [refined, open, exact_rows, exact] = [const { AtomicUsize::new(0) }; 4];
        self.workers.share(rows.len() * size.rows, size.rows.div_ceil(TASK_TOKENS), &|task, _| {
            let tokens = task * TASK_TOKENS..size.rows.min((task + 1) * TASK_TOKENS);
            // SAFETY: each token belongs to one task.
            let left = unsafe { left.cut(tokens.clone()) };
            // SAFETY: as above.
            let upper = |place: usize| unsafe { uppers.cut(place..place + 1) };
            left.fill(0);
            for (place, threshold) in thresholds.iter().enumerate() {
                let Some(threshold) = threshold else { continue };
                let of_row = place * size.rows;
                // SAFETY: as above.
                let uppers = unsafe { uppers.cut(of_row + tokens.start..of_row + tokens.end) };
                left.iter_mut().zip(&*uppers).for_each(|(left, upper)| *left |= u16::from(upper >= threshold) << place);
            }
            let mut counts = [0; 4];
            let mut now = first_left(left, 0);
            // Two further on: what is read of a row alone comes from memory in about that time.
            let mut soon = (0..2).fold(now, |place, _| first_left(left, place? + 1));
            while let Some(at) = now {
                let token = tokens.start + at;
                let soon_token = soon.map_or(token, |place| tokens.start + place);
                now = first_left(left, at + 1);
                soon = soon.and_then(|place| first_left(left, place + 1));
                let left = &mut left[at];
                if planes == Planes::First {
                    counts[0] += 1;
                    counts[1] += left.count_ones() as usize;
                    for place in ones(*left) {
                        let (Some(probe), Some(threshold)) = (&probes[place], thresholds[place]) else { continue };
                        let digits = &others[2 * place * size.others..][..2 * size.others];
                        let estimate = estimates.row(rows.start + place)[token];
                        if screen.refined(kernels, (token, soon_token), estimate, digits, probe) < threshold {
                            *left &= !(1 << place);
                        }
                    }
                }
                let row = DenseRow::new(dense, token);
                let mut logits = [0.0; TOGETHER];
                for run in runs(*left) {
                    let logits = &mut logits[..run.len()];
                    let first = (rows.start + run.start) * x.cols;
                    kernels.dot_dense(logits, row, &x.values[first..][..run.len() * x.cols]);
                    run.zip(logits).for_each(|(place, logit)| upper(place * size.rows + token)[0] = *logit);
                }
                counts[2] += usize::from(*left != 0);
                counts[3] += left.count_ones() as usize;
            }
            for (count, of_task) in [&refined, &open, &exact_rows, &exact].into_iter().zip(counts) {
                count.fetch_add(of_task, Ordering::Relaxed);
            }
        });
        let (exact, bounds) = (exact.into_inner(), rows.len() * size.rows);
        *exact_logits += exact as u64;
        if planes == Planes::First {
            // All logits of a row without a threshold are computed, too.
            let unbounded = thresholds.iter().filter(|threshold| threshold.is_none()).count() * size.rows;
            let is_enough = open.into_inner() + unbounded <= bounds / MANY;
            let length = if is_enough { 0 } else { (2 * pause.length).clamp(1, LONGEST_PAUSE) };
            let meanwhile = (exact + unbounded <= bounds / MOST_EXACT).then_some(Planes::Both);
            *pause = Pause { left: length, length, meanwhile };
            self.counts.read(Kernel::Refine, refined.into_inner() * size.fine_row());
        }
        self.counts.read(Kernel::DotDense, exact_rows.into_inner() * (head.bytes / head.rows.max(1)));
    }
}

/// The first token, from a place on, that a row has left in the running.
fn first_left(left: &[u16], from: usize) -> Option<usize> {
    Some(from + left[from..].iter().position(|left| *left != 0)?)
}

/// The places of the bits that are one.
fn ones(bits: u16) -> impl Iterator<Item = usize> {
    (0..TOGETHER).filter(move |place| bits >> place & 1 == 1)
}

/// The places of the bits that are one, neighbours together.
fn runs(mut bits: u16) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        let start = bits.trailing_zeros();
        let end = start + bits.checked_shr(start)?.trailing_ones();
        bits &= u16::MAX.checked_shl(end).unwrap_or(0);
        Some(start as usize..end as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_found_alone_and_with_their_neighbours() {
        for bits in 0..=u16::MAX {
            let places: Vec<usize> = ones(bits).collect();
            assert_eq!(places.iter().fold(0, |bits, place| bits | 1 << place), bits);
            assert_eq!(runs(bits).flatten().collect::<Vec<_>>(), places);
            assert!(runs(bits).zip(runs(bits).skip(1)).all(|(run, next)| run.end < next.start), "{bits:b}");
        }
    }
}
