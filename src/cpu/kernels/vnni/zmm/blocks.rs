//! Trits times int8 where each block has a scale, for few activation rows. The blocks of sixteen weight rows are multiplied in the
//! order in which they lie, and eight vectors of sums at a time are added across lanes. Their integers are then brought
//! into lanes that are weight rows, as in [panels](crate::cpu::kernels::panel), and made floats, block after block as there.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice;

use crate::cpu::kernels::avx2::{prefetch_far, prefetch_stream};
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::panel::{LANES, in_lanes};
use crate::cpu::kernels::vnni::Vector;
use crate::cpu::kernels::{BlockRow, BlockTile, BlockWeights};
use crate::format::ternary::BLOCK_BYTES;

/// Most blocks of a weight row that are multiplied before their sums become floats. Longer rows, of more than 20480 columns, are not
/// read in one stream.
const STRETCH: usize = 160;
/// Blocks whose sums are added across lanes together.
const EIGHT: usize = 8;

/// Room for the sums of some blocks of sixteen weight rows: `[output][eight blocks]`.
type Room = [MaybeUninit<[i32; EIGHT]>; LANES * STRETCH / EIGHT];

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>) {
    let (rows, mut room) = (tile.tile.rows, [MaybeUninit::uninit(); LANES * STRETCH / EIGHT]);
    for output in (0..tile.tile.outputs).step_by(LANES) {
        let outputs = output..tile.tile.outputs.min(output + LANES);
        for row in 0..rows {
            let mut lanes = _mm512_setzero_ps();
            for first in (0..tile.tile.blocks).step_by(STRETCH) {
                let blocks = first..tile.tile.blocks.min(first + STRETCH);
                let sums = multiply(&mut room, tile, outputs.clone(), row, blocks.clone());
                lanes = add(lanes, sums, tile, outputs.clone(), row, blocks);
            }
            let mut values = [0.0; LANES];
            // SAFETY: sixteen floats; the store may be unaligned.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), lanes) };
            let places = out[output * rows..].iter_mut().skip(row).step_by(rows);
            places.zip(values).for_each(|(out, value)| *out = value);
        }
    }
}

/// The sums of some blocks of some weight rows, at most sixteen, with an activation row: `[output][block]`, a whole number of eights
/// for each weight row. Their scales are fetched meanwhile.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn multiply<'a>(
    room: &'a mut Room,
    tile: &BlockTile<'_>,
    outputs: Range<usize>,
    row: usize,
    blocks: Range<usize>,
) -> &'a [i32] {
    let (x, last_x) = tile.row(row).x[blocks.clone()].as_chunks::<EIGHT>();
    let eights = blocks.len().div_ceil(EIGHT);
    for (output, room) in outputs.clone().zip(room.chunks_exact_mut(eights)) {
        let BlockWeights { codes, scales } = tile.weights(output);
        let (codes, last_codes) = codes[blocks.clone()].as_chunks::<EIGHT>();
        let scales = scales[blocks.clone()].chunks(EIGHT);
        let (sums, last_sums) = room.split_at_mut(x.len());
        for ((sums, scales), (codes, x)) in sums.iter_mut().zip(scales).zip(codes.iter().zip(x)) {
            prefetch_stream(scales.as_ptr().cast());
            sums.write(eight_sums(codes, x));
        }
        if let [sums] = last_sums {
            sums.write(eight_sums(last_codes, last_x));
        }
    }
    // SAFETY: `eights` of each weight row, one row after the other, and each was written: the whole ones, then the last.
    unsafe { slice::from_raw_parts(room.as_ptr().cast(), outputs.len() * eights * EIGHT) }
}

/// The sums of at most eight blocks that follow each other; zeros for those that are not there.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn eight_sums(codes: &[[u8; 32]], x: &[[i8; 128]]) -> [i32; EIGHT] {
    let mut lanes = [_mm512_setzero_si512(); EIGHT];
    for (block, (lanes, (codes, x))) in lanes.iter_mut().zip(codes.iter().zip(x)).enumerate() {
        if block % 2 == 0 {
            prefetch_stream(codes.as_ptr());
        }
        // SAFETY: this function's instructions are those that `__m512i` needs.
        unsafe {
            let high = __m512i::zero().add_products(__m512i::codes(codes, 0), __m512i::activations(x, 0)).shift_down();
            *lanes = high.add_products(__m512i::codes(codes, 1), __m512i::activations(x, 1));
        }
    }
    let mut sums = [0; EIGHT];
    // SAFETY: eight sums; the store may be unaligned.
    unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), totals(lanes)) };
    sums
}

/// Adds the sums of some blocks of some weight rows, less those of the activations, times their scales: `[output]`. The codes that
/// come next are fetched meanwhile, a line for each block.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add(
    mut values: __m512,
    sums: &[i32],
    tile: &BlockTile<'_>,
    outputs: Range<usize>,
    row: usize,
    blocks: Range<usize>,
) -> __m512 {
    let BlockRow { sums: x_sums, steps, .. } = tile.row(row);
    let stride = sums.len() / outputs.len();
    let is_last = blocks.end == tile.tile.blocks;
    let after = if is_last { (outputs.end, 0) } else { (outputs.start, blocks.end) };
    let mut next = tile.tile.codes.as_ptr().wrapping_add(after.0 * tile.tile.codes_stride + after.1 * BLOCK_BYTES);
    for first in blocks.clone().step_by(LANES) {
        let some = first..blocks.end.min(first + LANES);
        let sums = in_lanes(outputs.len(), |i| &sums[i * stride + first - blocks.start..][..some.len()]);
        let scales = in_lanes(outputs.len(), |i| bytemuck::cast_slice(&tile.scales(outputs.start + i)[some.clone()]));
        for (block, (sums, scales)) in some.clone().zip(sums.into_iter().zip(scales)) {
            prefetch_far(next);
            next = next.wrapping_add(LINE);
            // Codes are trits + 1, so the sum of the activations is too much.
            let sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(x_sums[block]));
            let factors = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_set1_ps(steps[block]));
            values = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, values);
        }
    }
    values
}

/// The sum over the lanes of each of eight vectors, whose low halves count four times. A lane is at most 8 · 12 · 128 = 12288 there and a
/// quarter of it in the high halves, so that each, and the sum of two, fits 16 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn totals(v: [__m512i; EIGHT]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = v;
    // Each 128 bits hold the sums of four vectors over as many lanes of theirs.
    let first = halved(halved(a, b), halved(c, d));
    let second = halved(halved(e, f), halved(g, h));
    let low = _mm512_shuffle_i32x4::<0x44>(first, second);
    let high = _mm512_shuffle_i32x4::<0xee>(first, second);
    let sums = _mm512_add_epi32(_mm512_srai_epi32::<2>(low), high);
    let even = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0x08>(sums, sums));
    let odd = _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0x0d>(sums, sums));
    _mm256_add_epi32(even, odd)
}

/// The sums of neighbouring lanes of two vectors, which fit 16 bits: in each 128 bits those of `a`, then those of `b`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halved(a: __m512i, b: __m512i) -> __m512i {
    _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1))
}
