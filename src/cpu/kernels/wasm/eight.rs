//! Eight floats as SIMD128 has them: in two vectors of four. There is no instruction that multiplies and adds with one rounding, so
//! each of the two rounds; and none for half precision, whose bits are moved to where those of a single are.

use std::arch::wasm32::*;

use crate::cpu::kernels::vector::Vector;

/// Eight f32.
#[derive(Clone, Copy)]
pub(super) struct Eight(v128, v128);

impl Vector for Eight {
    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn zero() -> Self {
        Self(f32x4_splat(0.0), f32x4_splat(0.0))
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn splat(value: f32) -> Self {
        Self(f32x4_splat(value), f32x4_splat(value))
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn from_f32(bytes: &[u8; 32]) -> Self {
        // SAFETY: there are 32 bytes; loads of WebAssembly need no alignment.
        unsafe { Self(v128_load(bytes.as_ptr().cast()), v128_load(bytes.as_ptr().add(16).cast())) }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn from_f16(bytes: &[u8; 16]) -> Self {
        // SAFETY: there are 8 bytes in each half; loads of WebAssembly need no alignment.
        unsafe {
            let low = u32x4_load_extend_u16x4(bytes.as_ptr().cast());
            let high = u32x4_load_extend_u16x4(bytes.as_ptr().add(8).cast());
            Self(single(low), single(high))
        }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn from_bf16(bytes: &[u8; 16]) -> Self {
        // SAFETY: as above. A bfloat16 is the upper half of a single.
        unsafe {
            let low = u32x4_load_extend_u16x4(bytes.as_ptr().cast());
            let high = u32x4_load_extend_u16x4(bytes.as_ptr().add(8).cast());
            Self(u32x4_shl(low, 16), u32x4_shl(high, 16))
        }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn from_int8(bytes: &[u8; 8]) -> Self {
        // SAFETY: there are 8 bytes; loads of WebAssembly need no alignment.
        let wide = unsafe { i16x8_load_extend_i8x8(bytes.as_ptr().cast()) };
        let [low, high] = [i32x4_extend_low_i16x8(wide), i32x4_extend_high_i16x8(wide)];
        Self(f32x4_convert_i32x4(low), f32x4_convert_i32x4(high))
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn mul(self, factor: Self) -> Self {
        Self(f32x4_mul(self.0, factor.0), f32x4_mul(self.1, factor.1))
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(f32x4_add(f32x4_mul(self.0, factor.0), addend.0), f32x4_add(f32x4_mul(self.1, factor.1), addend.1))
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn store(self, out: &mut [f32; 8]) {
        // SAFETY: there is room for eight; stores of WebAssembly need no alignment.
        unsafe {
            v128_store(out.as_mut_ptr().cast(), self.0);
            v128_store(out.as_mut_ptr().add(4).cast(), self.1);
        }
    }

    #[inline]
    #[target_feature(enable = "simd128")]
    unsafe fn add_lanes(four: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = four.map(|v| f32x4_add(v.0, v.1));
        // Pairs of lanes of two vectors, then pairs of those.
        let (ab, cd) = (add_pairs(a, b), add_pairs(c, d));
        let sums = add_pairs(ab, cd);
        [
            f32x4_extract_lane::<0>(sums),
            f32x4_extract_lane::<1>(sums),
            f32x4_extract_lane::<2>(sums),
            f32x4_extract_lane::<3>(sums),
        ]
    }

    #[inline(always)]
    fn fetch_ahead(_address: *const u8) {
        // WebAssembly cannot ask for cache lines.
    }

    #[inline(always)]
    fn fetch(_near: *const u8, _far: *const u8) {
        // As above.
    }
}

/// The sums of neighbouring lanes of two vectors.
#[inline]
#[target_feature(enable = "simd128")]
fn add_pairs(a: v128, b: v128) -> v128 {
    f32x4_add(i32x4_shuffle::<0, 2, 4, 6>(a, b), i32x4_shuffle::<1, 3, 5, 7>(a, b))
}

/// Four halves, each in 32 bits, as singles; exactly, subnormal ones too.
#[inline]
#[target_feature(enable = "simd128")]
fn single(bits: v128) -> v128 {
    /// What the exponent of a half lacks to that of a single: 2^(127 - 15).
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let sign = u32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16);
    let magnitude = u32x4_shl(v128_and(bits, u32x4_splat(0x7fff)), 13);
    // Infinity and NaN have the largest exponent, there and here.
    let beyond = v128_and(i32x4_ge(magnitude, i32x4_splat(0x7c00 << 13)), u32x4_splat(0x7f80_0000));
    let scaled = f32x4_mul(magnitude, f32x4_splat(SCALE));
    v128_or(v128_or(scaled, beyond), sign)
}
