//! A copy of a head in few bits that bounds every logit: a token is chosen by computing exactly only the logits that the bounds
//! cannot rule out. The choice is that of the exact head, always; here is why.
//!
//! # The copy
//!
//! All logits share `x·w̄` for whatever vector w̄, so a row w of the head is kept as `v = w − w̄`, with w̄ near the mean of all rows:
//! heads as they are trained lie around a mean that is larger than what sets rows apart. Some columns, the *outliers*, where hidden
//! vectors and rows are large, have 8 bits: `v_j = t·o_j + e_j`, t a scale of the row. The others have the row's scale s and 4 bits, with
//! 4 more in a second plane: `v_j = s·16·c_j + e_j = s·(16·c_j + f_j) + g_j`. Of e, the 4 bits' residual, the parts along a few
//! directions U (of hidden vectors that were seen) are kept too: `U'e`. None of w̄, the outliers and U needs to be any good for the
//! bounds to hold: they decide only how many rows are left.
//!
//! # The bounds
//!
//! The hidden vector is `x = z + d`, and d a residual. In the outliers `z = a·p`, in the other columns `z = b·(h + l/r)`: integers p, two
//! digits h and l to the base r, and factors. With `c = U'x` (any numbers would do) and `y = x − Uc`,
//!
//! `x·w = x·w̄ + t·(z·o) + s·(z·16c) + d·(v − e) + c·U'e + y·e`,
//!
//! of which the estimate is the first, the second and third, whose sums of integers are exact, and `c·U'e`. The others are bounded:
//!
//! * Cauchy and Schwarz: `|d·(v − e)| ≤ 2.2·‖d‖·‖v‖`, as no code stands for more than 16/7.49 of its value.
//! * `y·e` is split. In the m outliers `|e_j| ≤ 0.51·t`: codes are rounded to the nearest, and what float rounding adds to the half,
//!   127·2^-22, is far below 0.01; so their share is at most `0.51·t·√m·‖y_outliers‖`. The other columns are split once more by
//!   the size of y: in the few large ones `|e_j| ≤ 8.51·s`, for the others Cauchy and Schwarz again:
//!   `8.51·s·Σ_large|y_j| + ‖y_small‖·‖e‖`. This holds for any split; one with large columns beyond √12 times the root mean square
//!   of the others is near the smallest bound.
//! * Of the rows that this leaves, both planes are read: as above with `s·(16c + f)`, g instead of e, 0.51 instead of 8.51, and x instead
//!   of y.
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
//! * Norms and sums of a row and of the hidden vector are sums in f64 of at most 2^20 terms without a sign: they are
//!   wrong by 2^-30 of themselves; those of g are added in f32, 24 at a time, and their norm is wrong by 2^-19.
//! * v, e and g are differences in f32: together they are wrong by vectors of norms below 2^-21·‖v‖. d and y are differences in f64, and y
//!   is rounded to f32 (2^-24 of itself). `2^-20·(‖x‖ + Σ|c_i|·‖U_i‖)·‖v‖` is added for all of these, as that is above ‖y‖, too.
//! * U'e is computed by [`Kernels::inner`], each product and each sum rounded once, so `|c·δ| ≤ γ·Σ|c_i|·‖U_i‖·‖e‖` is added, where `‖U_i‖ ≤ 1.01`, and `‖e‖` of all columns is that of the
//!   others and at most `0.51·t·√m` more (U was brought to length 1); and 2^-126 for each `|c_i|`, as products may underflow there.
//! * `x·w̄` is a sum in f64: wrong by 2^-30·‖x‖·‖w̄‖, which is added.
//! * The error of a row, `B·‖e‖ + A·s + O·t + C·‖v‖ + M`, is computed in f32: seven roundings upon each term, three more in the making
//!   of its factors, 2^-20.6 in all. [`SLACK`] is added twice, to the factors of the row and of the hidden vector: 2^-17.
//! * The estimate is made in f64, from sums of integers (what that rounds is far below what is added for v), and rounded once to f32, once more with the second plane, and once when the error is added: 2^-22 of its
//!   size and 2^-24 of the error's. 2^-20 of its size is added.
//! * What underflows in f32 is below 2^-126 for each operation: 2^-100 is added.
//!
//! # The choice
//!
//! The k rows of the largest estimates, and as many more, are computed exactly; let T be the k-th largest of these logits. At least k
//! logits are T or more, so a row whose upper bound is below T is none of the k best, whatever equals there are. The rows that are left
//! are computed by `dot_dense`: the same bits as without a screen.

mod growth;
mod probe;
mod rows;

pub(crate) use growth::Growth;
pub(crate) use probe::{Probe, Scratch};

use std::ops::Range;

use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::bounds::{BoundedRows, DIRECTIONS, GROUP, RowBounds, Sums};
use crate::cpu::kernels::{Kernels, NibbleRows};
use crate::cpu::pages::Area;
use crate::format::ternary::padded;
use crate::format::{Dense, Values};

/// What factors are enlarged by, against rounding: 1 + 2^-18.
const SLACK: f64 = 1.0 + 1.0 / (1 << 18) as f64;
/// The largest norm of a row or a hidden vector that is bounded; the smallest of a hidden vector is its reciprocal.
const LARGEST_NORM: f64 = 1e15;
/// Bytes of codes that a task reads.
const STRIP_BYTES: usize = 64 << 10;
/// Columns of which one is an outlier.
const PER_OUTLIER: usize = 25;
/// Rows over which several hidden vectors pass some at a time, while both stay in the nearest cache. One alone passes over one row after
/// the other: reading in one stream is worth more.
const NEAR: usize = 4;
/// Hidden vectors that share a pass over the copy.
pub(crate) const TOGETHER: usize = 16;
/// Most columns of a head: sums of products of as many integers fit 32 bits.
const MOST_COLUMNS: usize = 1 << 20;
/// Outliers come in lines of so many.
const LINE: usize = 64;

/// How large the copy of a head is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Columns with 8 bits at once, in whole lines; those beyond `cols` are zeros.
    pub(crate) outliers: usize,
    /// `cols` in whole blocks, zeros beyond `cols`; outliers are zeros.
    pub(crate) others: usize,
}

impl Size {
    fn of(head: &Dense) -> Self {
        let (rows, cols) = (head.rows(), head.cols());
        Self { rows, cols, outliers: cols.div_ceil(PER_OUTLIER).next_multiple_of(LINE), others: padded(cols) }
    }

    /// Bytes of a row that are read of every row: outliers, then the first plane.
    fn coarse_row(&self) -> usize {
        self.outliers + self.others / 2
    }

    /// Bytes of a row of the second plane.
    pub(crate) fn fine_row(&self) -> usize {
        self.others / 2
    }

    /// Bytes that an estimate of all rows reads.
    pub(crate) fn bytes_read(&self, planes: Planes) -> usize {
        self.rows * (self.coarse_row() + if planes == Planes::Both { self.fine_row() } else { 0 })
    }

    /// Bytes of the copy and what stands beside it.
    fn bytes(&self) -> usize {
        let row = (5 + DIRECTIONS) * size_of::<f32>();
        self.rows * (self.coarse_row() + self.fine_row() + row) + (1 + DIRECTIONS) * self.cols * size_of::<f32>()
    }

    fn strip_rows(&self) -> usize {
        (STRIP_BYTES / self.coarse_row()).max(1)
    }

    /// Tasks of an estimate.
    pub(crate) fn strips(&self) -> usize {
        self.rows.div_ceil(self.strip_rows())
    }
}

/// The copy of a head `[rows, cols]`.
#[derive(Debug)]
pub(crate) struct Screen {
    size: Size,
    places: Vec<u32>,         // the columns of the outliers
    coarse: Area,             // [rows, coarse_row]: the o, each an i8, then the c
    fine: Area,               // [rows, fine_row]: the f
    mean: Vec<f32>,           // [cols], w̄
    directions: Vec<f32>,     // [DIRECTIONS, cols], U
    along: Vec<f32>,          // [DIRECTIONS, rows], the U'e
    scales: Vec<f32>,         // [rows], the s
    outlier_scales: Vec<f32>, // [rows], the t
    residuals: Vec<f32>,      // [rows], at least ‖e‖ of the other columns
    fine_residuals: Vec<f32>, // [rows], at least ‖g‖ of the other columns
    norms: Vec<f32>,          // [rows], at least ‖w‖ and ‖v‖
}

/// What is read of every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planes {
    /// The outliers and the first plane; the second only of rows that are left.
    First,
    /// Everything, where the first plane leaves so many rows that they are better read in one stream.
    Both,
}

/// Estimates and upper bounds of some hidden vectors' logits: `[_, rows]` each, the first vector's in row `first`, and in row 0.
pub(crate) struct Bounds<'a> {
    pub(crate) estimates: Disjoint<'a, f32>,
    pub(crate) first: usize,
    pub(crate) uppers: Disjoint<'a, f32>,
}

/// The integers of some hidden vectors.
#[derive(Clone, Copy)]
pub(crate) struct Integers<'a> {
    pub(crate) outliers: &'a [i16], // [vectors, size.outliers]
    pub(crate) others: &'a [i8],    // [vectors, 2, size.others], the h and the l
}

impl Screen {
    pub(crate) fn size(&self) -> &Size {
        &self.size
    }

    /// Whether a head is stored in more than 8 bits, so that the copy is smaller: not where its rows are shorter than half a
    /// block.
    pub(crate) fn suits(head: &Dense) -> bool {
        !matches!(head.values(), Values::Int8 { .. }) && padded(head.cols()) <= (2 * head.cols()).min(MOST_COLUMNS)
    }

    /// The bounds of one strip, for some hidden vectors. Those without a probe get some numbers or other.
    ///
    /// # Safety
    /// No two calls with the same `strip` may run at the same time, nor anything else that uses `bounds`.
    pub(crate) unsafe fn estimate(
        &self,
        kernels: &dyn Kernels,
        bounds: &Bounds<'_>,
        integers: Integers<'_>,
        probes: &[Option<Probe>],
        planes: Planes,
        strip: usize,
    ) {
        let size = self.size;
        let digits = 2 * probes.len();
        let near = if probes.len() == 1 { 1 } else { NEAR };
        let mut of_outliers = [0i32; TOGETHER * NEAR]; // [row, vector]
        let mut of_planes = [[0i32; 2 * TOGETHER * NEAR]; 2]; // [row, vector, digit]
        let [first, second] = &mut of_planes;
        // The sums of some rows at a time: what is made of them is a loop of vectors.
        let mut products = [Sums::NONE; TOGETHER];
        let strip = strip * size.strip_rows()..size.rows.min((strip + 1) * size.strip_rows());
        for begin in strip.clone().step_by(GROUP) {
            let rows = begin..strip.end.min(begin + GROUP);
            for begin in rows.clone().step_by(near) {
                let near = begin..rows.end.min(begin + near);
                for (row, sums) in near.clone().zip(of_outliers.chunks_exact_mut(probes.len())) {
                    let outliers = &self.coarse[row * size.coarse_row()..][..size.outliers];
                    kernels.dot_bytes(sums, bytemuck::cast_slice(outliers), integers.outliers);
                }
                let sums = ..near.len() * digits;
                kernels.dot_nibbles(&mut first[sums], self.coarse_codes(near.clone()), integers.others);
                if planes == Planes::Both {
                    kernels.dot_nibbles(&mut second[sums], self.fine_codes(near.clone()), integers.others);
                }
                let of_rows = of_outliers.chunks_exact(probes.len());
                let of_rows = of_rows.zip(first.chunks_exact(digits).zip(second.chunks_exact(digits)));
                for (place, (outliers, (first, second))) in
                    (near.start - rows.start..near.end - rows.start).zip(of_rows)
                {
                    let of_planes = first.as_chunks::<2>().0.iter().zip(second.as_chunks::<2>().0);
                    let of_probes = probes.iter().zip(outliers.iter().zip(of_planes));
                    for ((probe, (outliers, (first, second))), sums) in of_probes.zip(&mut products) {
                        let Some(probe) = probe else { continue };
                        let of_digit = |digit: usize| {
                            let [first, second] = [first, second].map(|sums| sums[digit] - probe.eights[digit]);
                            16 * first + if planes == Planes::Both { second } else { 0 }
                        };
                        sums.outliers[place] = *outliers;
                        (sums.high[place], sums.low[place]) = (of_digit(0), of_digit(1));
                    }
                }
            }
            let bounded = self.bounded(rows.clone(), planes);
            for (i, (probe, sums)) in probes.iter().zip(&products).enumerate() {
                let Some(probe) = probe else { continue };
                let place = (bounds.first + i) * size.rows;
                // SAFETY: the rows of this strip are this call's alone.
                let out = unsafe {
                    RowBounds {
                        estimates: bounds.estimates.cut(place + rows.start..place + rows.end),
                        uppers: bounds.uppers.cut(i * size.rows + rows.start..i * size.rows + rows.end),
                    }
                };
                let shares = if planes == Planes::Both { &probe.fine } else { &probe.coarse };
                kernels.bound(out, sums, &bounded, &probe.factors, shares);
            }
        }
    }

    /// What is known of some rows, beside the planes that are read.
    fn bounded(&self, rows: Range<usize>, planes: Planes) -> BoundedRows<'_> {
        let both = planes == Planes::Both;
        let along = |part: usize| &self.along[part * self.size.rows..][rows.clone()];
        BoundedRows {
            scales: &self.scales[rows.clone()],
            outlier_scales: &self.outlier_scales[rows.clone()],
            residuals: &(if both { &self.fine_residuals } else { &self.residuals })[rows.clone()],
            norms: &self.norms[rows.clone()],
            along: (!both).then(|| std::array::from_fn(along)),
        }
    }

    fn coarse_codes(&self, rows: Range<usize>) -> NibbleRows<'_> {
        let codes = &self.coarse[rows.start * self.size.coarse_row() + self.size.outliers..];
        NibbleRows::new(codes, rows.len(), self.size.fine_row(), self.size.coarse_row())
    }

    fn fine_codes(&self, rows: Range<usize>) -> NibbleRows<'_> {
        let len = self.size.fine_row();
        NibbleRows::new(&self.fine[rows.start * len..], rows.len(), len, len)
    }

    /// The upper bound of one row's logit for one hidden vector, by both planes. `estimate` is that of the first; `others: [2, size.others]`
    /// are both digits. The second plane of the row `soon`, which is asked for before long, is fetched meanwhile.
    pub(crate) fn refined(
        &self,
        kernels: &dyn Kernels,
        (row, soon): (usize, usize),
        estimate: f32,
        others: &[i8],
        probe: &Probe,
    ) -> f32 {
        let mut sums = [0i32; 2];
        let codes = self.fine_codes(row..row + 1).before(self.fine_codes(soon..soon + 1).row(0));
        kernels.dot_nibbles(&mut sums, codes, others);
        let [high, low] = std::array::from_fn(|digit| sums[digit] - probe.eights[digit]);
        let more = f64::from(self.scales[row]) * probe.factors.of_digits(high, low);
        let along = |part: usize| f64::from(self.along[part * self.size.rows + row]) * probe.factors.parts[part];
        let first = f64::from(estimate) - (0..DIRECTIONS).map(along).sum::<f64>();
        let refined = (first + more) as f32;
        // The estimate that it began from was rounded by its own size.
        let size = refined.abs().max(estimate.abs());
        let (residual, norm) = (self.fine_residuals[row], self.norms[row]);
        refined + probe.fine.error(residual, self.scales[row], self.outlier_scales[row], norm, size)
    }
}

#[cfg(test)]
mod tests;
