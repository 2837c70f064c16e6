//! Rows of weights of 8 bits times int16 activations, for the outliers of the screened head: weights are widened on their way from
//! memory, and some activation rows share each load of them. Written once; a set says in [`Sums`] what its vectors do.

use super::avx2::prefetch_stream;

/// Weights that are worked on at once: one cache line.
pub(super) const LINE: usize = 64;

/// A vector register of sums of 32 bits, to which `COLUMNS` columns at a time are added; `VECTORS` of them make a line.
///
/// # Safety
/// Every function needs the instructions of its set; that the CPU has them is the caller's to show.
pub(super) trait Sums<const COLUMNS: usize, const VECTORS: usize>: Copy {
    /// Activation rows that share a load of weights: as many as there are registers for.
    const SHARED: usize;
    unsafe fn zero() -> Self;
    /// Some weights, as 16 bits each.
    unsafe fn widened(w: &[i8; COLUMNS]) -> Self;
    /// Adds the products of widened weights and activations.
    unsafe fn add_products(self, w: Self, x: &[i16; COLUMNS]) -> Self;
    /// The sum of the lanes of all.
    unsafe fn total(all: [Self; VECTORS]) -> i32;
}

/// [`super::Kernels::dot_bytes`].
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn dot_bytes<S: Sums<COLUMNS, VECTORS>, const COLUMNS: usize, const VECTORS: usize>(
    out: &mut [i32],
    w: &[i8],
    x: &[i16],
) {
    const { assert!(COLUMNS * VECTORS == LINE) };
    let (lines, rest) = w.as_chunks::<LINE>();
    assert!(rest.is_empty() && x.len() == out.len() * w.len());
    for (out, x) in out.chunks_mut(S::SHARED).zip(x.chunks(S::SHARED * w.len())) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match out.len() {
                rows if rows > S::SHARED => unreachable!("at most {} rows", S::SHARED),
                1 => dot::<S, COLUMNS, VECTORS, 1>(out, lines, x),
                2 => dot::<S, COLUMNS, VECTORS, 2>(out, lines, x),
                3 => dot::<S, COLUMNS, VECTORS, 3>(out, lines, x),
                4 => dot::<S, COLUMNS, VECTORS, 4>(out, lines, x),
                5 => dot::<S, COLUMNS, VECTORS, 5>(out, lines, x),
                6 => dot::<S, COLUMNS, VECTORS, 6>(out, lines, x),
                7 => dot::<S, COLUMNS, VECTORS, 7>(out, lines, x),
                8 => dot::<S, COLUMNS, VECTORS, 8>(out, lines, x),
                rows => unreachable!("{rows} rows"),
            }
        }
    }
}

/// That all sums fit 32 bits is the caller's promise; then those of any lane do, too.
///
/// # Safety
/// As for [`dot_bytes`].
#[inline(always)]
unsafe fn dot<S: Sums<COLUMNS, VECTORS>, const COLUMNS: usize, const VECTORS: usize, const ROWS: usize>(
    out: &mut [i32],
    w: &[[i8; LINE]],
    x: &[i16],
) {
    let (x, _) = x.as_chunks::<LINE>();
    let x: [&[[i16; LINE]]; ROWS] = std::array::from_fn(|row| &x[row * w.len()..][..w.len()]);
    // SAFETY: the caller shows the instructions.
    unsafe {
        let mut sums = [[S::zero(); VECTORS]; ROWS];
        for (line, w) in w.iter().enumerate() {
            prefetch_stream(w.as_ptr().cast());
            for (vector, w) in w.as_chunks::<COLUMNS>().0.iter().enumerate() {
                let w = S::widened(w);
                for (sums, x) in sums.iter_mut().zip(&x) {
                    sums[vector] = sums[vector].add_products(w, &x[line].as_chunks::<COLUMNS>().0[vector]);
                }
            }
        }
        for (o, sums) in out.iter_mut().zip(sums) {
            *o = S::total(sums);
        }
    }
}
