//! Trits times int8 with the dot products of relaxed SIMD, which multiply sixteen bytes with sixteen of seven bits and add four
//! products at a time to a sum of 32 bits. What is relaxed about them, products of bytes with the eighth bit set and sums of two
//! products beyond 16 bits, codes of two bits never meet: every engine gives the exact integers.

use std::arch::wasm32::*;

use super::products::{self, Products, load};
use crate::cpu::kernels::{BlockTile, Tile, TileScales};

/// [`crate::cpu::kernels::Kernels::dot_codes`].
///
/// # Safety
/// The module has SIMD128 and relaxed SIMD.
#[target_feature(enable = "simd128,relaxed-simd")]
pub(super) unsafe fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that `Dot` needs.
    unsafe { products::dot_codes::<Dot>(sums, tile) }
}

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
///
/// # Safety
/// The module has SIMD128 and relaxed SIMD.
#[target_feature(enable = "simd128,relaxed-simd")]
pub(super) unsafe fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    // SAFETY: this function's instructions are those that `Dot` needs.
    unsafe { products::dot_blocks::<Dot>(out, tile, scales) }
}

/// Products of bytes.
struct Dot;

impl Products for Dot {
    /// As they lie: `[quarter][half]`, sixteen columns each.
    type Block = [[v128; 2]; 4];
    const NOTHING: Self::Block = [[i8x16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); 2]; 4];

    #[inline]
    #[target_feature(enable = "simd128,relaxed-simd")]
    unsafe fn prepared(x: &[i8; 128]) -> Self::Block {
        let mut block = Self::NOTHING;
        for (quarter, x) in block.iter_mut().zip(x.as_chunks::<32>().0) {
            for (half, x) in quarter.iter_mut().zip(x.as_chunks::<16>().0) {
                *half = load(x);
            }
        }
        block
    }

    /// A pair of products is at most 2 · 3 · 128, far from 16 bits; a row's sum fits 32 bits, by the limit that `matrix.rs` checks.
    #[inline]
    #[target_feature(enable = "simd128,relaxed-simd")]
    unsafe fn add<const ROWS: usize>(sums: &mut [v128; ROWS], codes: &[u8; 32], x: [&Self::Block; ROWS]) {
        let mask = u8x16_splat(3);
        for (half, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
            let codes = load(codes);
            for quarter in 0..4 {
                // Lanes of 16 bits shift as well, as the bits of a neighbour are masked away.
                let trits = v128_and(u16x8_shr(codes, 6 - 2 * quarter as u32), mask);
                for (sums, x) in sums.iter_mut().zip(x) {
                    *sums = i32x4_relaxed_dot_i8x16_i7x16_add(x[quarter][half], trits, *sums);
                }
            }
        }
    }
}
