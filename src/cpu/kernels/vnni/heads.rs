//! The products of attention with sixteen lanes.

use std::arch::x86_64::*;

use crate::cpu::kernels::Entries;
use crate::cpu::kernels::avx2::{prefetch, prefetch_to_second};
use crate::cpu::kernels::vector::heads::{self, Lanes};

/// Lanes of a vector: features of a head that are not whole vectors are left to vectors of eight.
pub(super) const LANES: usize = 16;

/// [`crate::cpu::kernels::Kernels::scores`].
#[target_feature(enable = "avx2,avx512f")]
pub(super) fn scores(scores: &mut [f32], q: &[f32], keys: Entries<'_>, head_dim: usize, factor: f32) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { heads::scores::<__m512>(scores, q, keys, head_dim, factor) }
}

/// [`crate::cpu::kernels::Kernels::mix`].
#[target_feature(enable = "avx2,avx512f")]
pub(super) fn mix(out: &mut [f32], weights: &[f32], values: Entries<'_>, head_dim: usize) {
    // SAFETY: this function's instructions are those that `__m512` needs.
    unsafe { heads::mix::<__m512>(out, weights, values, head_dim) }
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
    unsafe fn add_lanes(vectors: &[Self], sums: &mut [f32]) {
        let (Some(vectors), Some(sums)) = (vectors.first_chunk::<16>(), sums.first_chunk_mut::<16>()) else {
            unreachable!("sixteen sums go together")
        };
        // SAFETY: as above; there is room for sixteen sums.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), totals(vectors)) }
    }

    #[inline(always)]
    fn fetch(near: *const u8, far: *const u8) {
        prefetch(near);
        prefetch_to_second(far);
    }
}

/// The sum over the lanes of each of sixteen vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(v: &[__m512; 16]) -> __m512 {
    let mut pairs = [_mm512_setzero_ps(); 8];
    for (pair, v) in pairs.iter_mut().zip(v.as_chunks::<2>().0) {
        *pair = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    }
    // Each 128 bits hold the sums of four vectors over as many lanes of theirs.
    let mut fours = [_mm512_setzero_pd(); 4];
    for (four, pair) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
        let [a, b] = [_mm512_castps_pd(pair[0]), _mm512_castps_pd(pair[1])];
        let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        *four = _mm512_castps_pd(_mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high)));
    }
    let [a, b] = [_mm512_castpd_ps(fours[0]), _mm512_castpd_ps(fours[1])];
    let [c, d] = [_mm512_castpd_ps(fours[2]), _mm512_castpd_ps(fours[3])];
    let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
    _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd))
}
