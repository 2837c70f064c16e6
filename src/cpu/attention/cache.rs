//! The cache of keys and values. Those of one head lie together, so that its attention reads two streams: values position by position,
//! keys feature by feature for some positions at a time, as [`Kernels::scores`](crate::cpu::kernels::Kernels::scores) reads them.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::backend::{CachePlace, CachePrecision, CacheShape, Heads, Misfit, Row};
use crate::cpu::aligned::Aligned;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::floats::{half, largest_magnitude};
use crate::cpu::kernels::{Entries, KEYS_TOGETHER};
use crate::error::{Error, Result};

/// Keys and values of one layer.
#[derive(Debug)]
pub struct Cache {
    shape: CacheShape,
    keys: Store,   // [slots, kv_heads, positions / KEYS_TOGETHER, head_dim, KEYS_TOGETHER]
    values: Store, // [slots, kv_heads, positions, head_dim]
}

/// Pages of memory that were never written are not there yet.
#[derive(Debug)]
enum Store {
    F16(Aligned<u16>),
    F32(Aligned<f32>),
}

impl Cache {
    /// An empty cache.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for it.
    pub(crate) fn new(shape: CacheShape) -> Result<Self> {
        let no_memory =
            || Error::out_of_memory(format!("no memory for a cache of {shape:?}: fewer slots or positions need less"));
        let positions = shape.positions.checked_next_multiple_of(KEYS_TOGETHER).ok_or_else(no_memory)?;
        let padded = CacheShape { positions, ..shape };
        padded.bytes().filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(no_memory)?;
        let store = |positions: usize| {
            let entries = shape.slots * shape.kv_heads * positions * shape.head_dim;
            Ok(match shape.precision {
                CachePrecision::F16 => Store::F16(Aligned::zeroed(entries).map_err(|_| no_memory())?),
                CachePrecision::F32 => Store::F32(Aligned::zeroed(entries).map_err(|_| no_memory())?),
            })
        };
        Ok(Self { shape, keys: store(positions)?, values: store(shape.positions)? })
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
        2 * self.shape.kv_heads * self.shape.head_dim * self.shape.precision.bytes()
    }

    /// What it was made for.
    pub(crate) fn shape(&self) -> CacheShape {
        self.shape
    }

    /// The keys of some positions of a sequence's head, from a multiple of [`KEYS_TOGETHER`] on, and those that lie together with the last.
    pub(crate) fn keys(&self, sequence: u32, kv_head: usize, positions: Range<usize>) -> Entries<'_> {
        let (begin, head_dim) = (keys_begin(&self.shape, sequence, kv_head), self.shape.head_dim);
        let end = positions.end.next_multiple_of(KEYS_TOGETHER);
        self.keys.entries().slice(begin + positions.start * head_dim..begin + end * head_dim)
    }

    /// The values of some positions of a sequence's head.
    pub(crate) fn values(&self, sequence: u32, kv_head: usize, positions: Range<usize>) -> Entries<'_> {
        let (begin, head_dim) = (values_begin(&self.shape, sequence, kv_head), self.shape.head_dim);
        self.values.entries().slice(begin + positions.start * head_dim..begin + positions.end * head_dim)
    }

    fn check_place(&self, CachePlace { slot, kv_head, positions }: CachePlace) {
        let CacheShape { slots, positions: most, kv_heads, .. } = self.shape;
        let inside = (slot as usize) < slots && kv_head < kv_heads && positions <= most;
        assert!(inside, "a place outside of {:?}", self.shape);
    }

    /// Keys and values of the first positions of a head, `[positions, head_dim]` each.
    pub(crate) fn read(&self, place: CachePlace, keys: &mut [f32], values: &mut [f32]) {
        self.check_place(place);
        let head_dim = self.shape.head_dim;
        assert_eq!((keys.len(), values.len()), (place.positions * head_dim, place.positions * head_dim));
        self.values.read(values_begin(&self.shape, place.slot, place.kv_head), 1, values);
        for (position, key) in keys.chunks_exact_mut(head_dim).enumerate() {
            self.keys.read(key_begin(&self.shape, place.slot, place.kv_head, position), KEYS_TOGETHER, key);
        }
    }

    /// Overwrites what [`Cache::read`] reads.
    pub(crate) fn write(&mut self, place: CachePlace, keys: &[f32], values: &[f32]) {
        self.check_place(place);
        let head_dim = self.shape.head_dim;
        assert_eq!((keys.len(), values.len()), (place.positions * head_dim, place.positions * head_dim));
        let cache = self.split();
        for (position, (key, value)) in keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim)).enumerate() {
            // SAFETY: the whole cache is borrowed for this call.
            unsafe { cache.write(place.slot, place.kv_head, position, key, value) };
        }
    }

    /// Copies the first positions of one slot over those of another.
    pub(crate) fn copy_prefix(&mut self, from: u32, to: u32, positions: usize) {
        let head_dim = self.shape.head_dim;
        for kv_head in 0..self.shape.kv_heads {
            [from, to].into_iter().for_each(|slot| self.check_place(CachePlace { slot, kv_head, positions }));
            let [values, to_values] = [from, to].map(|slot| values_begin(&self.shape, slot, kv_head));
            self.values.copy(values..values + positions * head_dim, to_values);
            let [keys, to_keys] = [from, to].map(|slot| keys_begin(&self.shape, slot, kv_head));
            let (whole, rest) = (positions / KEYS_TOGETHER * KEYS_TOGETHER * head_dim, positions % KEYS_TOGETHER);
            self.keys.copy(keys..keys + whole, to_keys);
            if rest > 0 {
                for feature in (whole..).step_by(KEYS_TOGETHER).take(head_dim) {
                    self.keys.copy(keys + feature..keys + feature + rest, to_keys + feature);
                }
            }
        }
    }

    /// The cache, to be written by several threads.
    pub(crate) fn split(&mut self) -> CacheHeads<'_> {
        CacheHeads { shape: self.shape, keys: self.keys.split(), values: self.values.split() }
    }
}

/// Where the values of one head begin.
fn values_begin(shape: &CacheShape, sequence: u32, kv_head: usize) -> usize {
    (sequence as usize * shape.kv_heads + kv_head) * shape.positions * shape.head_dim
}

/// Where the keys of one head begin.
fn keys_begin(shape: &CacheShape, sequence: u32, kv_head: usize) -> usize {
    let positions = shape.positions.next_multiple_of(KEYS_TOGETHER);
    (sequence as usize * shape.kv_heads + kv_head) * positions * shape.head_dim
}

/// Where the first feature of a key lies; the others are [`KEYS_TOGETHER`] apart.
fn key_begin(shape: &CacheShape, sequence: u32, kv_head: usize, position: usize) -> usize {
    let place = position % KEYS_TOGETHER;
    keys_begin(shape, sequence, kv_head) + (position - place) * shape.head_dim + place
}

impl Store {
    fn entries(&self) -> Entries<'_> {
        match self {
            Store::F16(entries) => Entries::F16(entries),
            Store::F32(entries) => Entries::F32(entries),
        }
    }

    /// Reads entries that are `apart`.
    fn read(&self, begin: usize, apart: usize, out: &mut [f32]) {
        match self {
            Store::F16(entries) => {
                let entries = entries[begin..].iter().step_by(apart);
                out.iter_mut().zip(entries).for_each(|(o, &entry)| *o = half(entry));
            }
            Store::F32(entries) => {
                let entries = entries[begin..].iter().step_by(apart);
                out.iter_mut().zip(entries).for_each(|(o, &entry)| *o = entry);
            }
        }
    }

    fn copy(&mut self, from: Range<usize>, to: usize) {
        match self {
            Store::F16(entries) => entries.copy_within(from, to),
            Store::F32(entries) => entries.copy_within(from, to),
        }
    }

    fn split(&mut self) -> SplitStore<'_> {
        match self {
            Store::F16(entries) => SplitStore::F16(Disjoint::new(entries)),
            Store::F32(entries) => SplitStore::F32(Disjoint::new(entries)),
        }
    }
}

/// A cache that several threads write, each its own key/value heads.
pub(crate) struct CacheHeads<'a> {
    shape: CacheShape,
    keys: SplitStore<'a>,
    values: SplitStore<'a>,
}

impl CacheHeads<'_> {
    /// Writes a key and a value.
    ///
    /// # Safety
    /// No other thread may write to the same head meanwhile.
    pub(super) unsafe fn write(&self, sequence: u32, kv_head: usize, position: usize, key: &[f32], value: &[f32]) {
        let place = values_begin(&self.shape, sequence, kv_head) + position * self.shape.head_dim;
        // SAFETY: all these places belong to the head.
        unsafe {
            self.values.write(place, 1, value);
            self.keys.write(key_begin(&self.shape, sequence, kv_head, position), KEYS_TOGETHER, key);
        }
    }
}

enum SplitStore<'a> {
    F16(Disjoint<'a, u16>),
    F32(Disjoint<'a, f32>),
}

/// Features that are converted at a time.
const CONVERTED: usize = 64;

impl SplitStore<'_> {
    /// Writes the features of a head to places that are `apart`.
    ///
    /// # Safety
    /// No other thread may write to places from the first to the last of these meanwhile.
    unsafe fn write(&self, begin: usize, apart: usize, x: &[f32]) {
        let places = begin..begin + (x.len() - 1) * apart + 1;
        match self {
            SplitStore::F16(entries) => {
                // SAFETY: the caller has these places to itself.
                let entries = unsafe { entries.cut(places) };
                if let Some(misfit) = Misfit::of(largest_magnitude(x)) {
                    return entries.iter_mut().step_by(apart).for_each(|entry| *entry = misfit.f16_bits());
                }
                let mut converted = [f16::ZERO; CONVERTED];
                for (x, entries) in x.chunks(CONVERTED).zip(entries.chunks_mut(CONVERTED * apart)) {
                    converted[..x.len()].convert_from_f32_slice(x);
                    entries.chunks_mut(apart).zip(&converted).for_each(|(entry, x)| entry[0] = x.to_bits());
                }
            }
            SplitStore::F32(entries) => {
                // SAFETY: as above.
                let entries = unsafe { entries.cut(places) };
                entries.chunks_mut(apart).zip(x).for_each(|(entry, x)| entry[0] = *x);
            }
        }
    }
}
