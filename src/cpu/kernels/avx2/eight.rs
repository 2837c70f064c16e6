//! Eight floats as AVX2 has them: in one register.

use std::arch::x86_64::*;

use super::{prefetch, prefetch_stream, prefetch_to_second};
use crate::cpu::kernels::vector::Vector;

impl Vector for __m256 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn zero() -> Self {
        _mm256_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn splat(value: f32) -> Self {
        _mm256_set1_ps(value)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn from_f32(bytes: &[u8; 32]) -> Self {
        // SAFETY: there are 32 bytes; the load may be unaligned.
        unsafe { _mm256_loadu_ps(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn from_f16(bytes: &[u8; 16]) -> Self {
        _mm256_cvtph_ps(load(bytes))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn from_bf16(bytes: &[u8; 16]) -> Self {
        // A bfloat16 is the upper half of a single.
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load(bytes))))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn from_int8(bytes: &[u8; 8]) -> Self {
        // SAFETY: there are 8 bytes; the load may be unaligned.
        let codes = unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) };
        _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul(self, factor: Self) -> Self {
        _mm256_mul_ps(self, factor)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        _mm256_fmadd_ps(self, factor, addend)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn store(self, out: &mut [f32; 8]) {
        // SAFETY: `out` has room for eight f32; the store may be unaligned.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), self) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn add_lanes(four: [Self; 4]) -> [f32; 4] {
        let pairs = _mm256_hadd_ps(_mm256_hadd_ps(four[0], four[1]), _mm256_hadd_ps(four[2], four[3]));
        let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
        let mut out = [0.0; 4];
        // SAFETY: `out` has 16 bytes.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
        out
    }

    #[inline(always)]
    fn fetch_ahead(address: *const u8) {
        prefetch_stream(address);
    }

    #[inline(always)]
    fn fetch(near: *const u8, far: *const u8) {
        prefetch(near);
        prefetch_to_second(far);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: there are 16 bytes; the load may be unaligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
