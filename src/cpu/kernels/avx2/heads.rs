//! The two products of attention: queries with keys, and weights with values. Query heads that share a key/value head
//! come by fours, twos and ones, so that each load and conversion of an entry serves all of them; eight sums (heads
//! times positions, or heads times vectors of features) go together, so that additions do not wait for each other.

use std::arch::x86_64::*;
use std::array;

use super::add_lanes_f32;
use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, portable};

/// A number format of the cache.
trait Entry: Copy {
    /// # Safety
    /// The CPU has AVX2 and F16C, and eight entries lie at the address.
    unsafe fn load(entries: *const Self) -> __m256;
    fn scalar(self) -> f32;
}

impl Entry for u16 {
    #[inline(always)]
    unsafe fn load(entries: *const u16) -> __m256 {
        // SAFETY: the caller shows the 16 bytes, which may be unaligned, and F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(entries.cast())) }
    }

    #[inline(always)]
    fn scalar(self) -> f32 {
        half(self)
    }
}

impl Entry for f32 {
    #[inline(always)]
    unsafe fn load(entries: *const f32) -> __m256 {
        // SAFETY: the caller shows the 32 bytes, which may be unaligned, and AVX.
        unsafe { _mm256_loadu_ps(entries) }
    }

    #[inline(always)]
    fn scalar(self) -> f32 {
        self
    }
}

/// [`crate::cpu::kernels::Kernels::scores`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scores(scores: &mut [f32], q: &[f32], keys: Entries<'_>, head_dim: usize, factor: f32) {
    match keys {
        Entries::F16(keys) => scores_of(scores, q, keys, head_dim, factor),
        Entries::F32(keys) => scores_of(scores, q, keys, head_dim, factor),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scores_of<E: Entry>(mut scores: &mut [f32], mut q: &[f32], keys: &[E], head_dim: usize, factor: f32) {
    let positions = scores.len() / (q.len() / head_dim);
    while !q.is_empty() {
        let heads = match q.len() / head_dim {
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        let (some, others) = q.split_at(heads * head_dim);
        let (places, later) = scores.split_at_mut(heads * positions);
        match heads {
            4 => scores_of_heads::<E, 4, 2>(places, some, keys, head_dim, factor),
            2 => scores_of_heads::<E, 2, 4>(places, some, keys, head_dim, factor),
            _ => scores_of_heads::<E, 1, 8>(places, some, keys, head_dim, factor),
        }
        (scores, q) = (later, others);
    }
}

/// `N` heads, `P` positions at a time; `N * P` is a multiple of 4. A score is the sum of the same eight lanes, in the
/// same order, for each `N` and `P`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scores_of_heads<E: Entry, const N: usize, const P: usize>(
    scores: &mut [f32],
    q: &[f32],
    keys: &[E],
    head_dim: usize,
    factor: f32,
) {
    let positions = scores.len() / N;
    assert!(q.len() == N * head_dim && scores.len() == N * positions && keys.len() >= positions * head_dim);
    let whole = head_dim / 8 * 8;
    for first in (0..positions).step_by(P) {
        // The last position stands in where there are fewer; its score is not used then.
        let begins: [usize; P] = array::from_fn(|i| (first + i).min(positions - 1) * head_dim);
        let mut sums = [[_mm256_setzero_ps(); P]; N];
        for feature in (0..whole).step_by(8) {
            let mut some = [_mm256_setzero_ps(); P];
            for (key, begin) in some.iter_mut().zip(begins) {
                // SAFETY: eight features from `feature` on are inside a head, and the position is one of `positions`,
                // whose keys were asserted to be there; this function's instructions are those that `load` needs.
                *key = unsafe { E::load(keys.as_ptr().add(begin + feature)) };
            }
            for (head, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above; there are `N` heads in `q`.
                let q = unsafe { f32::load(q.as_ptr().add(head * head_dim + feature)) };
                for (sum, key) in sums.iter_mut().zip(some) {
                    *sum = _mm256_fmadd_ps(key, q, *sum);
                }
            }
        }
        for (quad, sums) in sums.as_flattened().as_chunks::<4>().0.iter().enumerate() {
            for (i, sum) in (4 * quad..).zip(add_lanes_f32(*sums)) {
                let (head, position) = (i / P, first + i % P);
                if position < positions {
                    let (q, key) = (&q[head * head_dim..][..head_dim], &keys[position * head_dim..][..head_dim]);
                    let rest = key[whole..].iter().zip(&q[whole..]);
                    scores[head * positions + position] = rest.fold(sum, |sum, (k, q)| sum + k.scalar() * q) * factor;
                }
            }
        }
    }
}

/// [`crate::cpu::kernels::Kernels::mix`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn mix(out: &mut [f32], weights: &[f32], values: Entries<'_>, head_dim: usize) {
    match values {
        Entries::F16(entries) => mix_of(out, weights, entries, head_dim),
        Entries::F32(entries) => mix_of(out, weights, entries, head_dim),
    }
    if !head_dim.is_multiple_of(8) {
        portable::mix(out, weights, values, head_dim, head_dim / 8 * 8);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn mix_of<E: Entry>(mut out: &mut [f32], mut weights: &[f32], values: &[E], head_dim: usize) {
    let positions = weights.len() / (out.len() / head_dim);
    while !out.is_empty() {
        let heads = match out.len() / head_dim {
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        let (some, others) = out.split_at_mut(heads * head_dim);
        let (their_weights, later) = weights.split_at(heads * positions);
        let mut begin = 0;
        while begin + 8 <= head_dim {
            // Each feature is summed over positions in order, however many go together.
            let vectors = (head_dim - begin) / 8;
            begin += 8 * match (heads, vectors) {
                (4, 2..) => mix_features::<E, 4, 2>(some, their_weights, values, head_dim, begin),
                (4, _) => mix_features::<E, 4, 1>(some, their_weights, values, head_dim, begin),
                (2, 4..) => mix_features::<E, 2, 4>(some, their_weights, values, head_dim, begin),
                (2, _) => mix_features::<E, 2, 1>(some, their_weights, values, head_dim, begin),
                (_, 8..) => mix_features::<E, 1, 8>(some, their_weights, values, head_dim, begin),
                (_, 4..) => mix_features::<E, 1, 4>(some, their_weights, values, head_dim, begin),
                _ => mix_features::<E, 1, 1>(some, their_weights, values, head_dim, begin),
            };
        }
        (out, weights) = (others, later);
    }
}

/// The `8 * V` features from `begin` on, of `N` heads; returns `V`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn mix_features<E: Entry, const N: usize, const V: usize>(
    out: &mut [f32],
    weights: &[f32],
    values: &[E],
    head_dim: usize,
    begin: usize,
) -> usize {
    let positions = weights.len() / N;
    assert!(weights.len() == N * positions && values.len() >= positions * head_dim);
    assert!(out.len() == N * head_dim && begin + 8 * V <= head_dim);
    let mut sums = [[_mm256_setzero_ps(); V]; N];
    for (head, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `out` was asserted to have these features of all `N` heads; this function's instructions are
            // those that `load` needs.
            *sum = unsafe { f32::load(out.as_ptr().add(head * head_dim + begin + 8 * v)) };
        }
    }
    for position in 0..positions {
        let mut some = [_mm256_setzero_ps(); V];
        for (v, value) in some.iter_mut().enumerate() {
            // SAFETY: `values` was asserted to have all features of all positions; the instructions as above.
            *value = unsafe { E::load(values.as_ptr().add(position * head_dim + begin + 8 * v)) };
        }
        for (head, sums) in sums.iter_mut().enumerate() {
            // SAFETY: there are `positions` weights of each of the `N` heads, as asserted.
            let weight = _mm256_set1_ps(unsafe { *weights.get_unchecked(head * positions + position) });
            for (sum, value) in sums.iter_mut().zip(some) {
                *sum = _mm256_fmadd_ps(value, weight, *sum);
            }
        }
    }
    for (head, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: `out` was asserted to have these features of all `N` heads; the store may be unaligned.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(head * head_dim + begin + 8 * v), sum) };
        }
    }
    V
}
