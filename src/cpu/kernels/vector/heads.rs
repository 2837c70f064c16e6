//! The two products of attention: queries with keys, and weights with values. Lanes of the first are positions, whose keys lie
//! feature by feature; lanes of the second are features. Queries that share a key/value head come by fours, twos and ones, so that
//! each load and conversion of an entry serves all of them; several sums (queries times vectors) go together, so that additions do
//! not wait for each other.

use std::array;
use std::ops::Range;

use super::Vector;
use crate::cpu::floats::half;
use crate::cpu::kernels::{Entries, FEW_QUERIES, KEYS_TOGETHER, POSITIONS, QUERIES_TOGETHER, Scores, portable};

/// Some f32 in registers, as attention uses them: the eight of [`Vector`], or sixteen.
///
/// # Safety
/// As for [`Vector`]; addresses have `LANES` values, of any alignment.
pub(in crate::cpu::kernels) trait Lanes: Copy {
    /// How many f32 there are.
    const LANES: usize;
    /// Sums that go together, at most: with what they are made of, as many as fit the registers.
    const SUMS: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load_f16(entries: *const u16) -> Self;
    unsafe fn load_f32(values: *const f32) -> Self;
    unsafe fn store(self, values: *mut f32);
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
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
    fn fetch(near: *const u8, far: *const u8) {
        V::fetch(near, far);
    }
}

/// Features of keys between those that are worked on and those that are fetched meanwhile.
const NEAR_FEATURES: usize = 8;
/// Positions of values between those that are worked on and those that are fetched meanwhile.
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
}

impl Entry for u16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(entries: *const u16) -> V {
        // SAFETY: the caller shows the instructions and the entries.
        unsafe { V::load_f16(entries) }
    }
}

impl Entry for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(entries: *const f32) -> V {
        // SAFETY: the caller shows the instructions and the entries.
        unsafe { V::load_f32(entries) }
    }
}

/// [`crate::cpu::kernels::Kernels::scores`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn scores<V: Lanes>(
    scores: &mut [Scores],
    q: &[f32],
    keys: Entries<'_>,
    factor: f32,
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match keys {
            Entries::F16(keys) => scores_of::<V, _>(scores, q, keys, factor),
            Entries::F32(keys) => scores_of::<V, _>(scores, q, keys, factor),
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn scores_of<V: Lanes, E: Entry>(mut scores: &mut [Scores], mut q: &[f32], keys: &[E], factor: f32) {
    let (head_dim, fetches) = (q.len() / scores.len(), scores.len() <= FEW_QUERIES);
    while !scores.is_empty() {
        let queries = together(scores.len());
        let (some, later) = scores.split_at_mut(queries);
        let (some_q, others) = q.split_at(queries * head_dim);
        // SAFETY: the caller shows the instructions.
        unsafe {
            match (queries, V::SUMS) {
                (4, 16) => scores_of_queries::<V, E, 4, 4>(some, some_q, keys, factor, fetches),
                (4, _) => scores_of_queries::<V, E, 4, 2>(some, some_q, keys, factor, fetches),
                (2, _) => scores_of_queries::<V, E, 2, 4>(some, some_q, keys, factor, fetches),
                (_, 16) => scores_of_queries::<V, E, 1, 4>(some, some_q, keys, factor, fetches),
                _ => scores_of_queries::<V, E, 1, 8>(some, some_q, keys, factor, fetches),
            }
        }
        (scores, q) = (later, others);
    }
}

/// How many of the queries that are left go together.
#[inline(always)]
fn together(left: usize) -> usize {
    match left {
        QUERIES_TOGETHER.. => QUERIES_TOGETHER,
        2 | 3 => 2,
        _ => 1,
    }
}

/// `N` queries, `P` vectors of positions at a time.
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn scores_of_queries<V: Lanes, E: Entry, const N: usize, const P: usize>(
    scores: &mut [Scores],
    q: &[f32],
    keys: &[E],
    factor: f32,
    fetches: bool,
) {
    const { assert!(KEYS_TOGETHER.is_multiple_of(V::LANES)) };
    let head_dim = q.len() / N;
    let positions = keys.len() / head_dim;
    assert!(scores.len() == N && q.len() == N * head_dim && keys.len() == positions * head_dim);
    assert!(0 < positions && positions <= POSITIONS && positions.is_multiple_of(KEYS_TOGETHER));
    let vectors = positions / V::LANES;
    for first in (0..vectors).step_by(P) {
        // The last vector stands in where there are fewer; its scores are not written then.
        let begins: [usize; P] = array::from_fn(|i| {
            let position = (first + i).min(vectors - 1) * V::LANES;
            position / KEYS_TOGETHER * KEYS_TOGETHER * head_dim + position % KEYS_TOGETHER
        });
        // SAFETY: the caller shows the instructions, here and below.
        let mut sums = [[unsafe { V::zero() }; P]; N];
        for feature in 0..head_dim {
            // SAFETY: the instructions.
            let mut some = [unsafe { V::zero() }; P];
            for (key, begin) in some.iter_mut().zip(begins) {
                let entries = keys.as_ptr().wrapping_add(begin + feature * KEYS_TOGETHER);
                // SAFETY: a feature has `KEYS_TOGETHER` positions, which are whole vectors; blocks of positions are inside the keys; both
                // as asserted.
                *key = unsafe { E::load(entries) };
                if fetches && begin.is_multiple_of(KEYS_TOGETHER) {
                    let far = entries.wrapping_add(POSITIONS * head_dim);
                    V::fetch(entries.wrapping_add(NEAR_FEATURES * KEYS_TOGETHER).cast(), far.cast());
                }
            }
            for (query, sums) in sums.iter_mut().enumerate() {
                // SAFETY: there are `N` queries in `q`, each with that feature.
                let q = unsafe { V::splat(*q.get_unchecked(query * head_dim + feature)) };
                for (sum, key) in sums.iter_mut().zip(some) {
                    // SAFETY: the instructions.
                    *sum = unsafe { key.mul_add(q, *sum) };
                }
            }
        }
        for (scores, sums) in scores.iter_mut().zip(&sums) {
            for (v, sum) in sums.iter().enumerate() {
                if first + v < vectors {
                    let scores = &mut scores[(first + v) * V::LANES..][..V::LANES];
                    // SAFETY: the instructions; there is room for a vector.
                    unsafe { sum.mul_add(V::splat(factor), V::zero()).store(scores.as_mut_ptr()) };
                }
            }
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
    weights: &[Scores],
    positions: Range<usize>,
    values: Entries<'_>,
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match values {
            Entries::F16(values) => mix_of::<V, _>(out, weights, &positions, values),
            Entries::F32(values) => mix_of::<V, _>(out, weights, &positions, values),
        }
    }
    let head_dim = out.len() / weights.len();
    if !head_dim.is_multiple_of(V::LANES) {
        portable::mix(out, weights, positions, values, head_dim / V::LANES * V::LANES);
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn mix_of<V: Lanes, E: Entry>(
    mut out: &mut [f32],
    mut weights: &[Scores],
    positions: &Range<usize>,
    values: &[E],
) {
    let (head_dim, fetches) = (out.len() / weights.len(), weights.len() <= FEW_QUERIES);
    while !out.is_empty() {
        let queries = together(weights.len());
        let (some, others) = out.split_at_mut(queries * head_dim);
        let (of_some, later) = weights.split_at(queries);
        let mut part = Mix { weights: of_some, positions: positions.clone(), values, begin: 0, fetches };
        while part.begin + V::LANES <= head_dim {
            // Each feature is summed over positions in order, however many go together.
            let vectors = (head_dim - part.begin) / V::LANES;
            // SAFETY: the caller shows the instructions.
            unsafe {
                match (queries, vectors) {
                    (4, 4..) if V::SUMS == 16 => part.features::<V, 4, 4>(some),
                    (2, 8..) if V::SUMS == 16 => part.features::<V, 2, 8>(some),
                    (4, 2..) => part.features::<V, 4, 2>(some),
                    (4, _) => part.features::<V, 4, 1>(some),
                    (2, 4..) => part.features::<V, 2, 4>(some),
                    (2, _) => part.features::<V, 2, 1>(some),
                    (_, 8..) => part.features::<V, 1, 8>(some),
                    (_, 6..) => part.features::<V, 1, 6>(some),
                    (_, 4..) => part.features::<V, 1, 4>(some),
                    _ => part.features::<V, 1, 1>(some),
                }
            }
        }
        (out, weights) = (others, later);
    }
}

/// Values that some queries mix, and the first of the features that are mixed next.
struct Mix<'a, E> {
    weights: &'a [Scores],
    positions: Range<usize>,
    values: &'a [E], // [positions, head_dim]
    begin: usize,
    fetches: bool,
}

impl<E: Entry> Mix<'_, E> {
    /// The next `COUNT` vectors of features, of `N` queries.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`.
    #[inline(always)]
    unsafe fn features<V: Lanes, const N: usize, const COUNT: usize>(&mut self, out: &mut [f32]) {
        let (head_dim, begin, weights, values) = (out.len() / N, self.begin, self.weights, self.values);
        let Range { start, end } = self.positions;
        assert!(weights.len() == N && start <= end && end <= POSITIONS && values.len() >= (end - start) * head_dim);
        assert!(out.len() == N * head_dim && begin + V::LANES * COUNT <= head_dim);
        self.begin += V::LANES * COUNT;
        // SAFETY: the caller shows the instructions, here and below.
        let mut sums = [[unsafe { V::zero() }; COUNT]; N];
        for (query, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `out` was asserted to have these features of all `N` queries.
                *sum = unsafe { V::load_f32(out.as_ptr().add(query * head_dim + begin + V::LANES * v)) };
            }
        }
        for position in start..end {
            let entries = values.as_ptr().wrapping_add((position - start) * head_dim + begin);
            if self.fetches {
                fetch_ahead::<V, E>(entries, COUNT * V::LANES, head_dim);
            }
            // SAFETY: the instructions.
            let mut some = [unsafe { V::zero() }; COUNT];
            for (v, value) in some.iter_mut().enumerate() {
                // SAFETY: `values` was asserted to have all features of all positions.
                *value = unsafe { E::load(entries.add(V::LANES * v)) };
            }
            for (weights, sums) in weights.iter().zip(&mut sums) {
                // SAFETY: a position of a tile, as asserted.
                let weight = unsafe { V::splat(*weights.get_unchecked(position)) };
                for (sum, value) in sums.iter_mut().zip(some) {
                    // SAFETY: the instructions.
                    *sum = unsafe { value.mul_add(weight, *sum) };
                }
            }
        }
        for (query, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                // SAFETY: `out` was asserted to have these features of all `N` queries.
                unsafe { sum.store(out.as_mut_ptr().add(query * head_dim + begin + V::LANES * v)) };
            }
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

/// [`crate::cpu::kernels::Kernels::widen`].
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn widen<V: Lanes>(out: &mut [f32], halves: &[u16]) {
    assert_eq!(out.len(), halves.len());
    let whole = out.len() / V::LANES * V::LANES;
    for (out, halves) in out[..whole].chunks_exact_mut(V::LANES).zip(halves.chunks_exact(V::LANES)) {
        // SAFETY: the caller shows the instructions; both have a vector.
        unsafe { V::load_f16(halves.as_ptr()).store(out.as_mut_ptr()) };
    }
    out[whole..].iter_mut().zip(&halves[whole..]).for_each(|(o, &bits)| *o = half(bits));
}
