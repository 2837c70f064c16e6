//! Vectors of eight 32-bit sums, added across their lanes four at a time: one addition across serves four sums.

use std::arch::x86_64::*;

/// The sums of the lanes of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu::kernels) fn add_lanes_i32(v: [__m256i; 4]) -> [i32; 4] {
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let mut out = [0; 4];
    // SAFETY: `out` has 16 bytes.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}

/// The sum of the lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu::kernels) fn add_lanes_f32(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Gives the sum of the lanes of each of some vectors, whose number is known where this is compiled.
#[inline]
#[target_feature(enable = "avx2")]
pub(in crate::cpu::kernels) fn each_sum(lanes: &[__m256i], mut take: impl FnMut(usize, i32)) {
    for first in (0..lanes.len()).step_by(4) {
        // The last stands in where there are no four; its sum is not used then.
        let four = add_lanes_i32(std::array::from_fn(|i| lanes[(first + i).min(lanes.len() - 1)]));
        (first..lanes.len()).zip(four).for_each(|(place, sum)| take(place, sum));
    }
}

/// Adds the lanes of vectors that come one by one, four at a time, and writes each sum to its place.
pub(in crate::cpu::kernels) struct ByFours<'a> {
    sums: &'a mut [i32],
    lanes: [__m256i; 4],
    places: [usize; 4],
    filled: usize, // of both
}

impl<'a> ByFours<'a> {
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu::kernels) fn new(sums: &'a mut [i32]) -> Self {
        Self { sums, lanes: [_mm256_setzero_si256(); 4], places: [0; 4], filled: 0 }
    }

    /// Takes the vector whose sum goes to `place`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu::kernels) fn push(&mut self, place: usize, lanes: __m256i) {
        (self.lanes[self.filled], self.places[self.filled]) = (lanes, place);
        self.filled += 1;
        if self.filled == 4 {
            self.write();
        }
    }

    /// Takes several vectors that are there together, whose number is known where this is compiled: they need not wait in memory for
    /// others. The sum of the first goes to `place(0)`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu::kernels) fn push_all(&mut self, lanes: &[__m256i], place: impl Fn(usize) -> usize) {
        each_sum(lanes, |i, sum| self.sums[place(i)] = sum);
    }

    /// Writes the sums that are left.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::cpu::kernels) fn finish(mut self) {
        self.write();
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn write(&mut self) {
        for (&place, sum) in self.places.iter().zip(add_lanes_i32(self.lanes)).take(self.filled) {
            self.sums[place] = sum;
        }
        self.filled = 0;
    }
}
