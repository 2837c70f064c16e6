//! Trits times int8 where each block has a scale, for few activation rows. The blocks of sixteen weight rows are multiplied in the
//! order in which they lie, two at a time, which are a line: half of a vector's lanes are the sums of one. The lanes of eight blocks are
//! added together. Their integers are then brought into lanes that are weight rows, as in [panels](crate::cpu::kernels::panel), and made
//! floats, block after block as there.

use std::arch::x86_64::*;
use std::mem::{self, MaybeUninit};
use std::slice;

use crate::cpu::kernels::avx2::{prefetch_far, prefetch_soon, prefetch_stream};
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::panel::{LANES, in_lanes};
use crate::cpu::kernels::{BlockRow, BlockTile, SCALED_BLOCKS, Tile, TileScales};
use crate::format::ternary::{BLOCK, BLOCK_BYTES};

/// Blocks whose sums are added across lanes together.
const EIGHT: usize = 8;
/// Blocks of a weight row that are a line.
const PAIR: usize = LINE / BLOCK_BYTES;
/// Pairs of eight blocks.
const PAIRS: usize = EIGHT / PAIR;
/// Fields of a byte of codes.
const FIELDS: usize = 4;

/// The activations of a pair of blocks as codes meet them: for each field those of the first block, then those of the second.
#[repr(align(64))]
struct Fields([[i8; LINE]; FIELDS]);

/// Room for the activations of a row's blocks: `[pair]`.
type Activations = [MaybeUninit<Fields>; SCALED_BLOCKS / PAIR];
/// Room for the sums of sixteen weight rows: `[output][eight blocks]`.
type Sums = [MaybeUninit<[i32; EIGHT]>; LANES * SCALED_BLOCKS / EIGHT];

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    let Tile { outputs, rows, .. } = tile.tile;
    assert!(outputs <= LANES);
    let mut activations: Activations = [const { MaybeUninit::uninit() }; SCALED_BLOCKS / PAIR];
    let mut sums: Sums = [MaybeUninit::uninit(); LANES * SCALED_BLOCKS / EIGHT];
    let mut soon = scales.soon;
    for row in 0..rows {
        let mut values = [0.0; LANES];
        values.iter_mut().zip(out[row..].iter().step_by(rows)).for_each(|(value, out)| *value = *out);
        let x = by_fields(&mut activations, tile.row(row).x);
        let sums = multiply(&mut sums, &tile.tile, x, mem::take(&mut soon));
        add(&mut values, sums, tile, scales, row);
        out[row..].iter_mut().step_by(rows).zip(values).for_each(|(out, value)| *out = value);
    }
}

/// The activations of a row, by fields, and zeros for what the last eight blocks lack.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn by_fields<'a>(room: &'a mut Activations, x: &[[i8; BLOCK]]) -> &'a [[Fields; PAIRS]] {
    let pairs = x.len().div_ceil(EIGHT) * PAIRS;
    for (pair, room) in room[..pairs].iter_mut().enumerate() {
        let room: *mut __m512i = room.as_mut_ptr().cast();
        let load = |block: Option<&[i8; BLOCK]>, field: usize| match block {
            // SAFETY: a block has 32 columns of each field, one field after the other; the load may be unaligned.
            Some(x) => unsafe { _mm256_loadu_si256(x.as_ptr().cast::<__m256i>().add(field)) },
            None => _mm256_setzero_si256(),
        };
        let (a, b) = (x.get(2 * pair), x.get(2 * pair + 1));
        for field in 0..FIELDS {
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(a, field)), load(b, field));
            // SAFETY: there is room for a vector of each field, aligned to as many bytes.
            unsafe { _mm512_store_si512(room.add(field), both) };
        }
    }
    // SAFETY: each of the first `pairs` was written.
    let pairs: &[Fields] = unsafe { slice::from_raw_parts(room.as_ptr().cast(), pairs) };
    pairs.as_chunks().0
}

/// The sums of the blocks of the weight rows with an activation row: `[output][block]`, a whole number of eights for each weight row.
/// What is read `soon` is fetched meanwhile, a share for each weight row.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn multiply<'a>(room: &'a mut Sums, tile: &Tile<'_>, x: &[[Fields; PAIRS]], soon: &[u8]) -> &'a [i32] {
    let room = &mut room[..tile.outputs * x.len()];
    for (output, room) in room.chunks_exact_mut(x.len()).enumerate() {
        prefetch_soon(soon, output, tile.outputs);
        let (codes, last_codes) = tile.weights(output).as_chunks::<EIGHT>();
        let (sums, last_sums) = room.split_at_mut(codes.len());
        for (sums, (codes, x)) in sums.iter_mut().zip(codes.iter().zip(x)) {
            sums.write(eight_sums(codes, x));
        }
        if let ([sums], [.., x]) = (last_sums, x) {
            sums.write(eight_sums(last_codes, x));
        }
    }
    // SAFETY: `x.len()` eights of each weight row, one row after the other, and each was written: the whole ones, then the last.
    unsafe { slice::from_raw_parts(room.as_ptr().cast(), room.len() * EIGHT) }
}

/// The sums of at most eight blocks that follow each other; zeros for those that are not there.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn eight_sums(codes: &[[u8; BLOCK_BYTES]], x: &[Fields; PAIRS]) -> [i32; EIGHT] {
    let mut lanes = [_mm512_setzero_si512(); PAIRS];
    for ((lanes, codes), x) in lanes.iter_mut().zip(codes.chunks(PAIR)).zip(x) {
        prefetch_stream(codes.as_ptr().cast());
        // Eight bytes a bit.
        let mask = if codes.len() == PAIR { 0xff } else { 0x0f };
        // SAFETY: the mask asks for the codes of as many blocks as there are; the load may be unaligned.
        *lanes = products(unsafe { _mm512_maskz_loadu_epi64(mask, codes.as_ptr().cast()) }, x);
    }
    let mut sums = [0; EIGHT];
    // SAFETY: eight sums; the store may be unaligned.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), totals(lanes)) };
    sums
}

/// The products of a line of codes: those of the first block in the low half, of the second in the high half. Of the fields of a
/// byte, the first and the third count four times, until they are shifted down: a lane is at most 8 · 12 · 128 = 12288 there, and
/// 3072 + 8 · 3 · 128 = 6144 in the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn products(codes: __m512i, Fields(x): &Fields) -> __m512i {
    let (upper, lower) = (_mm512_set1_epi8(0x0c), _mm512_set1_epi8(0x03));
    let high = _mm512_srli_epi16::<4>(codes);
    // SAFETY: 64 bytes each, aligned to as many.
    let [first, second, third, last] = x.each_ref().map(|x| unsafe { _mm512_load_si512(x.as_ptr().cast()) });
    let sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(high, upper), first);
    let sums = _mm512_srai_epi32::<2>(_mm512_dpbusd_epi32(sums, _mm512_and_si512(codes, upper), third));
    let sums = _mm512_dpbusd_epi32(sums, _mm512_and_si512(high, lower), second);
    _mm512_dpbusd_epi32(sums, _mm512_and_si512(codes, lower), last)
}

/// Adds the sums of the blocks of the weight rows, less those of the activations, times their scales: `[output]`. The codes of the
/// weight rows behind them are fetched meanwhile, a line for each block: they come next, unless rows are multiplied in pieces.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add(values: &mut [f32; LANES], sums: &[i32], tile: &BlockTile<'_>, scales: TileScales<'_>, row: usize) {
    let BlockRow { sums: x_sums, steps, .. } = tile.row(row);
    let Tile { codes, codes_stride, outputs, blocks, .. } = tile.tile;
    let stride = sums.len() / outputs;
    let mut next = codes.as_ptr().wrapping_add(outputs * codes_stride);
    // SAFETY: sixteen floats; the load may be unaligned.
    let mut lanes = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    for first in (0..blocks).step_by(LANES) {
        let some = first..blocks.min(first + LANES);
        let sums = in_lanes(outputs, |i| &sums[i * stride + first..][..some.len()]);
        let factors = scales.values[some.clone()].iter().zip(&steps[some.clone()]);
        for ((scales, step), (x_sum, sums)) in factors.zip(x_sums[some].iter().zip(sums)) {
            prefetch_far(next);
            next = next.wrapping_add(LINE);
            // Codes are trits + 1, so the sum of the activations is too much.
            let sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(*x_sum));
            // SAFETY: as above.
            let scales = unsafe { _mm512_loadu_ps(scales.as_ptr()) };
            let factors = _mm512_mul_ps(scales, _mm512_set1_ps(*step));
            lanes = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, lanes);
        }
    }
    // SAFETY: as above, of the store.
    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), lanes) };
}

/// The sums over the halves of four vectors: low, high, low, high ….
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn totals(v: [__m512i; PAIRS]) -> __m256i {
    let [a, b, c, d] = v;
    // Each 128 bits hold the sums of the four vectors over as many lanes of theirs.
    let quarters = halved(halved(a, b), halved(c, d));
    let halves = _mm512_add_epi32(quarters, _mm512_shuffle_i32x4::<0xb1>(quarters, quarters));
    let order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_castsi512_si256(_mm512_permutexvar_epi32(order, halves))
}

/// The sums of neighbouring lanes of two vectors, which fit 16 bits: in each 128 bits those of `a`, then those of `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halved(a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1))
}
