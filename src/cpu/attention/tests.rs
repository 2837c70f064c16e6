//! Attention that threads share, and the kernels of each set.

use super::*;
use crate::backend::{CachePlace, CachePrecision, CacheShape};
use crate::cpu::KernelSet;
use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, KEYS_TOGETHER, POSITIONS, Scores};

/// Numbers between −1 and 1 that a seed stands for.
fn random(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / 2f32.powi(31)
    };
    (0..len).map(|_| next()).collect()
}

fn all_kernels() -> impl Iterator<Item = &'static dyn Kernels> {
    KernelSet::available().into_iter().filter_map(|set| set.table())
}

/// What `rows` rows at the end of a context of so many positions get.
fn attended(
    kernels: &'static dyn Kernels,
    threads: usize,
    heads: Heads,
    context: usize,
    rows: usize,
    before: f32,
) -> Vec<f32> {
    let shape = CacheShape {
        slots: 1,
        positions: context + 100,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        precision: CachePrecision::F16,
        window: None,
    };
    let mut cache = Cache::new(shape).expect("it is small");
    for kv_head in 0..heads.kv_heads {
        // What was there before, and lies beyond the context.
        let stale = vec![before; shape.positions * heads.head_dim];
        cache.write(CachePlace { slot: 0, kv_head, positions: shape.positions }, &stale, &stale);
        let [keys, values] = [1, 2].map(|seed| random(seed + 2 * kv_head as u32, context * heads.head_dim));
        cache.write(CachePlace { slot: 0, kv_head, positions: context }, &keys, &values);
    }
    let mut qkv = Tensor::new(rows, heads.qkv_cols()).expect("it is small");
    qkv.values.copy_from_slice(&random(7, rows * heads.qkv_cols()));
    let positions = (context - rows) as u32..context as u32;
    let rows: Vec<Row> = positions.map(|position| Row { sequence: 0, position, wants_logits: false }).collect();
    let workers = Workers::start(threads, kernels).expect("the system has threads");
    let (mut room, mut out) = (Room::default(), vec![f32::NAN; rows.len() * heads.query_cols()]);
    room.reserve(&cache, heads, threads).expect("it is small");
    Attention { kernels, rows: &rows, qkv: &qkv, cache: &cache, heads }.run(&workers, &mut room, &mut out);
    assert!(out.iter().all(|v| v.is_finite()));
    out
}

/// Several blocks a task, which the last task of a group has fewer of; and more blocks than there are sums for, in turns.
#[test]
fn threads_that_share_a_long_context_make_the_bits_of_one() {
    let kernels = KernelSet::best().table().expect("the best is there");
    let of = |heads, kv_heads, head_dim| Heads { heads, kv_heads, head_dim };
    let cases = [(of(4, 2, 32), 5000), (of(2, 1, 32), 7300), (of(256, 1, 128), 6000), (of(3, 3, 64), 300)];
    for ((heads, context), rows) in cases.into_iter().flat_map(|case| [(case, 1), (case, 3), (case, 9)]) {
        let alone = attended(kernels, 1, heads, context, rows, 0.0);
        for threads in [2, 3, 5] {
            assert!(
                attended(kernels, threads, heads, context, rows, 0.0) == alone,
                "{heads:?}, {rows} rows, {threads} threads"
            );
        }
    }
}

#[test]
fn what_lies_beyond_a_row_does_not_matter() {
    let heads = Heads { heads: 4, kv_heads: 2, head_dim: 40 };
    for kernels in all_kernels() {
        for rows in [1, 15, 17, 63] {
            let [clean, stale] = [0.0, f32::NAN].map(|before| attended(kernels, 2, heads, 63, rows, before));
            assert!(stale == clean, "{rows} rows");
        }
    }
}

#[test]
fn halves_are_widened_exactly() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let wanted: Vec<u32> = halves.iter().map(|&bits| half(bits).to_bits()).collect();
    for kernels in all_kernels() {
        for len in [1, 7, 15, 17, halves.len()] {
            let mut out = vec![0.0f32; len];
            kernels.widen(&mut out, &halves[..len]);
            let same = |(o, (wanted, bits)): (&f32, (&u32, &u16))| {
                o.to_bits() == *wanted || o.is_nan() && half(*bits).is_nan()
            };
            assert!(out.iter().zip(wanted.iter().zip(&halves)).all(same), "{} of {len}", kernels.set());
        }
    }
}

/// The loops that define them, in f64.
#[test]
fn kernels_compute_what_they_are_to() {
    for (kernels, head_dim) in
        all_kernels().flat_map(|kernels| [6, 36, 80, 96, 112, 128].map(|head_dim| (kernels, head_dim)))
    {
        for queries in 1..=9 {
            let q = random(3, queries * head_dim);
            for positions in (KEYS_TOGETHER..=POSITIONS).step_by(KEYS_TOGETHER) {
                let keys = random(4, positions * head_dim);
                let mut scores: Vec<Scores> = vec![[7.0; POSITIONS]; queries];
                kernels.scores(&mut scores, &q, Entries::F32(&keys), 0.5);
                for (scores, q) in scores.iter().zip(q.chunks(head_dim)) {
                    for (position, &score) in scores[..positions].iter().enumerate() {
                        let begin = position / KEYS_TOGETHER * KEYS_TOGETHER * head_dim + position % KEYS_TOGETHER;
                        let key = keys[begin..].iter().step_by(KEYS_TOGETHER);
                        let wanted: f64 =
                            q.iter().zip(key).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>() / 2.0;
                        assert!((f64::from(score) - wanted).abs() < 1e-5, "{score} is not {wanted}");
                    }
                    assert!(scores[positions..].iter().all(|&score| score == 7.0), "nothing is written beyond");
                }
            }
            let (weights, values) = (random(5, queries * POSITIONS), random(6, POSITIONS * head_dim));
            let weights: &[Scores] = weights.as_chunks().0;
            for places in [0..1, 3..17, 5..POSITIONS] {
                let mut out = vec![1.0; queries * head_dim];
                kernels.mix(&mut out, weights, places.clone(), Entries::F32(&values[..places.len() * head_dim]));
                for (place, &o) in out.iter().enumerate() {
                    let (query, feature) = (place / head_dim, place % head_dim);
                    let products = places.clone().enumerate().map(|(i, position)| {
                        f64::from(weights[query][position]) * f64::from(values[i * head_dim + feature])
                    });
                    let wanted = 1.0 + products.sum::<f64>();
                    assert!((f64::from(o) - wanted).abs() < 1e-5, "{o} is not {wanted}");
                }
            }
        }
    }
}

#[test]
fn a_cache_beyond_any_memory_is_an_error() {
    for positions in [usize::MAX, usize::MAX - 15, usize::MAX / 64, 1 << 57] {
        let shape =
            CacheShape { slots: 1, positions, kv_heads: 1, head_dim: 32, precision: CachePrecision::F16, window: None };
        assert!(Cache::new(shape).is_err(), "{positions}");
    }
}
