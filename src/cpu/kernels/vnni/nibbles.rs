//! Weights of 4 bits as AVX-512 VNNI has them: a line is two vectors of bytes, each multiplied and added by one `vpdpbusd`.

use std::arch::x86_64::*;

use crate::cpu::kernels::NibbleRows;
use crate::cpu::kernels::avx2::lanes::add_lanes_i32;
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::nibbles::{self, LineSums};

/// [`crate::cpu::kernels::Kernels::dot_nibbles`].
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_nibbles(out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
    // SAFETY: this function's instructions are those that the sums need.
    unsafe { nibbles::dot_nibbles::<LowAndHigh, 2>(out, w, x) }
}

/// The sums of the low halves' columns and of the high halves', so that additions do not wait for each other.
#[derive(Clone, Copy)]
struct LowAndHigh(__m512i, __m512i);

impl LineSums for LowAndHigh {
    /// Two rows' 4 · 2 sums and 2 vectors of weights, and what they are multiplied with, fit the 32 registers.
    const SHARED: usize = 4;

    type Codes = Self;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX-512F.
        unsafe { Self(_mm512_setzero_si512(), _mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn codes(w: &[u8; LINE]) -> Self {
        // SAFETY: there are 64 bytes, the load may be unaligned; the caller shows AVX-512F and AVX-512BW.
        unsafe {
            let (bytes, mask) = (_mm512_loadu_si512(w.as_ptr().cast()), _mm512_set1_epi8(15));
            Self(_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask))
        }
    }

    #[inline(always)]
    unsafe fn add_line(self, codes: Self, [low, high]: &[[i8; LINE]; 2]) -> Self {
        // SAFETY: there are 64 bytes each, loads may be unaligned; the caller shows AVX-512 VNNI.
        unsafe {
            Self(
                _mm512_dpbusd_epi32(self.0, codes.0, _mm512_loadu_si512(low.as_ptr().cast())),
                _mm512_dpbusd_epi32(self.1, codes.1, _mm512_loadu_si512(high.as_ptr().cast())),
            )
        }
    }

    #[inline(always)]
    unsafe fn totals([a, b, c, d]: [Self; 4]) -> [i32; 4] {
        // SAFETY: the caller shows AVX2 and AVX-512F.
        unsafe { add_lanes_i32([a.halved(), b.halved(), c.halved(), d.halved()]) }
    }
}

impl LowAndHigh {
    /// # Safety
    /// The CPU has AVX-512F.
    #[inline(always)]
    unsafe fn halved(self) -> __m256i {
        // SAFETY: the caller shows AVX-512F.
        unsafe {
            let sums = _mm512_add_epi32(self.0, self.1);
            _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums))
        }
    }
}
