//! Weights of int8 as AVX-512 VNNI has them: 32 are widened at a time, and multiplied and added by one `vpdpwssd`.

use std::arch::x86_64::*;

use crate::cpu::kernels::bytes::{self, Sums};

/// Columns of a vector of 16 bits, and vectors of a line.
const COLUMNS: usize = 32;
const VECTORS: usize = 2;

/// [`crate::cpu::kernels::Kernels::dot_bytes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    // SAFETY: this function's instructions are those that `__m512i` needs.
    unsafe { bytes::dot_bytes::<__m512i, COLUMNS, VECTORS>(out, w, x) }
}

impl Sums<COLUMNS, VECTORS> for __m512i {
    /// 8 · 2 accumulators and 2 vectors of weights fit the 32 registers.
    const SHARED: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn widened(w: &[i8; COLUMNS]) -> Self {
        // SAFETY: there are 32 bytes, the load may be unaligned; the caller shows AVX-512BW.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(w.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn add_products(self, w: Self, x: &[i16; COLUMNS]) -> Self {
        // SAFETY: there are 64 bytes, the load may be unaligned; the caller shows AVX-512 VNNI.
        unsafe { _mm512_dpwssd_epi32(self, w, _mm512_loadu_si512(x.as_ptr().cast())) }
    }

    #[inline(always)]
    unsafe fn total([even, odd]: [Self; VECTORS]) -> i32 {
        // SAFETY: the caller shows AVX-512F.
        unsafe { _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd)) }
    }
}
