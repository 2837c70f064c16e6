//! Rows of weights of 4 bits times int8 activations, for the screened head: a line of weights becomes bytes on its way from memory, for
//! some activation rows at once. Written once; a set says in [`LineSums`] what its vectors do.

use std::array;

use super::NibbleRows;
use super::avx2::{prefetch_both, stream_ahead};
use super::bytes::LINE;

/// Vectors of sums of 32 bits, to which a line of weights times 128 activations is added at a time.
///
/// # Safety
/// Every function needs the instructions of its set; that the CPU has them is the caller's to show.
pub(super) trait LineSums: Copy {
    /// Activation rows that share a line of each row of weights that [`dot_nibbles`] takes together, at most 4: as many as there are
    /// registers for.
    const SHARED: usize;
    /// The weights of a line, a byte each.
    type Codes: Copy;
    unsafe fn zero() -> Self;
    unsafe fn codes(w: &[u8; LINE]) -> Self::Codes;
    /// Adds the products of a line and the activations of its 128 columns.
    unsafe fn add_line(self, codes: Self::Codes, x: &[[i8; LINE]; 2]) -> Self;
    /// The sums of the lanes of four.
    unsafe fn totals(four: [Self; 4]) -> [i32; 4];
}

/// [`super::Kernels::dot_nibbles`], `WEIGHTS` rows of weights and at most [`LineSums::SHARED`] of activations at a time.
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn dot_nibbles<S: LineSums, const WEIGHTS: usize>(out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
    const { assert!(S::SHARED <= 4) };
    let (columns, vectors) = (2 * w.len(), out.len() / w.rows());
    assert!(x.len() == vectors * columns && out.len() == vectors * w.rows());
    let whole = w.rows() / WEIGHTS * WEIGHTS;
    for (tile, x) in x.chunks(S::SHARED * columns).enumerate() {
        let first = tile * S::SHARED;
        // SAFETY: the caller shows the instructions.
        unsafe {
            for row in (0..whole).step_by(WEIGHTS) {
                dot_rows::<S, WEIGHTS>(out, (w, row), x, first);
            }
            for row in whole..w.rows() {
                dot_rows::<S, 1>(out, (w, row), x, first);
            }
        }
    }
}

/// `COUNT` rows of weights, from `row` on, and some activation rows, of which `first` is the first.
///
/// # Safety
/// As for [`dot_nibbles`].
#[inline(always)]
unsafe fn dot_rows<S: LineSums, const COUNT: usize>(
    out: &mut [i32],
    (w, row): (NibbleRows<'_>, usize),
    x: &[i8],
    first: usize,
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match x.len() / (2 * w.len()) {
            1 => dot::<S, COUNT, 1>(out, (w, row), x, first),
            2 => dot::<S, COUNT, 2>(out, (w, row), x, first),
            3 => dot::<S, COUNT, 3>(out, (w, row), x, first),
            4 => dot::<S, COUNT, 4>(out, (w, row), x, first),
            rows => unreachable!("{rows} rows"),
        }
    }
}

/// `COUNT` rows of weights and `ROWS` of activations; what lies behind those weights, or is read soon, is fetched meanwhile.
///
/// # Safety
/// As for [`dot_nibbles`].
#[inline(always)]
unsafe fn dot<S: LineSums, const COUNT: usize, const ROWS: usize>(
    out: &mut [i32],
    (w, row): (NibbleRows<'_>, usize),
    x: &[i8],
    first: usize,
) {
    let weights: [&[[u8; LINE]]; COUNT] = array::from_fn(|i| {
        let (lines, rest) = w.row(row + i).as_chunks::<LINE>();
        assert!(rest.is_empty());
        lines
    });
    let ahead: [[*const u8; 2]; COUNT] =
        weights.map(|lines| w.soon().map_or(stream_ahead(lines.as_ptr().cast()), |soon| [soon.as_ptr(); 2]));
    let (x, _) = x.as_chunks::<LINE>().0.as_chunks::<2>();
    let len = weights[0].len();
    let x: [&[[[i8; LINE]; 2]]; ROWS] = array::from_fn(|i| &x[i * len..][..len]);
    // SAFETY: the caller shows the instructions.
    unsafe {
        let mut sums = [[S::zero(); ROWS]; COUNT];
        for line in 0..len {
            // Activation rows that come later ask again: 0.95 of the time of a step of eight (Zen 4).
            ahead.iter().for_each(|row| prefetch_both(row.map(|begin| begin.wrapping_add(line * LINE))));
            let mut codes = [S::codes(&weights[0][line]); COUNT];
            for (codes, lines) in codes.iter_mut().zip(weights).skip(1) {
                *codes = S::codes(&lines[line]);
            }
            for (i, x) in x.iter().enumerate() {
                for (sums, &codes) in sums.iter_mut().zip(&codes) {
                    sums[i] = sums[i].add_line(codes, &x[line]);
                }
            }
        }
        let vectors = out.len() / w.rows();
        for (i, sums) in sums.iter().enumerate() {
            // The last stands in where there are no four; its sum is not used then.
            let four = array::from_fn(|row| sums[row.min(ROWS - 1)]);
            out[(row + i) * vectors + first..][..ROWS].copy_from_slice(&S::totals(four)[..ROWS]);
        }
    }
}
