//! The head: exact logits of all tokens, or only of those that a screen leaves in the running. What is left is chosen in
//! the order of the tokens, so that the answer is the same for any number of threads and with or without a screen.

mod screener;

use std::ops::Range;

pub(super) use screener::Screener;

use crate::backend::{Backend, NO_TOKEN};
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::{DenseRow, Kernels};
use crate::cpu::matrix::Matrix;
use crate::cpu::screen::{Bounds, Growth, Integers, Planes, Probe, Scratch, Screen, TOGETHER};
use crate::cpu::tensor::Tensor;
use crate::cpu::{Cpu, Screening};
use crate::ranking::Candidate;

/// The fewest bytes of a head in f16 that are screened by default: with smaller ones, making the probe and the bounds costs
/// what reading half as much saves. Measured on a Sapphire Rapids VM of two cores (2026-11-22), widths of 512 to 2560, AVX2
/// and AVX-512 VNNI, one and two threads: of the exact head's time, screening takes, where the head stays in a cache, 0.77
/// to 1.63 at 1 MiB, 0.72 to 1.13 at 2 MiB, 0.47 to 0.83 at 4 MiB, 0.53 to 0.69 at 8 MiB; where it comes from memory, 0.71
/// to 0.93 at 1 MiB and 0.62 to 0.69 at 4 MiB. (With one plane of 8 bits; two of 4 read less.)
const WORTH_SCREENING: usize = 4 << 20;

/// The largest share of rows that is computed exactly one by one, 1 in this many: beyond it, all are read in one stream.
/// Measured as above, of the exact head's time, with 64 MiB from memory and without this limit: 0.70 where an eighth of the
/// rows is left, 0.90 with 0.25, 0.95 with 0.30, 1.10 with 0.35, 1.5 with all; 8 MiB in a cache break even near 0.28. With
/// the limit, the worst case, all logits equal, takes about 1.5 times the exact head's time: both planes are read, then all of the head.
const FEW: usize = 4;

/// The largest share of rows that the first plane may leave, 1 in this many: beyond it, reading them here and there takes longer than
/// reading both planes in one stream.
const MANY: usize = 3;
/// Steps that read both planes, until the first is tried alone again.
const STEPS_OF_BOTH: u32 = 32;

/// Rows that a task computes exactly.
const TASK_ROWS: usize = 8;

/// The exact logits of one row of a step.
pub(super) enum ExactLogits<'a> {
    /// Of all tokens.
    All(&'a [f32]),
    /// Of some tokens, in ascending order: all that can be among the best that were asked for, or no numbers. At least one.
    Some(&'a [u32], &'a [f32]),
}

impl ExactLogits<'_> {
    /// The token of the largest logit, as [`Backend::argmax`](crate::backend::Backend::argmax) of them all would say.
    pub(super) fn best(&self, kernels: &dyn Kernels) -> u32 {
        let (ExactLogits::All(logits) | ExactLogits::Some(_, logits)) = *self;
        let largest = kernels.largest(logits).filter(|_| self.are_finite(kernels));
        match *self {
            ExactLogits::All(_) => largest.map_or(NO_TOKEN, |place| place as u32),
            ExactLogits::Some(tokens, _) => largest.map_or(NO_TOKEN, |place| tokens[place]),
        }
    }

    /// Whether all logits of the row are numbers. A screen leaves whatever may be none in the running.
    fn are_finite(&self, kernels: &dyn Kernels) -> bool {
        let (ExactLogits::All(logits) | ExactLogits::Some(_, logits)) = *self;
        kernels.absmax(logits).is_finite()
    }
}

impl Cpu {
    /// Adds a screen to a head that gains by one; it is made when it is needed.
    pub(super) fn add_screen(&self, head: &mut Matrix) {
        let Some(dense) = head.dense().filter(|dense| Screen::suits(dense)) else { return };
        let wanted = match self.screening {
            Screening::Never => false,
            Screening::WhereFaster => dense.rows() * dense.cols() * 2 >= WORTH_SCREENING,
            Screening::Always => true,
        };
        if wanted {
            head.screen = Some(Growth::new(dense));
        }
    }

    /// The exact logits of some rows.
    pub(super) fn all_logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor, rows: Range<usize>) {
        self.counts.read(Kernel::DotDense, head.bytes);
        self.dense_rows(out, head, x, rows);
    }

    /// The products of some rows with dense weights.
    pub(super) fn dense_rows(&self, out: &mut Tensor, head: &Matrix, x: &Tensor, rows: Range<usize>) {
        assert_eq!((out.cols, head.cols), (head.rows, x.cols));
        let kernels = self.kernels;
        let out = Disjoint::new(out.rows_mut(rows.end));
        self.workers.share(rows.len() * head.rows * head.cols, head.strips(), &|strip, _| {
            // SAFETY: each strip is one task, and `out` is borrowed for this run.
            unsafe { head.logits(kernels, &out, x, rows.clone(), strip) };
        });
    }

    /// The logits of some rows by a ternary head: a product like those of linear layers.
    pub(super) fn ternary_logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor, rows: usize) {
        let mut input = self.head_input.take().expect("the head was prepared");
        assert!(rows <= x.values.len() / x.cols && x.cols == input.cols);
        let (kernels, split) = (self.kernels, input.split());
        self.workers.share(rows * x.cols, rows, &|row, _| {
            // SAFETY: each row is one task.
            unsafe { split.row(row) }.quantize(kernels, x.row(row));
        });
        self.product_of(rows, out, head, &input, false, true);
        self.head_input = Some(input);
    }

    /// Hands over, row by row, exact logits among which are the `count` largest. `scratch` is like `logits`' `out`.
    pub(super) fn enough_logits(
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
            let planes = if self.screener.steps_of_both > 0 { Planes::Both } else { Planes::First };
            self.screener.steps_of_both = self.screener.steps_of_both.saturating_sub(1);
            self.estimate(scratch, screen, x, rows.clone(), planes);
            for row in rows {
                if self.screen(head, screen, x.row(row), row - first, planes, scratch.row(row), count) {
                    let (left, logits) =
                        (std::mem::take(&mut self.screener.left), std::mem::take(&mut self.screener.logits));
                    found(self, row, ExactLogits::Some(&left, &logits[..left.len()]));
                    (self.screener.left, self.screener.logits) = (left, logits);
                } else {
                    self.all_logits(scratch, head, x, row..row + 1);
                    self.screener.exact_logits += head.rows as u64;
                    found(self, row, ExactLogits::All(scratch.row(row)));
                }
            }
        }
    }

    /// Finds the tokens that can be among the `count` best, and their logits, from the estimates of one row, which is the `place`-th of
    /// those estimated together. False if they are too many, or unknown.
    #[expect(clippy::too_many_arguments, reason = "a row of a head, of hidden vectors and of estimates")]
    fn screen(
        &mut self,
        head: &Matrix,
        screen: &Screen,
        x: &[f32],
        place: usize,
        planes: Planes,
        estimates: &[f32],
        count: usize,
    ) -> bool {
        let Some(probe) = self.screener.probes[place] else { return false };
        // The threshold: the `count`-th largest logit of the tokens of the largest estimates.
        self.screener.ranking.begin(2 * count);
        self.screener.ranking.offer_all(estimates);
        let Screener { left, ranking, .. } = &mut self.screener;
        left.clear();
        left.extend(ranking.finish().iter().map(|candidate| candidate.id));
        self.compute_left(head, x);
        let Screener { left, logits, ranking, .. } = &mut self.screener;
        ranking.begin(count);
        left.iter().zip(&*logits).for_each(|(&id, &logit)| ranking.offer(id, logit));
        let Some(threshold) = ranking.finish().get(count - 1).map(|worst| worst.logit) else { return false };
        self.screener.leave(place * head.rows..(place + 1) * head.rows, threshold);
        if planes == Planes::First && self.screener.left.len() > 2 * count {
            if self.screener.left.len() > head.rows / MANY {
                self.screener.steps_of_both = STEPS_OF_BOTH;
            }
            self.refine(screen, &probe, place, estimates);
            let Screener { left, logits, .. } = &mut self.screener;
            let mut bounds = logits.iter();
            left.retain(|_| *bounds.next().expect("each has a bound") >= threshold);
        }
        let is_few = self.screener.left.len() <= head.rows / FEW;
        if is_few {
            self.compute_left(head, x);
        }
        is_few
    }

    /// The upper bounds of the tokens that are left, by both planes.
    fn refine(&mut self, screen: &Screen, probe: &Probe, place: usize, estimates: &[f32]) {
        let Screener { left, logits, others, digits, probes, .. } = &mut self.screener;
        let size = screen.size();
        self.counts.read(Kernel::Refine, left.len() * size.fine_row());
        let (kernels, left, out) = (self.kernels, &left[..], Disjoint::new(logits));
        let digits = &mut digits[..2 * size.others];
        for (digit, of_digit) in digits.chunks_exact_mut(size.others).enumerate() {
            of_digit.copy_from_slice(&others[(digit * probes.len() + place) * size.others..][..size.others]);
        }
        let others = &digits[..];
        self.workers.share(left.len() * size.others, left.len().div_ceil(TASK_ROWS), &|task, _| {
            for (place, &token) in left.iter().enumerate().skip(task * TASK_ROWS).take(TASK_ROWS) {
                // SAFETY: each place belongs to one task.
                let out = unsafe { out.cut(place..place + 1) };
                out[0] = screen.refined(kernels, token as usize, estimates[token as usize], others, probe);
            }
        });
    }

    /// Writes one row of what [`crate::backend::Backend::top`] says.
    pub(super) fn write_top(
        &mut self,
        tokens: &mut [u32],
        values: &mut Tensor,
        count: usize,
        row: usize,
        exact: ExactLogits<'_>,
    ) {
        if !exact.are_finite(self.kernels) {
            let places = row * values.cols..row * values.cols + count;
            tokens[places.clone()].fill(NO_TOKEN);
            return values.values[places].fill(f32::NAN);
        }
        let ranking = &mut self.screener.ranking;
        ranking.begin(count);
        match exact {
            ExactLogits::All(logits) => ranking.offer_all(logits),
            ExactLogits::Some(tokens, logits) => {
                tokens.iter().zip(logits).for_each(|(&id, &logit)| ranking.offer(id, logit))
            }
        }
        let best = ranking.finish();
        for place in 0..count {
            let Candidate { id, logit } = best.get(place).copied().unwrap_or(Candidate::NONE);
            let place = row * values.cols + place;
            (tokens[place], values.values[place]) = (id, logit);
        }
    }

    /// The estimates and upper bounds of some rows' logits.
    fn estimate(&mut self, out: &mut Tensor, screen: &Screen, x: &Tensor, rows: Range<usize>, planes: Planes) {
        let size = screen.size();
        assert_eq!(out.cols, size.rows);
        self.counts.read(Kernel::Estimate, size.bytes_read(planes));
        let Screener { outliers, others, y, probes, uppers, .. } = &mut self.screener;
        let (outliers, others) =
            (&mut outliers[..rows.len() * size.outliers], &mut others[..2 * rows.len() * size.others]);
        let (high, low) = others.split_at_mut(rows.len() * size.others);
        let of_rows = high.chunks_exact_mut(size.others).zip(low.chunks_exact_mut(size.others));
        probes.clear();
        for ((row, outliers), (high, low)) in rows.clone().zip(outliers.chunks_exact_mut(size.outliers)).zip(of_rows) {
            let scratch = Scratch { outliers, high, low, y: &mut y[..size.cols] };
            probes.push(Probe::new(screen, scratch, x.row(row)));
        }
        let integers = Integers { outliers, others };
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

    /// The exact logits of the tokens that are left, for one row.
    fn compute_left(&mut self, head: &Matrix, x: &[f32]) {
        let dense = head.dense().expect("a head with a screen is dense");
        let kernels = self.kernels;
        let Screener { left, logits, exact_logits, .. } = &mut self.screener;
        let (left, out) = (&left[..], Disjoint::new(logits));
        *exact_logits += left.len() as u64;
        self.counts.read(Kernel::DotDense, left.len() * (head.bytes / head.rows.max(1)));
        self.workers.share(left.len() * x.len(), left.len().div_ceil(TASK_ROWS), &|task, _| {
            for (place, &token) in left.iter().enumerate().skip(task * TASK_ROWS).take(TASK_ROWS) {
                // SAFETY: each place belongs to one task.
                let out = unsafe { out.cut(place..place + 1) };
                kernels.dot_dense(out, DenseRow::new(dense, token as usize), x);
            }
        });
    }
}
