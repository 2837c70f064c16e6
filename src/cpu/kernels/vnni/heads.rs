//! The products of attention with sixteen lanes.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::cpu::kernels::avx2::{prefetch, prefetch_to_second};
use crate::cpu::kernels::vector::heads::{self, Lanes};
use crate::cpu::kernels::{Entries, Scores};

/// Lanes of a vector: values of heads that are not whole vectors are left to vectors of eight.
pub(super) const LANES: usize = 16;

/// [`crate::cpu::kernels::Kernels::scores`].
#[target_feature(enable = "avx2,avx512f")]
pub(super) fn scores(scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { heads::scores::<__m512>(scores, q, keys, factor) }
}

/// [`crate::cpu::kernels::Kernels::mix`].
#[target_feature(enable = "avx2,avx512f")]
pub(super) fn mix(out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { heads::mix::<__m512>(out, weights, positions, values) }
}

/// [`crate::cpu::kernels::Kernels::widen`].
#[target_feature(enable = "avx2,avx512f")]
pub(super) fn widen(out: &mut [f32], halves: &[u16]) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { heads::widen::<__m512>(out, halves) }
}

impl Lanes for __m512 {
    const LANES: usize = LANES;
    const SUMS: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX2 and AVX-512F, here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load_f16(entries: *const u16) -> Self {
        // SAFETY: as above; there are 32 bytes, says the caller.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(entries.cast())) }
    }

    #[inline(always)]
    unsafe fn load_f32(values: *const f32) -> Self {
        // SAFETY: as above; there are 64 bytes, says the caller.
        unsafe { _mm512_loadu_ps(values) }
    }

    #[inline(always)]
    unsafe fn store(self, values: *mut f32) {
        // SAFETY: as above; there is room for sixteen, says the caller.
        unsafe { _mm512_storeu_ps(values, self) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    fn fetch(near: *const u8, far: *const u8) {
        prefetch(near);
        prefetch_to_second(far);
    }
}
