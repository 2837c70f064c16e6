//! An int8 copy of a head, half the bytes of its f16, that bounds every logit: a token is chosen by computing exactly
//! only the logits that the bounds cannot rule out. The choice is that of the exact head, always; here is why.
//!
//! # The bounds
//!
//! Row r of the head is `w = s·q + e`: int8 codes q, a scale s = max|w|/127, and a residual e. The hidden vector is
//! `x = a·p + d`: integers p, a factor a, and a residual d. So
//!
//! `x·w = a·s·(p·q) + (a·p)·e + d·w`,
//!
//! of which the first term is the estimate, whose sum of integers is exact. The other two are bounded:
//!
//! * Cauchy and Schwarz: `|d·w| ≤ ‖d‖·‖w‖`.
//! * The columns are split by the size of p. In the few large ones `|e_j| ≤ 0.51·s`: codes are rounded to the nearest,
//!   and what float rounding adds to the half, 127·2^-22, is far below 0.01. For the others, Cauchy and Schwarz again:
//!   `|(a·p)·e| ≤ 0.51·s·a·Σ_large|p_j| + a·‖p_small‖·‖e‖`. This holds for any split; one with large columns beyond
//!   √12 times the root mean square of the others is near the smallest bound.
//!
//! The logit to be bounded is the one that [`Kernels::dot_dense`] computes. It converts weights exactly and rounds each
//! product and each sum once, to f32, in some order. Of n terms none passes more than n roundings, so the result differs
//! from x·w by at most `γ·Σ|x_j·w_j| ≤ γ·‖x‖·‖w‖` with `γ = n·u/(1 − n·u)`, u = 2^-24 (Higham, Accuracy and Stability of
//! Numerical Algorithms, section 3.1; n is taken larger by two than there are columns), and by 2^-150 for each product
//! that underflows, at most 2^-128 together as n ≤ 2^22. Nothing overflows, as `‖x‖` and `‖w‖` are at most 10^15: a row
//! beyond that, or with a NaN, has the bounds ±∞, and a hidden vector beyond it is not screened.
//!
//! # The rounding of the bounds themselves
//!
//! * Norms and sums of a row and of the hidden vector are sums in f64 of at most 2^22 terms without a sign: they are
//!   wrong by 2^-30 of themselves. `d` is a difference in f64, each value wrong by 2^-52·|x_j|, so `‖d‖` by 2^-51·‖x‖.
//!   `e` is a difference in f32: each value is wrong by 2^-24·|s·q_j| and 2^-24·|e_j|, so `‖e‖` by less than 2^-22·‖w‖.
//!   These shares are added.
//! * The error of a row, `B·‖e‖ + A·s + C·‖w‖`, is computed in f32: four roundings upon each term, three more in the making
//!   of its factors, 2^-21 in all. [`SLACK`] is added twice, to the factors of the row and of the hidden vector: 2^-19.
//! * The estimate is rounded once to f32, and once more when the error is added or subtracted: 2^-23 of its size and 2^-24
//!   of the error's. 2^-21 of its size is added.
//! * What underflows in f32 is below 2^-126 for each operation: [`FLOOR`] is 2^-100.
//!
//! # The choice
//!
//! Let T be the k-th largest lower bound. At least k logits are T or more, so a row whose upper bound is below T is none
//! of the k best, whatever equals there are. The rows that are left are computed by `dot_dense`: the same bits as without
//! a screen.

mod probe;

pub(crate) use probe::Probe;

use crate::allocation::{area, filled};
use crate::cpu::HugePages;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::{Kernels, TILE_ROWS};
use crate::cpu::pages::{Area, zeros};
use crate::cpu::workers::Workers;
use crate::error::Result;
use crate::format::ternary::padded;
use crate::format::{Dense, Values};

/// What factors are enlarged by, against rounding: 1 + 2^-20.
const SLACK: f64 = 1.0 + 1.0 / (1 << 20) as f64;
/// What every error is enlarged by, against underflow: 2^-100.
const FLOOR: f32 = f32::from_bits((127 - 100) << 23);
/// The largest norm of a row or a hidden vector that is bounded; the smallest of a hidden vector is its reciprocal.
const LARGEST_NORM: f64 = 1e15;
/// Bytes of codes that a task reads.
const STRIP_BYTES: usize = 64 << 10;

/// The int8 copy of a head `[rows, cols]`.
#[derive(Debug)]
pub(crate) struct Screen {
    rows: usize,
    stride: usize,       // `cols` in whole blocks; zeros beyond `cols`
    codes: Area,         // [rows, stride], the q, each an i8
    scales: Vec<f32>,    // [rows], the s
    residuals: Vec<f32>, // [rows], at least ‖e‖
    norms: Vec<f32>,     // [rows], at least ‖w‖
}

impl Screen {
    /// Whether a head is stored in more than 8 bits, so that the copy is smaller: not where its rows are shorter than half a
    /// block.
    pub(crate) fn suits(head: &Dense) -> bool {
        !matches!(head.values(), Values::Int8 { .. }) && padded(head.cols()) <= 2 * head.cols()
    }

    /// Makes the copy, with all threads.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    pub(crate) fn new(head: &Dense, kernels: &dyn Kernels, workers: &Workers, huge_pages: HugePages) -> Result<Self> {
        let (rows, cols, stride) = (head.rows(), head.cols(), padded(head.cols()));
        let mut screen = Self {
            rows,
            stride,
            codes: zeros(area(rows, stride)?, huge_pages)?,
            scales: filled(rows, 0.0)?,
            residuals: filled(rows, f32::INFINITY)?,
            norms: filled(rows, 0.0)?,
        };
        let (strips, strip_rows) = (screen.strips(), screen.strip_rows());
        let codes: &mut [i8] = bytemuck::cast_slice_mut(&mut screen.codes);
        let (codes, scales) = (Disjoint::new(codes), Disjoint::new(&mut screen.scales));
        let (residuals, norms) = (Disjoint::new(&mut screen.residuals), Disjoint::new(&mut screen.norms));
        workers.run(strips, &|strip, _| {
            let mut w = vec![0.0f32; cols];
            for row in strip * strip_rows..rows.min((strip + 1) * strip_rows) {
                head.row_to_f32(row, &mut w);
                let norm = kernels.sum_squares(&w).sqrt();
                if norm > LARGEST_NORM || norm.is_nan() {
                    continue; // a residual of infinity gives bounds of infinity
                }
                let absmax = kernels.absmax(&w);
                let scale = absmax / 127.0;
                // SAFETY: each row belongs to one strip, and each strip is one task.
                let codes = unsafe { codes.cut(row * stride..row * stride + cols) };
                kernels.round(codes, &w, 127.0 / absmax);
                for (w, &code) in w.iter_mut().zip(&*codes) {
                    *w -= scale * f32::from(code);
                }
                let residual = kernels.sum_squares(&w).sqrt() + norm / (1 << 22) as f64;
                // SAFETY: as above.
                unsafe {
                    scales.cut(row..row + 1)[0] = scale;
                    residuals.cut(row..row + 1)[0] = (residual * SLACK) as f32 + f32::MIN_POSITIVE;
                    norms.cut(row..row + 1)[0] = (norm * SLACK) as f32;
                }
            }
        });
        Ok(screen)
    }

    /// Bytes of the copy and what stands beside it.
    pub(crate) fn bytes(&self) -> u64 {
        (self.codes.len() + 3 * size_of_val(&self.scales[..])) as u64
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Integers of a hidden vector, the padding included.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    fn strip_rows(&self) -> usize {
        (STRIP_BYTES / self.stride).max(1)
    }

    /// Tasks of an estimate.
    pub(crate) fn strips(&self) -> usize {
        self.rows.div_ceil(self.strip_rows())
    }

    /// The estimates of one strip, for some rows of hidden vectors: `out: [_, self.rows]`, those of `p[i]` go to row
    /// `first + i`. Rows without a probe get some number or other.
    ///
    /// # Safety
    /// No two calls with the same `strip` may run at the same time, nor anything else that uses `out`.
    pub(crate) unsafe fn estimate(
        &self,
        kernels: &dyn Kernels,
        out: &Disjoint<'_, f32>,
        p: &[i16],
        probes: &[Option<Probe>],
        first: usize,
        strip: usize,
    ) {
        let mut sums = [0i32; TILE_ROWS];
        let sums = &mut sums[..probes.len()];
        let (strip_rows, codes) = (self.strip_rows(), bytemuck::cast_slice::<u8, i8>(&self.codes));
        for row in strip * strip_rows..self.rows.min((strip + 1) * strip_rows) {
            kernels.dot_bytes(sums, &codes[row * self.stride..][..self.stride], p);
            for (i, (sum, probe)) in sums.iter().zip(probes).enumerate() {
                let factor = probe.map_or(0.0, |probe| probe.factor);
                let place = (first + i) * self.rows + row;
                // SAFETY: the rows of this strip are this call's alone.
                let out = unsafe { out.cut(place..place + 1) };
                out[0] = (factor * f64::from(self.scales[row]) * f64::from(*sum)) as f32;
            }
        }
    }

    /// Turns the estimates of all rows into bounds: the upper ones take their place.
    pub(crate) fn bound(&self, probe: &Probe, lowers: &mut [f32], uppers: &mut [f32]) {
        let Probe { of_residual, of_scale, of_norm, .. } = *probe;
        let of_estimate = 1.0 / (1 << 21) as f32;
        let constants = self.residuals.iter().zip(&self.scales).zip(&self.norms);
        for ((lower, upper), ((residual, scale), norm)) in lowers.iter_mut().zip(uppers).zip(constants) {
            let estimate = *upper;
            let error =
                of_residual * residual + of_scale * scale + of_norm * norm + FLOOR + estimate.abs() * of_estimate;
            (*lower, *upper) = (estimate - error, estimate + error);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::KernelSet;
    use crate::cpu::kernels::DenseRow;

    /// Bounds of one row, for each kernel set, against what the set computes and against the exact product.
    fn check(w: &[f32], x: &[f32]) -> Result<(), TestCaseError> {
        let bytes: Vec<u8> = w.iter().flat_map(|v| v.to_le_bytes()).collect();
        let head = Dense::new(1, w.len(), Values::F32(bytes.into())).expect("the sizes fit");
        for kernels in KernelSet::available().iter().filter_map(|set| set.table()) {
            let screen = Screen::new(
                &head,
                kernels,
                &Workers::start(1, kernels).expect("it starts no threads"),
                HugePages::WhereGiven,
            )
            .expect("it is small");
            let mut p = vec![0; screen.stride()];
            let Some(probe) = Probe::new(&mut p, x) else { continue };
            let (mut lower, mut upper, mut computed) = ([0.0], [0.0], [0.0]);
            // SAFETY: one call.
            unsafe { screen.estimate(kernels, &Disjoint::new(&mut upper), &p, &[Some(probe)], 0, 0) };
            screen.bound(&probe, &mut lower, &mut upper);
            kernels.dot_dense(&mut computed, DenseRow::new(&head, 0), x);
            let exact: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            let (bounds, all) = (lower[0]..=upper[0], (lower[0], computed[0], exact, upper[0]));
            prop_assert!(bounds.contains(&computed[0]) || computed[0].is_nan() && upper[0] == f32::INFINITY, "{all:?}");
            let range = f64::from(lower[0])..=f64::from(upper[0]);
            prop_assert!(range.contains(&exact) || upper[0] == f32::INFINITY, "{all:?}");
        }
        Ok(())
    }

    /// Numbers of one size, or of very different sizes, with some zeros.
    fn numbers(len: usize) -> impl Strategy<Value = Vec<f32>> {
        (0i32..3, -40i32..30).prop_flat_map(move |(spread, size)| {
            let number = (-1.0f32..1.0, -20 * spread..=0, 0..8).prop_map(move |(value, exponent, zero)| {
                if zero == 0 { 0.0 } else { value * 2f32.powi(size + exponent) }
            });
            prop::collection::vec(number, len)
        })
    }

    proptest! {
        #[test]
        fn logits_lie_within_their_bounds(
            (w, x) in (1usize..700).prop_flat_map(|len| (numbers(len), numbers(len))),
        ) {
            check(&w, &x)?;
        }

        /// The bounds at their tightest: signs are such that all errors of one kind add up.
        #[test]
        fn logits_lie_within_their_bounds_when_all_errors_add_up(w in numbers(300), flip in any::<bool>()) {
            let largest = w.iter().fold(1e-5f32, |m, v| m.max(v.abs()));
            let scale = largest / 127.0;
            let residual = w.iter().map(|w| w - scale * (w / scale).round_ties_even());
            let x: Vec<f32> = residual.map(|e| if flip { -e } else { e }).collect();
            check(&w, &x)?;
            let signs: Vec<f32> = x.iter().map(|e| e.signum()).collect();
            check(&w, &signs)?;
        }
    }
}
