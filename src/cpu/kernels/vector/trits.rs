//! Rows of packed trits times f32 activations, for models that keep those: a block is unpacked to bytes in registers, a vector of
//! them at a time becomes floats, and several activation rows share those. Each row is added in one order, however many share.

use super::Vector;
use crate::cpu::kernels::{FloatRow, FloatTile};
use crate::format::ternary::BLOCK_BYTES;

/// `N` f32 in registers, as these loops need them. Every [`Vector`] is eight.
///
/// # Safety
/// As for [`Vector`].
pub(in crate::cpu::kernels) trait Lanes<const N: usize>: Copy {
    /// Activation rows that share a block: as many as there are registers for two accumulators each.
    const SHARED: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn from_int8(bytes: &[u8; N]) -> Self;
    unsafe fn from_f32(values: &[f32; N]) -> Self;
    /// `self * factor`.
    unsafe fn mul(self, factor: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The sum of the lanes of both.
    unsafe fn add_lanes(both: [Self; 2]) -> f32;
    /// Asks for the cache line of weights that a stream reads soon after the one at `address`.
    fn fetch_ahead(address: *const u8);
}

impl<V: Vector> Lanes<8> for V {
    const SHARED: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows the instructions, here and below.
        unsafe { V::zero() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { V::splat(value) }
    }

    #[inline(always)]
    unsafe fn from_int8(bytes: &[u8; 8]) -> Self {
        // SAFETY: as above.
        unsafe { V::from_int8(bytes) }
    }

    #[inline(always)]
    unsafe fn from_f32(values: &[f32; 8]) -> Self {
        // SAFETY: as above.
        unsafe { V::from_f32(bytemuck::cast_ref(values)) }
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: as above.
        unsafe { Vector::mul(self, factor) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        unsafe { Vector::mul_add(self, factor, addend) }
    }

    #[inline(always)]
    unsafe fn add_lanes([even, odd]: [Self; 2]) -> f32 {
        // SAFETY: as above.
        let [even, odd, ..] = unsafe { V::add_lanes([even, odd, V::zero(), V::zero()]) };
        even + odd
    }

    #[inline(always)]
    fn fetch_ahead(address: *const u8) {
        V::fetch_ahead(address);
    }
}

/// [`crate::cpu::kernels::Kernels::dot_floats`].
///
/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn dot_floats<L: Lanes<N>, const N: usize>(out: &mut [f32], tile: &FloatTile<'_>) {
    for (first, out) in (0..).step_by(L::SHARED).zip(out.chunks_mut(L::SHARED)) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match out.len() {
                rows if rows > L::SHARED => unreachable!("at most {} rows", L::SHARED),
                1 => dot::<L, N, 1>(out, tile, first),
                2 => dot::<L, N, 2>(out, tile, first),
                3 => dot::<L, N, 3>(out, tile, first),
                4 => dot::<L, N, 4>(out, tile, first),
                5 => dot::<L, N, 5>(out, tile, first),
                6 => dot::<L, N, 6>(out, tile, first),
                7 => dot::<L, N, 7>(out, tile, first),
                8 => dot::<L, N, 8>(out, tile, first),
                rows => unreachable!("{rows} rows"),
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions of `L`.
#[inline(always)]
unsafe fn dot<L: Lanes<N>, const N: usize, const ROWS: usize>(out: &mut [f32], tile: &FloatTile<'_>, first: usize) {
    let x: [FloatRow<'_>; ROWS] = std::array::from_fn(|row| tile.row(first + row));
    // SAFETY: the caller shows the instructions; the vectors of a block are counted through its trits.
    unsafe {
        let mut sums = [[L::zero(); 2]; ROWS];
        for (block, (codes, scales)) in tile.codes.iter().zip(tile.scales).enumerate() {
            L::fetch_ahead(codes.as_ptr());
            let x = x.map(|x| x[block].as_chunks::<N>().0);
            let (trits, scale) = (unpacked(codes), L::splat(scales[tile.lane]));
            for (pair, trits) in trits.as_flattened().as_chunks::<N>().0.as_chunks::<2>().0.iter().enumerate() {
                for (half, trits) in trits.iter().enumerate() {
                    let w = L::from_int8(trits).mul(scale);
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        // `x` and `trits` are both a block, in vectors.
                        let x = L::from_f32(x.get_unchecked(2 * pair + half));
                        sums[half] = w.mul_add(x, sums[half]);
                    }
                }
            }
        }
        for (o, sums) in out.iter_mut().zip(sums) {
            *o = L::add_lanes(sums);
        }
    }
}

/// The trits of a block as bytes, in the order of their columns. A plain loop, which the compiler vectorises.
#[inline(always)]
fn unpacked(codes: &[u8; BLOCK_BYTES]) -> [[u8; BLOCK_BYTES]; 4] {
    let mut trits = [[0; BLOCK_BYTES]; 4];
    for (quarter, shift) in trits.iter_mut().zip([6, 4, 2, 0]) {
        for (trit, code) in quarter.iter_mut().zip(codes) {
            *trit = (code >> shift & 3).wrapping_sub(1);
        }
    }
    trits
}
