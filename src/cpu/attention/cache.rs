//! The cache of keys and values. Entries lie as `[slot][kv_head][position][head_dim]`, so that attention of one head
//! reads one stream.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use crate::backend::{CachePlace, CachePrecision, CacheShape, HeadNormOrder, Heads, Misfit, RopePairs, Row};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::floats::{self, largest_magnitude};
use crate::cpu::kernels::{Entries, Kernels};
use crate::cpu::tensor::norm_factor;
use crate::error::{Error, Result};

/// Keys and values of one layer.
#[derive(Debug)]
pub struct Cache {
    shape: CacheShape,
    keys: Store,
    values: Store,
}

/// `[slots, kv_heads, positions, head_dim]`. Pages of memory that were never written are not there yet.
#[derive(Debug)]
enum Store {
    F16(Box<[u16]>),
    F32(Box<[f32]>),
}

impl Cache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for it.
    pub(crate) fn new(shape: CacheShape) -> Result<Self> {
        let no_memory =
            || Error::out_of_memory(format!("no memory for a cache of {shape:?}: fewer slots or positions need less"));
        shape.bytes().filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(no_memory)?;
        let entries = shape.slots * shape.kv_heads * shape.positions * shape.head_dim;
        let store = || {
            Ok(match shape.precision {
                CachePrecision::F16 => {
                    Store::F16(bytemuck::allocation::try_zeroed_slice_box(entries).map_err(|()| no_memory())?)
                }
                CachePrecision::F32 => {
                    Store::F32(bytemuck::allocation::try_zeroed_slice_box(entries).map_err(|()| no_memory())?)
                }
            })
        };
        Ok(Self { shape, keys: store()?, values: store()? })
    }

    /// Panics unless the cache is one for these heads and has these places.
    pub(crate) fn check(&self, heads: Heads, rows: &[Row]) {
        let CacheShape { slots, positions, kv_heads, head_dim, .. } = self.shape;
        assert_eq!((heads.kv_heads, heads.head_dim), (kv_heads, head_dim), "the cache was made for other heads");
        for row in rows {
            let inside = (row.sequence as usize) < slots && (row.position as usize) < positions;
            assert!(inside, "{row:?} lies outside a cache of {slots} slots of {positions} positions");
        }
    }

    /// Bytes of the keys and values, as they were allocated.
    pub(crate) fn bytes(&self) -> u64 {
        let of = |store: &Store| match store {
            Store::F16(entries) => size_of_val(&entries[..]),
            Store::F32(entries) => size_of_val(&entries[..]),
        };
        (of(&self.keys) + of(&self.values)) as u64
    }

    /// Bytes of the keys and values of one position of one sequence.
    pub(crate) fn position_bytes(&self) -> usize {
        let places = (self.shape.slots * self.shape.positions).max(1);
        self.bytes() as usize / places
    }

    /// The first position that a row at `position` sees.
    pub(crate) fn first_seen(&self, position: usize) -> usize {
        self.shape.first_seen(position)
    }

    /// How many positions a row at `position` sees.
    pub(crate) fn seen(&self, position: usize) -> usize {
        position + 1 - self.first_seen(position)
    }

    /// Positions of each sequence.
    pub(crate) fn positions(&self) -> usize {
        self.shape.positions
    }

    /// The keys and the values of some positions of a sequence's head.
    pub(crate) fn entries(&self, sequence: u32, kv_head: usize, places: Range<usize>) -> (Entries<'_>, Entries<'_>) {
        let begin = head_begin(&self.shape, sequence, kv_head) + places.start * self.shape.head_dim;
        let places = begin..begin + places.len() * self.shape.head_dim;
        (self.keys.entries(places.clone()), self.values.entries(places))
    }

    /// What it was made for.
    pub(crate) fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Where the first positions of a head lie.
    fn places(&self, CachePlace { slot, kv_head, positions }: CachePlace) -> Range<usize> {
        let CacheShape { slots, positions: most, kv_heads, head_dim, .. } = self.shape;
        assert!(
            (slot as usize) < slots && kv_head < kv_heads && positions <= most,
            "a place outside of {:?}",
            self.shape
        );
        let begin = head_begin(&self.shape, slot, kv_head);
        begin..begin + positions * head_dim
    }

    /// Keys and values of the first positions of a head, `[positions, head_dim]` each.
    pub(crate) fn read(&self, place: CachePlace, keys: &mut [f32], values: &mut [f32]) {
        let places = self.places(place);
        for (store, out) in [(&self.keys, keys), (&self.values, values)] {
            match store {
                Store::F32(entries) => out.copy_from_slice(&entries[places.clone()]),
                Store::F16(entries) => {
                    bytemuck::cast_slice::<u16, half::f16>(&entries[places.clone()]).convert_to_f32_slice(out);
                }
            }
        }
    }

    /// Overwrites what [`Cache::read`] reads.
    pub(crate) fn write(&mut self, place: CachePlace, keys: &[f32], values: &[f32]) {
        let places = self.places(place);
        assert_eq!((keys.len(), values.len()), (places.len(), places.len()));
        for (store, x) in [(&mut self.keys, keys), (&mut self.values, values)] {
            // SAFETY: the whole cache is borrowed for this call.
            unsafe { store.split().write(places.start, x) };
        }
    }

    /// Copies the first positions of one slot over those of another.
    pub(crate) fn copy_prefix(&mut self, from: u32, to: u32, positions: usize) {
        for kv_head in 0..self.shape.kv_heads {
            let place = |slot| CachePlace { slot, kv_head, positions };
            let (from, to) = (self.places(place(from)), self.places(place(to)).start);
            for store in [&mut self.keys, &mut self.values] {
                match store {
                    Store::F16(entries) => entries.copy_within(from.clone(), to),
                    Store::F32(entries) => entries.copy_within(from.clone(), to),
                }
            }
        }
    }

    /// The cache, to be written by several threads.
    pub(crate) fn split(&mut self) -> CacheHeads<'_> {
        CacheHeads { shape: self.shape, keys: self.keys.split(), values: self.values.split() }
    }
}

/// Where the entries of one head begin.
fn head_begin(shape: &CacheShape, sequence: u32, kv_head: usize) -> usize {
    (sequence as usize * shape.kv_heads + kv_head) * shape.positions * shape.head_dim
}

impl Store {
    fn entries(&self, places: Range<usize>) -> Entries<'_> {
        match self {
            Store::F16(values) => Entries::F16(&values[places]),
            Store::F32(values) => Entries::F32(&values[places]),
        }
    }

    fn split(&mut self) -> SplitStore<'_> {
        match self {
            Store::F16(values) => SplitStore::F16(Disjoint::new(values)),
            Store::F32(values) => SplitStore::F32(Disjoint::new(values)),
        }
    }
}

/// A cache that several threads write, each its own key/value heads.
pub(crate) struct CacheHeads<'a> {
    shape: CacheShape,
    keys: SplitStore<'a>,
    values: SplitStore<'a>,
}

enum SplitStore<'a> {
    F16(Disjoint<'a, u16>),
    F32(Disjoint<'a, f32>),
}

impl SplitStore<'_> {
    /// # Safety
    /// No other thread may write the same places meanwhile.
    unsafe fn write(&self, begin: usize, x: &[f32]) {
        match self {
            SplitStore::F16(entries) => {
                // SAFETY: the caller has these places to itself.
                let entries: &mut [u16] = unsafe { entries.cut(begin..begin + x.len()) };
                match Misfit::of(largest_magnitude(x)) {
                    None => bytemuck::cast_slice_mut::<u16, half::f16>(entries).convert_from_f32_slice(x),
                    Some(misfit) => entries.fill(misfit.f16_bits()),
                }
            }
            // SAFETY: the caller has these places to itself.
            SplitStore::F32(entries) => unsafe { entries.cut(begin..begin + x.len()) }.copy_from_slice(x),
        }
    }
}

/// How heads are brought to their positions.
#[derive(Clone, Copy)]
pub(crate) struct Turning<'a> {
    pub(crate) rotations: &'a [f32], // [rows, 2 * pairs]
    pub(crate) pairs: RopePairs,
    pub(crate) norm: Option<Norming<'a>>,
}

/// RMSNorm of each head by itself.
#[derive(Clone, Copy)]
pub(crate) struct Norming<'a> {
    pub(crate) kernels: &'static dyn Kernels,
    pub(crate) query_gain: &'a [f32], // [head_dim]
    pub(crate) key_gain: &'a [f32],   // [head_dim]
    pub(crate) epsilon: f32,
    pub(crate) order: HeadNormOrder,
}

impl Norming<'_> {
    fn norm(&self, head: &mut [f32], gain: &[f32]) {
        let factor = norm_factor(self.kernels, head, self.epsilon);
        head.iter_mut().zip(gain).for_each(|(value, gain)| *value = *value * factor * gain);
    }
}

impl Turning<'_> {
    /// Norms and turns one head of a row.
    fn turn(&self, head: &mut [f32], is_query: bool, cosines: &[f32], sines: &[f32]) {
        let norm = |head: &mut [f32], order| {
            if let Some(norm) = self.norm.filter(|norm| norm.order == order) {
                norm.norm(head, if is_query { norm.query_gain } else { norm.key_gain });
            }
        };
        norm(head, HeadNormOrder::BeforeRope);
        floats::rotate(head, cosines, sines, self.pairs);
        norm(head, HeadNormOrder::AfterRope);
    }
}

/// Turns the queries of one key/value head's group in place for every row, and writes its turned keys and its values to the
/// cache. `qkv: [rows, heads.qkv_cols()]`.
///
/// # Safety
/// No two calls with the same `kv_head` may run at the same time, nor anything else that uses `qkv` or the cache. (All
/// rows of a head are one call, so that rows which name the same place do not race.)
pub(crate) unsafe fn rope_append_head(
    qkv: &Disjoint<'_, f32>,
    cache: &CacheHeads<'_>,
    rows: &[Row],
    turning: Turning<'_>,
    heads: Heads,
    kv_head: usize,
) {
    let (group, head_dim) = (heads.heads / heads.kv_heads, heads.head_dim);
    let turns = turning.rotations.len() / rows.len();
    for ((row, at), rotation) in rows.iter().enumerate().zip(turning.rotations.chunks_exact(turns)) {
        let (cosines, sines) = rotation.split_at(turns / 2);
        // SAFETY: these features belong to this group of heads alone, and so to this call; so do those below.
        let features = |head: usize, count: usize| unsafe {
            let begin = row * heads.qkv_cols() + head * head_dim;
            qkv.cut(begin..begin + count * head_dim)
        };
        for query in features(kv_head * group, group).chunks_exact_mut(head_dim) {
            turning.turn(query, true, cosines, sines);
        }
        let key = features(heads.heads + kv_head, 1);
        turning.turn(key, false, cosines, sines);
        let value = features(heads.heads + heads.kv_heads + kv_head, 1);
        let place = head_begin(&cache.shape, at.sequence, kv_head) + at.position as usize * head_dim;
        // SAFETY: the places belong to this key/value head, and so to this call.
        unsafe {
            cache.keys.write(place, key);
            cache.values.write(place, value);
        }
    }
}
