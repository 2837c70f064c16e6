//! Trits times int8 without dot products of bytes: `i32x4.dot_i16x8_s` multiplies eight pairs of 16 bits and adds neighbours.
//!
//! Eight lanes of 16 bits hold the even and the odd bytes of half a block. A lane shifted right by 0, 2, 4 or 6 and masked is a code of
//! its even byte, and by 8, 10, 12 or 14 one of its odd byte: so codes become 16 bits wide without an instruction for it. Activations
//! are brought into that order, and made wide, once for many weight rows.

use std::arch::wasm32::*;

use super::products::{self, Products, load};
use crate::cpu::kernels::{BlockTile, Tile, TileScales};

/// [`crate::cpu::kernels::Kernels::dot_codes`].
///
/// # Safety
/// The module has SIMD128.
#[target_feature(enable = "simd128")]
pub(super) unsafe fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that `Wide` needs.
    unsafe { products::dot_codes::<Wide>(sums, tile) }
}

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
///
/// # Safety
/// The module has SIMD128.
#[target_feature(enable = "simd128")]
pub(super) unsafe fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    // SAFETY: this function's instructions are those that `Wide` needs.
    unsafe { products::dot_blocks::<Wide>(out, tile, scales) }
}

/// Products of 16 bits.
struct Wide;

impl Products for Wide {
    /// `[quarter][half][even or odd]`: lane `j` is the activation of column `32 * quarter + 16 * half + 2 * j`, or of the next one.
    type Block = [[[v128; 2]; 2]; 4];
    const NOTHING: Self::Block = [[[i16x8(0, 0, 0, 0, 0, 0, 0, 0); 2]; 2]; 4];

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn prepared(x: &[i8; 128]) -> Self::Block {
        let mut block = Self::NOTHING;
        for (quarter, x) in block.iter_mut().zip(x.as_chunks::<32>().0) {
            for (pair, x) in quarter.iter_mut().zip(x.as_chunks::<16>().0) {
                let x = load(x);
                *pair = [i16x8_shr(i16x8_shl(x, 8), 8), i16x8_shr(x, 8)];
            }
        }
        block
    }

    /// A product is at most 3 · 128, so that no row has columns enough for a sum of 32 bits to wrap, by the limit that `matrix.rs`
    /// checks.
    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn add<const ROWS: usize>(sums: &mut [v128; ROWS], codes: &[u8; 32], x: [&Self::Block; ROWS]) {
        let mask = u16x8_splat(3);
        for (half, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
            let codes = load(codes);
            for quarter in 0..4 {
                let shift = 6 - 2 * quarter as u32;
                let even = v128_and(u16x8_shr(codes, shift), mask);
                let odd = v128_and(u16x8_shr(codes, shift + 8), mask);
                for (sums, x) in sums.iter_mut().zip(x) {
                    let [x_even, x_odd] = x[quarter][half];
                    let products = i32x4_add(i32x4_dot_i16x8(even, x_even), i32x4_dot_i16x8(odd, x_odd));
                    *sums = i32x4_add(*sums, products);
                }
            }
        }
    }
}
