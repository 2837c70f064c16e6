//! Trits times int8 with `vpmaddubsw`: it multiplies 32 unsigned codes with 32 signed activations and adds neighbours,
//! giving 16 sums of 16 bits.
//!
//! A block of 32 bytes, shifted right by 6, 4, 2 and 0 and masked, gives the codes of four runs of 32 consecutive
//! columns. One activation row: one stream of weights, fetched ahead by software, and sums of four weight rows added
//! across lanes together. Several activation rows: the four vectors of codes stay in registers for all of them.

use std::arch::x86_64::*;
use std::array;

use super::lanes::{ByFours, add_lanes_f32, each_sum};
use super::{prefetch_soon, prefetch_stream};
use crate::cpu::kernels::{BlockRow, BlockTile, SCALES_TOGETHER, Tile, TileScales};

/// [`crate::cpu::kernels::Kernels::dot_codes`].
#[target_feature(enable = "avx2")]
pub(super) fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    assert_eq!(sums.len(), tile.sums());
    match tile.rows {
        1 => one_row(sums, tile),
        2 => many_rows::<2>(sums, tile),
        3 => many_rows::<3>(sums, tile),
        4 => many_rows::<4>(sums, tile),
        5 => many_rows::<5>(sums, tile),
        6 => many_rows::<6>(sums, tile),
        7 => many_rows::<7>(sums, tile),
        8 => many_rows::<8>(sums, tile),
        rows => unreachable!("a tile of {rows} rows"),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn one_row(sums: &mut [i32], tile: &Tile<'_>) {
    let x = tile.activations(0);
    let mut sums = ByFours::new(sums);
    for output in 0..tile.outputs {
        let groups = tile.weights(output).chunks(tile.group).zip(x.chunks(tile.group));
        for (group, (codes, x)) in groups.enumerate() {
            sums.push(output * tile.groups() + group, dot_one(codes, x));
        }
    }
    sums.finish();
}

/// One weight row and one activation row; the sum is over the lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_one(codes: &[[u8; 32]], x: &[[i8; 128]]) -> __m256i {
    // A 16-bit lane of `a` or `b` gains two fields of two products of at most 3·128 a block: 1536. Twenty blocks make
    // 30720, so it cannot wrap. (`vpmaddubsw` itself saturates at 32767, far above 768.)
    const STRETCH: usize = 20;
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_si256();
    for (codes, x) in codes.chunks(STRETCH).zip(x.chunks(STRETCH)) {
        let (mut a, mut b) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (block, x) in codes.iter().zip(x) {
            prefetch_stream(block.as_ptr());
            let codes = unpack(block);
            a = _mm256_add_epi16(a, _mm256_maddubs_epi16(codes[0], load_x(x, 0)));
            b = _mm256_add_epi16(b, _mm256_maddubs_epi16(codes[1], load_x(x, 1)));
            a = _mm256_add_epi16(a, _mm256_maddubs_epi16(codes[2], load_x(x, 2)));
            b = _mm256_add_epi16(b, _mm256_maddubs_epi16(codes[3], load_x(x, 3)));
        }
        // Widened by themselves: `a + b` could wrap.
        let wide = _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
        sum = _mm256_add_epi32(sum, wide);
    }
    sum
}

#[inline]
#[target_feature(enable = "avx2")]
fn many_rows<const ROWS: usize>(sums: &mut [i32], tile: &Tile<'_>) {
    let groups = tile.groups();
    let x: [&[[i8; 128]]; ROWS] = array::from_fn(|row| tile.activations(row));
    for (output, sums) in sums.chunks_exact_mut(ROWS * groups).enumerate() {
        for (g, codes) in tile.weights(output).chunks(tile.group).enumerate() {
            let x = array::from_fn(|row| &x[row][g * tile.group..][..codes.len()]);
            each_sum(&dot_many::<ROWS>(codes, x), |row, sum| sums[row * groups + g] = sum);
        }
    }
}

/// One weight row and several activation rows; the sums are over the lanes of each vector.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_many<const ROWS: usize>(codes: &[[u8; 32]], x: [&[[i8; 128]]; ROWS]) -> [__m256i; ROWS] {
    // A 16-bit lane gains four fields of two products of at most 3·128 a block: 3072. Ten blocks make 30720, so it
    // cannot wrap.
    const STRETCH: usize = 10;
    for x in &x {
        assert_eq!(x.len(), codes.len());
    }
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); ROWS];
    for (stretch, codes) in codes.chunks(STRETCH).enumerate() {
        let mut lanes = [_mm256_setzero_si256(); ROWS];
        for (b, block) in codes.iter().enumerate() {
            prefetch_stream(block.as_ptr());
            let codes = unpack(block);
            for (lanes, x) in lanes.iter_mut().zip(&x) {
                // SAFETY: each row has as many blocks as there are codes, by the assertion above, and `stretch` and `b`
                // count through those.
                let x = unsafe { x.get_unchecked(stretch * STRETCH + b) };
                for (field, codes) in codes.iter().enumerate() {
                    *lanes = _mm256_add_epi16(*lanes, _mm256_maddubs_epi16(*codes, load_x(x, field)));
                }
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(lanes) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(lanes, ones));
        }
    }
    sums
}

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    for (output, out) in out.chunks_exact_mut(tile.tile.rows).enumerate() {
        prefetch_soon(scales.soon, output, tile.tile.outputs);
        for (some, out) in out.chunks_mut(4).enumerate() {
            match out.len() {
                1 => block_rows::<1>(out, tile, scales, output, 4 * some),
                2 => block_rows::<2>(out, tile, scales, output, 4 * some),
                3 => block_rows::<3>(out, tile, scales, output, 4 * some),
                _ => block_rows::<4>(out, tile, scales, output, 4 * some),
            }
        }
    }
}

/// One weight row and some activation rows from `first` on. The sums of a block become floats in their lanes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn block_rows<const ROWS: usize>(
    out: &mut [f32],
    tile: &BlockTile<'_>,
    scales: TileScales<'_>,
    output: usize,
    first: usize,
) {
    let rows: [BlockRow<'_>; ROWS] = array::from_fn(|i| tile.row(first + i));
    let ones = _mm256_set1_epi16(1);
    let mut totals = [_mm256_setzero_ps(); ROWS];
    for (b, (block, scales)) in tile.tile.weights(output).iter().zip(scales.values).enumerate() {
        prefetch_stream(block.as_ptr());
        let (codes, scale) = (unpack(block), scales[output % SCALES_TOGETHER]);
        for (total, row) in totals.iter_mut().zip(&rows) {
            // SAFETY: each row has as many blocks as there are codes.
            let (x, x_sum, factor) = unsafe {
                let factor = *row.steps.get_unchecked(b) * scale;
                (row.x.get_unchecked(b), *row.sums.get_unchecked(b), factor)
            };
            // A 16-bit lane gains four fields of two products of at most 3·128: 3072.
            let products: [__m256i; 4] = array::from_fn(|field| _mm256_maddubs_epi16(codes[field], load_x(x, field)));
            let pairs = [_mm256_add_epi16(products[0], products[1]), _mm256_add_epi16(products[2], products[3])];
            let sums = _mm256_madd_epi16(_mm256_add_epi16(pairs[0], pairs[1]), ones);
            // Codes are trits + 1, so the sum of the activations is too much.
            let sums = _mm256_sub_epi32(sums, _mm256_zextsi128_si256(_mm_cvtsi32_si128(x_sum)));
            *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(factor), *total);
        }
    }
    for (out, total) in out.iter_mut().zip(totals) {
        *out += add_lanes_f32(total);
    }
}

/// The codes of columns 0..32, 32..64, 64..96 and 96..128 of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn unpack(block: &[u8; 32]) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(3);
    // SAFETY: the block has 32 bytes; the load may be unaligned.
    let v = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
    // Bits that a 16-bit shift brings in from the neighbouring byte lie above the mask.
    [
        _mm256_and_si256(_mm256_srli_epi16::<6>(v), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(v), mask),
        _mm256_and_si256(v, mask),
    ]
}

/// 32 consecutive activations of a block.
#[inline]
#[target_feature(enable = "avx2")]
fn load_x(x: &[i8; 128], quarter: usize) -> __m256i {
    let quarter = &x.as_chunks::<32>().0[quarter];
    // SAFETY: a quarter has 32 bytes; the load may be unaligned.
    unsafe { _mm256_loadu_si256(quarter.as_ptr().cast()) }
}
