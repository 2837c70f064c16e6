//! Weights of int8 as AVX2 has them: sixteen are widened at a time, and multiplied and added in two instructions.

use std::arch::x86_64::*;

use super::lanes::add_lanes_i32;
use crate::cpu::kernels::bytes::{self, Sums};

/// Columns of a vector of 16 bits, and vectors of a line.
const COLUMNS: usize = 16;
const VECTORS: usize = 4;

/// [`crate::cpu::kernels::Kernels::dot_bytes`].
#[target_feature(enable = "avx2")]
pub(super) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    // SAFETY: this function's instructions are those that `__m256i` needs.
    unsafe { bytes::dot_bytes::<__m256i, COLUMNS, VECTORS>(out, w, x) }
}

impl Sums<COLUMNS, VECTORS> for __m256i {
    /// 3 · 4 accumulators and a vector of weights fit the 16 registers.
    const SHARED: usize = 3;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn widened(w: &[i8; COLUMNS]) -> Self {
        // SAFETY: there are 16 bytes, the load may be unaligned; the caller shows AVX2.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(w.as_ptr().cast())) }
    }

    /// A pair of products is at most 2 · 128 · 32768 = 2^23 in magnitude.
    #[inline(always)]
    unsafe fn add_products(self, w: Self, x: &[i16; COLUMNS]) -> Self {
        // SAFETY: there are 32 bytes, the load may be unaligned; the caller shows AVX2.
        unsafe { _mm256_add_epi32(self, _mm256_madd_epi16(w, _mm256_loadu_si256(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    unsafe fn total(all: [Self; VECTORS]) -> i32 {
        // SAFETY: the caller shows AVX2.
        unsafe { add_lanes_i32(all).iter().sum() }
    }
}
