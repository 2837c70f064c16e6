//! The head: exact logits of all tokens, or only of those that a screen leaves in the running. What is left is chosen in
//! the order of the tokens, so that the answer is the same for any number of threads and with or without a screen.

mod screened;
mod screener;

use std::ops::Range;

pub(super) use screener::Screener;

use crate::backend::NO_TOKEN;
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::cpu::matrix::Matrix;
use crate::cpu::screen::{Growth, Screen};
use crate::cpu::tensor::Tensor;
use crate::cpu::{Cpu, Screening};
use crate::ranking::Candidate;

/// The fewest bytes of a head in f16 that are screened by default: with smaller ones, making the probe and the bounds costs
/// what reading half as much saves. Measured on a Sapphire Rapids VM of two cores (2026-11-22), widths of 512 to 2560, AVX2
/// and AVX-512 VNNI, one and two threads: of the exact head's time, screening takes, where the head stays in a cache, 0.77
/// to 1.63 at 1 MiB, 0.72 to 1.13 at 2 MiB, 0.47 to 0.83 at 4 MiB, 0.53 to 0.69 at 8 MiB; where it comes from memory, 0.71
/// to 0.93 at 1 MiB and 0.62 to 0.69 at 4 MiB. (With one plane of 8 bits; two of 4 read less.)
const WORTH_SCREENING: usize = 4 << 20;

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
}
