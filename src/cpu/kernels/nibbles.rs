//! Rows of weights of 4 bits times int8 activations, for the screened head: a line of weights becomes bytes on its way from memory, for
//! some activation rows at once. Written once; a set says in [`LineSums`] what its vectors do.

use super::NibbleRows;
use super::avx2::{prefetch_both, stream_ahead};
use super::bytes::{LINE, by_shared_rows};

/// Vectors of sums of 32 bits, to which a line of weights times 128 activations is added at a time.
///
/// # Safety
/// Every function needs the instructions of its set; that the CPU has them is the caller's to show.
pub(super) trait LineSums: Copy {
    /// Activation rows that share a line of weights: as many as there are registers for.
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

/// [`super::Kernels::dot_nibbles`].
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
pub(super) unsafe fn dot_nibbles<S: LineSums>(out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
    let (columns, vectors) = (2 * w.len(), out.len() / w.rows());
    assert!(x.len() == vectors * columns && out.len() == vectors * w.rows());
    for (tile, x) in x.chunks(S::SHARED * columns).enumerate() {
        for row in 0..w.rows() {
            let (lines, rest) = w.row(row).as_chunks::<LINE>();
            assert!(rest.is_empty());
            let ahead = w.soon().map_or(stream_ahead(lines.as_ptr().cast()), |soon| [soon.as_ptr(); 2]);
            let out = &mut out[row * vectors + tile * S::SHARED..][..x.len() / columns];
            by_shared_rows!(dot[S,], out, (lines, ahead), x, columns);
        }
    }
}

/// One row of weights; what lies `ahead` is fetched meanwhile.
///
/// # Safety
/// As for [`dot_nibbles`].
#[inline(always)]
unsafe fn dot<S: LineSums, const ROWS: usize>(out: &mut [i32], (w, ahead): (&[[u8; LINE]], [*const u8; 2]), x: &[i8]) {
    let (x, _) = x.as_chunks::<LINE>().0.as_chunks::<2>();
    let x: [&[[[i8; LINE]; 2]]; ROWS] = std::array::from_fn(|row| &x[row * w.len()..][..w.len()]);
    // SAFETY: the caller shows the instructions.
    unsafe {
        let mut sums = [S::zero(); ROWS];
        for (line, w) in w.iter().enumerate() {
            prefetch_both(ahead.map(|ahead| ahead.wrapping_add(line * LINE)));
            let codes = S::codes(w);
            for (sums, x) in sums.iter_mut().zip(&x) {
                *sums = sums.add_line(codes, &x[line]);
            }
        }
        for first in (0..ROWS).step_by(4) {
            // The last stands in where there are no four; its sum is not used then.
            let mut four = [sums[ROWS - 1]; 4];
            let count = (ROWS - first).min(4);
            four[..count].copy_from_slice(&sums[first..first + count]);
            out[first..first + count].copy_from_slice(&S::totals(four)[..count]);
        }
    }
}
