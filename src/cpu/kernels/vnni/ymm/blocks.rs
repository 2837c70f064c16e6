//! Trits times int8 where each block of activations has a scale: the sums of a block are made floats in their lanes, and
//! added there times a factor. Only the last vector of a row is added across its lanes.

use std::arch::x86_64::*;
use std::array;

use crate::cpu::kernels::avx2::lanes::add_lanes_f32;
use crate::cpu::kernels::avx2::{prefetch_soon, prefetch_stream};
use crate::cpu::kernels::vnni::Vector;
use crate::cpu::kernels::{BlockRow, BlockTile, SCALES_TOGETHER, TileScales};

/// Activation rows that share the codes of a block.
const ROWS: usize = 4;

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
#[target_feature(enable = "avx2,fma,avxvnni")]
pub(super) fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    for (output, out) in out.chunks_exact_mut(tile.tile.rows).enumerate() {
        prefetch_soon(scales.soon, output, tile.tile.outputs);
        for (some, out) in out.chunks_mut(ROWS).enumerate() {
            let first = some * ROWS;
            match out.len() {
                1 => some_rows::<1>(out, tile, scales, output, first),
                2 => some_rows::<2>(out, tile, scales, output, first),
                3 => some_rows::<3>(out, tile, scales, output, first),
                _ => some_rows::<ROWS>(out, tile, scales, output, first),
            }
        }
    }
}

/// One weight row and some activation rows from `first` on.
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn some_rows<const COUNT: usize>(
    out: &mut [f32],
    tile: &BlockTile<'_>,
    scales: TileScales<'_>,
    output: usize,
    first: usize,
) {
    let rows: [BlockRow<'_>; COUNT] = array::from_fn(|i| tile.row(first + i));
    let (codes, scale) = (tile.tile.weights(output), |block: usize| scales.values[block][output % SCALES_TOGETHER]);
    // Even and odd blocks have their own sums, so that additions do not wait for each other.
    let (mut even, mut odd) = ([_mm256_setzero_ps(); COUNT], [_mm256_setzero_ps(); COUNT]);
    let (pairs, last) = codes.as_chunks::<2>();
    for (i, pair) in pairs.iter().enumerate() {
        prefetch_stream(pair.as_ptr().cast());
        add(&mut even, &pair[0], scale(2 * i), &rows, 2 * i);
        add(&mut odd, &pair[1], scale(2 * i + 1), &rows, 2 * i + 1);
    }
    if let [block] = last {
        add(&mut even, block, scale(2 * pairs.len()), &rows, 2 * pairs.len());
    }
    for (out, (even, odd)) in out.iter_mut().zip(even.into_iter().zip(odd)) {
        *out += add_lanes_f32(_mm256_add_ps(even, odd));
    }
}

/// Adds the sums of block `b` times its scales for each activation row.
#[inline]
#[target_feature(enable = "avx2,fma,avxvnni")]
fn add<const COUNT: usize>(
    totals: &mut [__m256; COUNT],
    block: &[u8; 32],
    scale: f32,
    rows: &[BlockRow<'_>; COUNT],
    b: usize,
) {
    let mut codes = [_mm256_setzero_si256(); __m256i::VECTORS];
    for (vector, codes) in codes.iter_mut().enumerate() {
        // SAFETY: this function's instructions are those that `__m256i` needs, here and below.
        *codes = unsafe { __m256i::codes(block, vector) };
    }
    for (total, row) in totals.iter_mut().zip(rows) {
        let x = &row.x[b];
        // Codes are trits + 1, so the sum of the activations is too much: 64 times, as sums are before all fields came together.
        // Fields come from the top, as in `dot_codes`: a lane is at most 4 · (3·64) · 128, and 64 · 128 · 128 more.
        let mut sums = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-64 * row.sums[b]));
        for (vector, codes) in codes.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                if vector > 0 {
                    sums = sums.shift_down();
                }
                sums = sums.add_products(*codes, __m256i::activations(x, vector));
            }
        }
        *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(row.steps[b] * scale), *total);
    }
}
