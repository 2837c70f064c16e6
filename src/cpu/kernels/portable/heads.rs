//! The two products of attention.

use std::ops::Range;

use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, KEYS_TOGETHER, QUERIES_TOGETHER, Scores};

/// [`crate::cpu::kernels::Kernels::scores`]. Keys are widened once for several queries.
pub(super) fn scores(scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
    match keys {
        Entries::F16(keys) => scores_of(scores, q, keys, factor, half),
        Entries::F32(keys) => scores_of(scores, q, keys, factor, |key| key),
    }
}

fn scores_of<E: Copy>(scores: &mut [Scores], q: &[f32], keys: &[E], factor: f32, widen: impl Fn(E) -> f32 + Copy) {
    let head_dim = q.len() / scores.len();
    let (several, rest) = scores.as_chunks_mut::<QUERIES_TOGETHER>();
    let (q_several, q_rest) = q.split_at(several.len() * QUERIES_TOGETHER * head_dim);
    for (scores, q) in several.iter_mut().zip(q_several.chunks_exact(QUERIES_TOGETHER * head_dim)) {
        scores_of_queries(scores, q, keys, factor, widen);
    }
    for (scores, q) in rest.iter_mut().zip(q_rest.chunks_exact(head_dim)) {
        scores_of_queries(std::array::from_mut(scores), q, keys, factor, widen);
    }
}

fn scores_of_queries<E: Copy, const N: usize>(
    scores: &mut [Scores; N],
    q: &[f32],
    keys: &[E],
    factor: f32,
    widen: impl Fn(E) -> f32,
) {
    let head_dim = q.len() / N;
    let q: [&[f32]; N] = std::array::from_fn(|query| &q[query * head_dim..][..head_dim]);
    let (features, rest) = keys.as_chunks::<KEYS_TOGETHER>();
    assert!(rest.is_empty() && features.len().is_multiple_of(head_dim));
    for (place, features) in features.chunks_exact(head_dim).enumerate() {
        let mut sums = [[0.0f32; KEYS_TOGETHER]; N];
        for (feature, keys) in features.iter().enumerate() {
            let keys: [f32; KEYS_TOGETHER] = std::array::from_fn(|lane| widen(keys[lane]));
            for (sums, q) in sums.iter_mut().zip(q) {
                sums.iter_mut().zip(keys).for_each(|(sum, key)| *sum += key * q[feature]);
            }
        }
        for (scores, sums) in scores.iter_mut().zip(sums) {
            let scores = &mut scores[place * KEYS_TOGETHER..][..KEYS_TOGETHER];
            scores.iter_mut().zip(sums).for_each(|(score, sum)| *score = sum * factor);
        }
    }
}

/// [`crate::cpu::kernels::Kernels::mix`], for the features of each head from `begin` on.
pub(crate) fn mix(out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>, begin: usize) {
    match values {
        Entries::F16(values) => mix_of(out, weights, positions, values, begin, half),
        Entries::F32(values) => mix_of(out, weights, positions, values, begin, |value| value),
    }
}

fn mix_of<E: Copy>(
    out: &mut [f32],
    weights: &[Scores],
    positions: Range<usize>,
    values: &[E],
    begin: usize,
    widen: impl Fn(E) -> f32,
) {
    let head_dim = out.len() / weights.len();
    for (out, weights) in out.chunks_exact_mut(head_dim).zip(weights) {
        for (value, weight) in values.chunks_exact(head_dim).zip(&weights[positions.clone()]) {
            for (o, &v) in out[begin..].iter_mut().zip(&value[begin..]) {
                *o += widen(v) * weight;
            }
        }
    }
}
