//! Trits times int8 for sixteen activation rows, without a multiplication: a packed byte holds four trits, so it has 81
//! values, and for each the four products summed are looked up. One addition of 32 bytes stands for 64 products.
//!
//! A pass takes eight bytes of every weight row of a span: it builds their eight tables, which stay in the nearest
//! cache, and adds eight entries to the sums of each row. Tables cost 81 entries a byte, which is why a span is long;
//! places in them are found once for up to four sets of sixteen rows.
//! (Published as Vec-LUT, arXiv 2512.06443; here it needs no format of its own, and it is exact.)

use std::arch::x86_64::*;
use std::array;

use crate::cpu::kernels::Tile;
use crate::cpu::kernels::spans::{PANEL, SET, SPAN, TakeSums, boxed};

/// Tables in use at a time. 81 entries of 32 bytes each: together 20 KiB, which fits the nearest cache of every CPU.
const TABLES: usize = 8;
/// What one lookup needs at most, for a byte that is not checked to be below 81.
const ENTRIES: usize = 256;

/// A value of 16 bits for each activation row.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Lanes([i16; SET]);

/// Sets of activation rows that are worked on together: finding the places of a weight row costs about as much as looking them
/// up, and serves all of them. Of more of them, the sums would not stay in the second cache.
pub(super) const SETS: usize = 4;

/// The sums of each weight row with a set of activation rows.
type SetSums = [[i32; SET]; SPAN];

/// What a thread keeps: with the sums half a megabyte, most of which stays in the second cache while a span of weight rows
/// is worked on.
pub(super) struct Room {
    /// The columns of a block: `[128]`.
    x: Box<[Lanes; 128]>,
    /// The sums that a packed byte may stand for, side by side for consecutive bytes. Those beyond 81 are never touched.
    entries: Box<[[Lanes; TABLES]; ENTRIES]>,
    /// The packed bytes of a block as places in the tables: `[32 / TABLES, SPAN]`.
    places: Box<[[[u8; TABLES]; SPAN]; 32 / TABLES]>,
    /// Sums of few columns: `[SETS, SPAN]`.
    near: Box<[[Lanes; SPAN]; SETS]>,
    /// Sums of all columns so far.
    sums: Box<[SetSums; SETS]>,
    /// Those of a panel, as they are given out.
    panel: Box<[[i32; PANEL]; SETS * SET]>,
}

impl Room {
    pub(super) fn new() -> Self {
        let zero = Lanes([0; SET]);
        Self {
            x: boxed(zero),
            entries: boxed([zero; TABLES]),
            places: boxed([[0; TABLES]; SPAN]),
            near: boxed([zero; SPAN]),
            sums: boxed([[0; SET]; SPAN]),
            panel: boxed([0; PANEL]),
        }
    }
}

/// Passes until 16-bit sums are widened. A pass adds eight entries of four products of at most 128: 4096. Seven make
/// 28672, so a lane cannot wrap.
const PASSES: usize = 7;

/// [`crate::cpu::kernels::Kernels::span_codes`].
#[target_feature(enable = "avx2")]
pub(super) fn span_codes(room: &mut Room, tile: &Tile<'_>, take: TakeSums<'_, i32>) -> bool {
    let (outputs, sets) = (tile.outputs, tile.rows.div_ceil(SET));
    assert!(outputs <= SPAN && sets <= SETS);
    room.sums[..sets].iter_mut().for_each(|sums| sums[..outputs].fill([0; SET]));
    let mut passes = 0; // of each set
    for block in 0..tile.blocks {
        if !find_places(room, tile, block) {
            return false;
        }
        let passes_before = passes;
        for set in 0..sets {
            transpose(&mut room.x, tile, set * SET, block);
            passes = passes_before;
            for pass in 0..room.places.len() {
                for table in 0..TABLES {
                    build(room, table, pass * TABLES + table);
                }
                if passes == 0 {
                    room.near[set][..outputs].fill(Lanes([0; SET]));
                }
                look_up(room, set, pass, outputs);
                passes += 1;
                if passes == PASSES {
                    widen(&mut room.sums[set], &room.near[set], outputs);
                    passes = 0;
                }
            }
        }
    }
    if passes > 0 {
        (0..sets).for_each(|set| widen(&mut room.sums[set], &room.near[set], outputs));
    }
    for first in (0..outputs).step_by(PANEL) {
        for (row, sums) in room.panel[..tile.rows].iter_mut().enumerate() {
            let of_outputs = &room.sums[row / SET][first..outputs.min(first + PANEL)];
            sums.iter_mut().zip(of_outputs).for_each(|(sum, of_rows)| *sum = of_rows[row % SET]);
        }
        take(first, &room.panel[..tile.rows]);
    }
    true
}

/// Turns one block of each weight row into places, `27 a + 9 b + 3 c + d` for the codes `a` to `d` of a byte from the
/// top; false if there is a code 3.
#[inline]
#[target_feature(enable = "avx2")]
fn find_places(room: &mut Room, tile: &Tile<'_>, block: usize) -> bool {
    let low = nibbles(|nibble| 3 * (nibble >> 2) + (nibble & 3));
    let high = nibbles(|nibble| 27 * (nibble >> 2) + 9 * (nibble & 3));
    let (mask, mut threes) = (_mm256_set1_epi8(15), _mm256_setzero_si256());
    for output in 0..tile.outputs {
        let bytes = &tile.weights(output)[block];
        // SAFETY: a block has 32 bytes; the load may be unaligned.
        let v = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        let shifted = _mm256_srli_epi16::<1>(v);
        threes = _mm256_or_si256(threes, _mm256_and_si256(v, shifted));
        let from_low = _mm256_shuffle_epi8(low, _mm256_and_si256(v, mask));
        let from_high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask));
        let mut places = [[0; TABLES]; 4];
        // SAFETY: `places` has 32 bytes; the store may be unaligned.
        unsafe { _mm256_storeu_si256(places.as_mut_ptr().cast(), _mm256_add_epi8(from_low, from_high)) };
        for (all, places) in room.places.iter_mut().zip(places) {
            all[output] = places;
        }
    }
    // Both bits of a field: the lower one is at an even place.
    _mm256_testz_si256(threes, _mm256_set1_epi8(0b01_01_01_01)) == 1
}

/// A table of what each nibble becomes, for `vpshufb`.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(value: impl Fn(u8) -> u8) -> __m256i {
    let table: [u8; 16] = array::from_fn(|nibble| value(nibble as u8));
    // SAFETY: `table` has 16 bytes; the load may be unaligned.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// Turns a block of sixteen activation rows into columns of 16 bits. Rows that are not there are zeros.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(out: &mut [Lanes; 128], tile: &Tile<'_>, first: usize, block: usize) {
    const NONE: [i8; 128] = [0; 128];
    let x: [&[i8; 128]; SET] =
        array::from_fn(|row| if first + row < tile.rows { &tile.activations(first + row)[block] } else { &NONE });
    for (sixteenth, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let mut v: [__m128i; 16] = array::from_fn(|row| {
            let x = &x[row].as_chunks::<16>().0[sixteenth];
            // SAFETY: `x` has 16 bytes; the load may be unaligned.
            unsafe { _mm_loadu_si128(x.as_ptr().cast()) }
        });
        // Each round interleaves the rows of the two halves; after four, a vector is a column.
        for _ in 0..4 {
            v = array::from_fn(|i| match i % 2 {
                0 => _mm_unpacklo_epi8(v[i / 2], v[i / 2 + 8]),
                _ => _mm_unpackhi_epi8(v[i / 2], v[i / 2 + 8]),
            });
        }
        for (out, v) in out.iter_mut().zip(v) {
            store(out, _mm256_cvtepi8_epi16(v));
        }
    }
}

/// Builds the table of one byte of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn build(room: &mut Room, table: usize, byte: usize) {
    let x = [0, 32, 64, 96].map(|quarter| load(&room.x[byte + quarter]));
    let mut place = 0;
    for a in times_trit(_mm256_setzero_si256(), x[0]) {
        for b in times_trit(a, x[1]) {
            for c in times_trit(b, x[2]) {
                for d in times_trit(c, x[3]) {
                    store(&mut room.entries[place][table], d);
                    place += 1;
                }
            }
        }
    }
}

/// `sum + trit * x` for the trits -1, 0, 1.
#[inline]
#[target_feature(enable = "avx2")]
fn times_trit(sum: __m256i, x: __m256i) -> [__m256i; 3] {
    [_mm256_sub_epi16(sum, x), sum, _mm256_add_epi16(sum, x)]
}

/// Adds what the eight bytes of a pass stand for to the near sums of each weight row.
#[inline]
#[target_feature(enable = "avx2")]
fn look_up(room: &mut Room, set: usize, pass: usize, outputs: usize) {
    let Room { entries, places, near, .. } = room;
    for (near, places) in near[set][..outputs].iter_mut().zip(&places[pass]) {
        let mut sum = load(near);
        for (table, place) in places.iter().enumerate() {
            sum = _mm256_add_epi16(sum, load(&entries[usize::from(*place)][table]));
        }
        store(near, sum);
    }
}

/// Adds the near sums of a set to its sums.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(sums: &mut SetSums, near: &[Lanes; SPAN], outputs: usize) {
    for (sums, near) in sums[..outputs].iter_mut().zip(near) {
        for (sum, near) in sums.iter_mut().zip(near.0) {
            *sum += i32::from(near);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(lanes: &Lanes) -> __m256i {
    // SAFETY: 32 bytes, aligned to as many.
    unsafe { _mm256_load_si256(lanes.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(lanes: &mut Lanes, v: __m256i) {
    // SAFETY: 32 bytes, aligned to as many.
    unsafe { _mm256_store_si256(lanes.0.as_mut_ptr().cast(), v) };
}
