//! Weights of 4 bits as AVX2 has them: thirty-two products at a time, added in pairs to sums of 16 bits, which a line does not fill.

use std::arch::x86_64::*;

use super::lanes::add_lanes_i32;
use crate::cpu::kernels::NibbleRows;
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::nibbles::{self, LineSums};

/// [`crate::cpu::kernels::Kernels::dot_nibbles`].
#[target_feature(enable = "avx2")]
pub(super) fn dot_nibbles(out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
    // SAFETY: this function's instructions are those that `__m256i` needs.
    unsafe { nibbles::dot_nibbles::<__m256i, 1>(out, w, x) }
}

impl LineSums for __m256i {
    /// 4 sums, 4 vectors of weights and what a line adds fit the 16 registers.
    const SHARED: usize = 4;

    type Codes = [Self; 4];

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn codes(w: &[u8; LINE]) -> [Self; 4] {
        // SAFETY: a half has 32 bytes, loads may be unaligned; the caller shows AVX2.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let halves = w.as_chunks::<32>().0;
            let first = _mm256_loadu_si256(halves[0].as_ptr().cast());
            let second = _mm256_loadu_si256(halves[1].as_ptr().cast());
            [
                _mm256_and_si256(first, mask),
                _mm256_and_si256(second, mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(second), mask),
            ]
        }
    }

    /// A pair of products is at most 2 · 15 · 127 in magnitude, and four of them 15240.
    #[inline(always)]
    unsafe fn add_line(self, codes: [Self; 4], x: &[[i8; LINE]; 2]) -> Self {
        // SAFETY: x has 4 · 32 bytes, loads may be unaligned; the caller shows AVX2.
        unsafe {
            let mut sums = _mm256_setzero_si256();
            for (w, x) in codes.into_iter().zip(x.as_flattened().as_chunks::<32>().0) {
                let products = _mm256_maddubs_epi16(w, _mm256_loadu_si256(x.as_ptr().cast()));
                sums = _mm256_add_epi16(sums, products);
            }
            _mm256_add_epi32(self, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn totals(four: [Self; 4]) -> [i32; 4] {
        // SAFETY: the caller shows AVX2.
        unsafe { add_lanes_i32(four) }
    }
}
