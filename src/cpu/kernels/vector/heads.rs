//! The two products of attention: queries with keys, and weights with values. Query heads that share a key/value head
//! come in pairs, so that each load and conversion of an entry serves two; four positions (or four vectors of features)
//! go together, so that additions do not wait for each other.

use std::array;

use super::Vector;
use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, portable};

/// A number format of the cache.
trait Entry: Copy {
    /// # Safety
    /// The CPU has the instructions of `V`.
    unsafe fn load<V: Vector>(entries: &[Self; 8]) -> V;
    fn scalar(self) -> f32;
}

impl Entry for u16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(entries: &[u16; 8]) -> V {
        // SAFETY: the caller shows the instructions.
        unsafe { V::from_f16(bytemuck::cast_ref(entries)) }
    }

    #[inline(always)]
    fn scalar(self) -> f32 {
        half(self)
    }
}

impl Entry for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(entries: &[f32; 8]) -> V {
        // SAFETY: the caller shows the instructions.
        unsafe { V::from_f32(bytemuck::cast_ref(entries)) }
    }

    #[inline(always)]
    fn scalar(self) -> f32 {
        self
    }
}

/// [`crate::cpu::kernels::Kernels::scores`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn scores<V: Vector>(
    scores: &mut [f32],
    q: &[f32],
    keys: Entries<'_>,
    head_dim: usize,
    factor: f32,
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match keys {
            Entries::F16(keys) => scores_of::<V, _>(scores, q, keys, head_dim, factor),
            Entries::F32(keys) => scores_of::<V, _>(scores, q, keys, head_dim, factor),
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn scores_of<V: Vector, E: Entry>(scores: &mut [f32], q: &[f32], keys: &[E], head_dim: usize, factor: f32) {
    let positions = scores.len() / (q.len() / head_dim);
    for (scores, q) in scores.chunks_mut(2 * positions).zip(q.chunks(2 * head_dim)) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match q.len() / head_dim {
                1 => scores_of_heads::<V, E, 1>(scores, q, keys, head_dim, factor),
                _ => scores_of_heads::<V, E, 2>(scores, q, keys, head_dim, factor),
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn scores_of_heads<V: Vector, E: Entry, const N: usize>(
    scores: &mut [f32],
    q: &[f32],
    keys: &[E],
    head_dim: usize,
    factor: f32,
) {
    let positions = scores.len() / N;
    let q: [(&[[f32; 8]], &[f32]); N] = array::from_fn(|head| q[head * head_dim..][..head_dim].as_chunks());
    for first in (0..positions).step_by(4) {
        // The last position stands in where there are no four; its score is not used then.
        let keys: [(&[[E; 8]], &[E]); 4] = array::from_fn(|i| {
            let position = (first + i).min(positions - 1);
            keys[position * head_dim..][..head_dim].as_chunks()
        });
        // SAFETY: the caller shows the instructions, here and below.
        let mut sums = [[unsafe { V::zero() }; 4]; N];
        for vector in 0..head_dim / 8 {
            for (i, (key, _)) in keys.iter().enumerate() {
                // SAFETY: as above.
                let key: V = unsafe { E::load(&key[vector]) };
                for (sums, (q, _)) in sums.iter_mut().zip(&q) {
                    // SAFETY: as above.
                    sums[i] = unsafe { key.mul_add(f32::load(&q[vector]), sums[i]) };
                }
            }
        }
        for (head, (sums, (_, q))) in sums.into_iter().zip(q).enumerate() {
            // SAFETY: as above.
            let mut four = unsafe { V::add_lanes(sums) };
            for (score, (_, key)) in four.iter_mut().zip(keys) {
                for (k, q) in key.iter().zip(q) {
                    *score += k.scalar() * q;
                }
                *score *= factor;
            }
            let places = &mut scores[head * positions..][first..positions.min(first + 4)];
            places.copy_from_slice(&four[..places.len()]);
        }
    }
}

/// [`crate::cpu::kernels::Kernels::mix`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn mix<V: Vector>(
    out: &mut [f32],
    weights: &[f32],
    values: Entries<'_>,
    head_dim: usize,
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match values {
            Entries::F16(entries) => mix_of::<V, _>(out, weights, entries, head_dim),
            Entries::F32(entries) => mix_of::<V, _>(out, weights, entries, head_dim),
        }
    }
    if !head_dim.is_multiple_of(8) {
        portable::mix(out, weights, values, head_dim, head_dim / 8 * 8);
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn mix_of<V: Vector, E: Entry>(out: &mut [f32], weights: &[f32], values: &[E], head_dim: usize) {
    let positions = weights.len() / (out.len() / head_dim);
    for (out, weights) in out.chunks_mut(2 * head_dim).zip(weights.chunks(2 * positions)) {
        let mut begin = 0;
        while begin + 8 <= head_dim {
            // Each feature is summed over positions in order, however many go together.
            let wide = begin + 32 <= head_dim;
            // SAFETY: the caller shows the instructions.
            unsafe {
                match (out.len() / head_dim, wide) {
                    (1, true) => mix_features::<V, E, 1, 4>(out, weights, values, head_dim, begin),
                    (1, false) => mix_features::<V, E, 1, 1>(out, weights, values, head_dim, begin),
                    (_, true) => mix_features::<V, E, 2, 4>(out, weights, values, head_dim, begin),
                    (_, false) => mix_features::<V, E, 2, 1>(out, weights, values, head_dim, begin),
                }
            }
            begin += if wide { 32 } else { 8 };
        }
    }
}

/// The `8 * COUNT` features from `begin` on, of `N` heads.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn mix_features<V: Vector, E: Entry, const N: usize, const COUNT: usize>(
    out: &mut [f32],
    weights: &[f32],
    values: &[E],
    head_dim: usize,
    begin: usize,
) {
    let positions = weights.len() / N;
    let weights: [&[f32]; N] = array::from_fn(|head| &weights[head * positions..][..positions]);
    // SAFETY: the caller shows the instructions, here and below.
    let mut sums = [[unsafe { V::zero() }; COUNT]; N];
    for (head, sums) in sums.iter_mut().enumerate() {
        let out = &out[head * head_dim + begin..][..8 * COUNT];
        for (sum, out) in sums.iter_mut().zip(out.as_chunks().0) {
            // SAFETY: as above.
            *sum = unsafe { f32::load(out) };
        }
    }
    for (position, value) in values.chunks_exact(head_dim).take(positions).enumerate() {
        let value = value[begin..][..8 * COUNT].as_chunks().0;
        for (v, value) in value.iter().enumerate() {
            // SAFETY: as above.
            let value: V = unsafe { E::load(value) };
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                // SAFETY: as above.
                sums[v] = unsafe { value.mul_add(V::splat(weights[position]), sums[v]) };
            }
        }
    }
    for (head, sums) in sums.into_iter().enumerate() {
        let out = &mut out[head * head_dim + begin..][..8 * COUNT];
        for (sum, out) in sums.into_iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: as above.
            unsafe { sum.store(out) };
        }
    }
}
