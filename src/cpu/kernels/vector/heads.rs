//! The two products of attention: queries with keys, and weights with values. Query heads that share a key/value head
//! come by fours, twos and ones, so that each load and conversion of an entry serves all of them; eight or sixteen sums (heads
//! times positions, or heads times vectors of features) go together, so that additions do not wait for each other.

use std::array;

use super::Vector;
use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, portable};

/// Some f32 in registers, as attention uses them: the eight of [`Vector`], or sixteen.
///
/// # Safety
/// As for [`Vector`]; addresses have `LANES` values, of any alignment.
pub(in crate::cpu::kernels) trait Lanes: Copy {
    /// How many f32 there are.
    const LANES: usize;
    /// Sums that go together: with what they are made of, as many as fit the registers.
    const SUMS: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load_f16(entries: *const u16) -> Self;
    unsafe fn load_f32(values: *const f32) -> Self;
    unsafe fn store(self, values: *mut f32);
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The sums of the lanes of `SUMS` vectors.
    unsafe fn add_lanes(vectors: &[Self], sums: &mut [f32]);
    /// Asks for the cache line at `near`, and for that at `far` into the second cache. They need not exist.
    fn fetch(near: *const u8, far: *const u8);
}

impl<V: Vector> Lanes for V {
    const LANES: usize = 8;
    const SUMS: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows the instructions, here and below.
        unsafe { <V as Vector>::zero() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        unsafe { <V as Vector>::splat(value) }
    }

    #[inline(always)]
    unsafe fn load_f16(entries: *const u16) -> Self {
        // SAFETY: as above; there are 16 bytes, says the caller.
        unsafe { V::from_f16(&*entries.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f32(values: *const f32) -> Self {
        // SAFETY: as above; there are 32 bytes, says the caller.
        unsafe { V::from_f32(&*values.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, values: *mut f32) {
        // SAFETY: as above; there is room for eight, says the caller.
        unsafe { <V as Vector>::store(self, &mut *values.cast()) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        unsafe { <V as Vector>::mul_add(self, factor, addend) }
    }

    #[inline(always)]
    unsafe fn add_lanes(vectors: &[Self], sums: &mut [f32]) {
        for (four, sums) in vectors.as_chunks::<4>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
            // SAFETY: as above.
            *sums = unsafe { <V as Vector>::add_lanes(*four) };
        }
    }

    #[inline(always)]
    fn fetch(near: *const u8, far: *const u8) {
        V::fetch(near, far);
    }
}

/// Positions between those that are worked on and those that are fetched meanwhile.
const NEAR: usize = 4;
/// The same, of those that are fetched into the second cache, which waits for more lines at once.
const FAR: usize = 32;
/// Bytes of a line of the cache.
const LINE: usize = 64;

/// A number format of the cache.
trait Entry: Copy {
    /// # Safety
    /// The CPU has the instructions of `V`, and as many entries lie at the address.
    unsafe fn load<V: Lanes>(entries: *const Self) -> V;
    fn scalar(self) -> f32;
}

impl Entry for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(entries: *const u16) -> V {
        // SAFETY: the caller shows the instructions and the entries.
        unsafe { V::load_f16(entries) }
    }

    #[inline(always)]
    fn scalar(self) -> f32 {
        half(self)
    }
}

impl Entry for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(entries: *const f32) -> V {
        // SAFETY: the caller shows the instructions and the entries.
        unsafe { V::load_f32(entries) }
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
pub(in crate::cpu::kernels) unsafe fn scores<V: Lanes>(
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
unsafe fn scores_of<V: Lanes, E: Entry>(
    mut scores: &mut [f32],
    mut q: &[f32],
    keys: &[E],
    head_dim: usize,
    factor: f32,
) {
    let positions = scores.len() / (q.len() / head_dim);
    let has_rest = !head_dim.is_multiple_of(V::LANES);
    let factor_now = if has_rest { 1.0 } else { factor };
    while !q.is_empty() {
        let heads = heads_together(q.len() / head_dim);
        let (some, others) = q.split_at(heads * head_dim);
        let (places, later) = scores.split_at_mut(heads * positions);
        // SAFETY: the caller shows the instructions.
        unsafe {
            match (heads, V::SUMS) {
                (4, 16) => scores_of_heads::<V, E, 4, 4>(places, some, keys, head_dim, factor_now),
                (2, 16) => scores_of_heads::<V, E, 2, 8>(places, some, keys, head_dim, factor_now),
                (_, 16) => scores_of_heads::<V, E, 1, 16>(places, some, keys, head_dim, factor_now),
                (4, _) => scores_of_heads::<V, E, 4, 2>(places, some, keys, head_dim, factor_now),
                (2, _) => scores_of_heads::<V, E, 2, 4>(places, some, keys, head_dim, factor_now),
                _ => scores_of_heads::<V, E, 1, 8>(places, some, keys, head_dim, factor_now),
            }
        }
        if has_rest {
            add_rest(places, some, keys, head_dim, V::LANES, factor);
        }
        (scores, q) = (later, others);
    }
}

/// How many of the heads that are left go together.
#[inline(always)]
fn heads_together(left: usize) -> usize {
    match left {
        4.. => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `N` heads, `P` positions at a time; `N * P` is [`Lanes::SUMS`]. A score is the sum of the same lanes, in the same order, for each
/// `N` and `P`.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn scores_of_heads<V: Lanes, E: Entry, const N: usize, const P: usize>(
    scores: &mut [f32],
    q: &[f32],
    keys: &[E],
    head_dim: usize,
    factor: f32,
) {
    let positions = scores.len() / N;
    assert!(q.len() == N * head_dim && scores.len() == N * positions && keys.len() >= positions * head_dim);
    let whole = head_dim / V::LANES * V::LANES;
    for first in (0..positions).step_by(P) {
        // The last position stands in where there are fewer; its score is not used then.
        let begins: [usize; P] = array::from_fn(|i| (first + i).min(positions - 1) * head_dim);
        // SAFETY: the caller shows the instructions, here and below.
        let mut sums = [[unsafe { V::zero() }; P]; N];
        for begin in begins {
            fetch_ahead::<V, E>(keys.as_ptr().wrapping_add(begin), head_dim, head_dim);
        }
        for feature in (0..whole).step_by(V::LANES) {
            // SAFETY: the instructions.
            let mut some = [unsafe { V::zero() }; P];
            for (key, begin) in some.iter_mut().zip(begins) {
                // SAFETY: a vector of features from `feature` on is inside a head, and the position is one of `positions`,
                // whose keys were asserted to be there.
                *key = unsafe { E::load(keys.as_ptr().add(begin + feature)) };
            }
            for (head, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above; there are `N` heads in `q`.
                let q = unsafe { V::load_f32(q.as_ptr().add(head * head_dim + feature)) };
                for (sum, key) in sums.iter_mut().zip(some) {
                    // SAFETY: the instructions.
                    *sum = unsafe { key.mul_add(q, *sum) };
                }
            }
        }
        let mut totals = [[0.0; P]; N];
        // SAFETY: the instructions.
        unsafe { V::add_lanes(sums.as_flattened(), totals.as_flattened_mut()) };
        for (head, totals) in totals.iter().enumerate() {
            let scores = &mut scores[head * positions + first..(head + 1) * positions];
            scores.iter_mut().zip(totals).for_each(|(score, total)| *score = total * factor);
        }
    }
}

/// Asks for what lies `count` values from `entries` on in positions to come.
#[inline(always)]
fn fetch_ahead<V: Lanes, E>(entries: *const E, count: usize, head_dim: usize) {
    let [near, far] = [NEAR, FAR].map(|positions| entries.wrapping_add(positions * head_dim).cast::<u8>());
    (0..count * size_of::<E>())
        .step_by(LINE)
        .for_each(|byte| V::fetch(near.wrapping_add(byte), far.wrapping_add(byte)));
}

/// Adds the products of the features beyond whole vectors, which few models have. Apart from the loops above, which
/// would be slower with this in them.
#[inline(never)]
fn add_rest<E: Entry>(scores: &mut [f32], q: &[f32], keys: &[E], head_dim: usize, lanes: usize, factor: f32) {
    let positions = scores.len() / (q.len() / head_dim);
    let whole = head_dim / lanes * lanes;
    for (scores, q) in scores.chunks_exact_mut(positions).zip(q.chunks_exact(head_dim)) {
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
            let rest = key[whole..].iter().zip(&q[whole..]);
            *score = rest.fold(*score, |sum, (k, q)| sum + k.scalar() * q) * factor;
        }
    }
}

/// [`crate::cpu::kernels::Kernels::mix`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn mix<V: Lanes>(
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
    if !head_dim.is_multiple_of(V::LANES) {
        portable::mix(out, weights, values, head_dim, head_dim / V::LANES * V::LANES);
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn mix_of<V: Lanes, E: Entry>(mut out: &mut [f32], mut weights: &[f32], values: &[E], head_dim: usize) {
    let positions = weights.len() / (out.len() / head_dim);
    while !out.is_empty() {
        let heads = heads_together(out.len() / head_dim);
        let (some, others) = out.split_at_mut(heads * head_dim);
        let (their_weights, later) = weights.split_at(heads * positions);
        let mut begin = 0;
        while begin + V::LANES <= head_dim {
            // Each feature is summed over positions in order, however many go together.
            let vectors = (head_dim - begin) / V::LANES;
            // SAFETY: the caller shows the instructions.
            begin += V::LANES
                * unsafe {
                    match (heads, vectors) {
                        (4, 4..) if V::SUMS == 16 => {
                            mix_features::<V, E, 4, 4>(some, their_weights, values, head_dim, begin)
                        }
                        (2, 8..) if V::SUMS == 16 => {
                            mix_features::<V, E, 2, 8>(some, their_weights, values, head_dim, begin)
                        }
                        (4, 2..) => mix_features::<V, E, 4, 2>(some, their_weights, values, head_dim, begin),
                        (4, _) => mix_features::<V, E, 4, 1>(some, their_weights, values, head_dim, begin),
                        (2, 4..) => mix_features::<V, E, 2, 4>(some, their_weights, values, head_dim, begin),
                        (2, _) => mix_features::<V, E, 2, 1>(some, their_weights, values, head_dim, begin),
                        (_, 8..) => mix_features::<V, E, 1, 8>(some, their_weights, values, head_dim, begin),
                        (_, 4..) => mix_features::<V, E, 1, 4>(some, their_weights, values, head_dim, begin),
                        _ => mix_features::<V, E, 1, 1>(some, their_weights, values, head_dim, begin),
                    }
                };
        }
        (out, weights) = (others, later);
    }
}

/// The `COUNT` vectors of features from `begin` on, of `N` heads; returns `COUNT`.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn mix_features<V: Lanes, E: Entry, const N: usize, const COUNT: usize>(
    out: &mut [f32],
    weights: &[f32],
    values: &[E],
    head_dim: usize,
    begin: usize,
) -> usize {
    let positions = weights.len() / N;
    assert!(weights.len() == N * positions && values.len() >= positions * head_dim);
    assert!(out.len() == N * head_dim && begin + V::LANES * COUNT <= head_dim);
    // SAFETY: the caller shows the instructions, here and below.
    let mut sums = [[unsafe { V::zero() }; COUNT]; N];
    for (head, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `out` was asserted to have these features of all `N` heads.
            *sum = unsafe { V::load_f32(out.as_ptr().add(head * head_dim + begin + V::LANES * v)) };
        }
    }
    for position in 0..positions {
        fetch_ahead::<V, E>(values.as_ptr().wrapping_add(position * head_dim + begin), COUNT * V::LANES, head_dim);
        // SAFETY: the instructions.
        let mut some = [unsafe { V::zero() }; COUNT];
        for (v, value) in some.iter_mut().enumerate() {
            // SAFETY: `values` was asserted to have all features of all positions.
            *value = unsafe { E::load(values.as_ptr().add(position * head_dim + begin + V::LANES * v)) };
        }
        for (head, sums) in sums.iter_mut().enumerate() {
            // SAFETY: there are `positions` weights of each of the `N` heads, as asserted.
            let weight = unsafe { V::splat(*weights.get_unchecked(head * positions + position)) };
            for (sum, value) in sums.iter_mut().zip(some) {
                // SAFETY: the instructions.
                *sum = unsafe { value.mul_add(weight, *sum) };
            }
        }
    }
    for (head, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: `out` was asserted to have these features of all `N` heads.
            unsafe { sum.store(out.as_mut_ptr().add(head * head_dim + begin + V::LANES * v)) };
        }
    }
    COUNT
}
