//! Trits times f32 activations with sixteen lanes.

use std::arch::x86_64::*;

use crate::cpu::kernels::FloatTile;
use crate::cpu::kernels::avx2::prefetch_stream;
use crate::cpu::kernels::vector::trits::{self, Lanes};

/// [`crate::cpu::kernels::Kernels::dot_floats`].
#[target_feature(enable = "avx2,fma,avx512f")]
pub(super) fn dot_floats(out: &mut [f32], tile: &FloatTile<'_>) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { trits::dot_floats::<__m512, 16>(out, tile) }
}

impl Lanes<16> for __m512 {
    /// 8 · 2 accumulators, a vector of weights and their scale fit the 32 registers.
    const SHARED: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX-512F, here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn from_int8(bytes: &[u8; 16]) -> Self {
        // SAFETY: as above; there are 16 bytes, the load may be unaligned.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn from_f32(values: &[f32; 16]) -> Self {
        // SAFETY: as above; there are 16 values, the load may be unaligned.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(self, factor) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    unsafe fn add_lanes([even, odd]: [Self; 2]) -> f32 {
        // SAFETY: as above.
        unsafe { _mm512_reduce_add_ps(_mm512_add_ps(even, odd)) }
    }

    #[inline(always)]
    fn fetch_ahead(address: *const u8) {
        prefetch_stream(address);
    }
}
