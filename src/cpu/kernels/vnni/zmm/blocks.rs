//! Trits times int8 where each block has a scale, for few activation rows. The blocks of sixteen weight rows are multiplied in the
//! order in which they lie, and sixteen vectors of sums at a time are added across lanes. Their integers are then brought
//! into lanes that are weight rows, as in [panels](crate::cpu::kernels::panel), and made floats, block after block as there.

use std::arch::x86_64::*;

use crate::cpu::kernels::avx2::{AHEAD_BYTES, prefetch};
use crate::cpu::kernels::panel::{LANES, in_lanes};
use crate::cpu::kernels::vnni::Vector;
use crate::cpu::kernels::{BlockRow, BlockTile};

/// Most blocks of a weight row that are multiplied before their sums become floats: 2 KiB, which are read in one stream.
const STRETCH: usize = 64;

/// The sums of some blocks of sixteen weight rows: `[output][block]`, without gaps.
type Sums = [i32; LANES * STRETCH];

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
#[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
pub(super) fn dot_blocks(out: &mut [f32], tile: &BlockTile<'_>) {
    let (rows, mut sums) = (tile.tile.rows, [0; LANES * STRETCH]);
    for output in (0..tile.tile.outputs).step_by(LANES) {
        let outputs = (tile.tile.outputs - output).min(LANES);
        for row in 0..rows {
            let mut lanes = _mm512_setzero_ps();
            for first in (0..tile.tile.blocks).step_by(STRETCH) {
                let blocks = (tile.tile.blocks - first).min(STRETCH);
                let codes = &tile.tile.codes[output * tile.tile.codes_stride + first * 32..];
                let x = &tile.row(row).x[first..first + blocks];
                multiply(&mut sums, codes, tile.tile.codes_stride, outputs, x, &tile.scales(output)[first..]);
                lanes = add(lanes, &sums, tile, output, row, first, blocks);
            }
            let mut values = [0.0; LANES];
            // SAFETY: sixteen floats; the store may be unaligned.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), lanes) };
            let places = out[output * rows..].iter_mut().skip(row).step_by(rows);
            places.zip(values).for_each(|(out, value)| *out = value);
        }
    }
}

/// The sums of each block of `outputs` weight rows, `stride` bytes apart, with an activation row. Their scales, from `scales` on, are
/// fetched meanwhile.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vnni")]
fn multiply(sums: &mut Sums, codes: &[u8], stride: usize, outputs: usize, x: &[[i8; 128]], scales: &[f32]) {
    let (blocks, total) = (x.len(), outputs * x.len());
    assert!(total <= sums.len() && (outputs - 1) * stride + blocks * 32 <= codes.len());
    // The place of the next block, and where its weight row lies: the last one stands in where there are no more.
    let (mut place, mut block, mut code) = (0, 0, 0);
    for sums in sums.as_chunks_mut::<LANES>().0.iter_mut().take(total.div_ceil(LANES)) {
        let mut lanes = [_mm512_setzero_si512(); LANES];
        prefetch(scales.as_ptr().wrapping_add(place).cast());
        for (i, lanes) in lanes.iter_mut().enumerate() {
            if i % 2 == 0 {
                prefetch(codes.as_ptr().wrapping_add(code + AHEAD_BYTES));
            }
            // SAFETY: this function's instructions are those that `__m512i` needs; `block` is below `blocks`, and the weight row
            // is one of `outputs`, which were asserted to be there.
            unsafe {
                let (codes, x) = (&*codes.as_ptr().add(code).cast(), x.get_unchecked(block));
                let high =
                    __m512i::zero().add_products(__m512i::codes(codes, 0), __m512i::activations(x, 0)).shift_down();
                *lanes = high.add_products(__m512i::codes(codes, 1), __m512i::activations(x, 1));
            }
            place += 1;
            if place < total {
                (block, code) = (block + 1, code + 32);
                if block == blocks {
                    (block, code) = (0, code + stride - blocks * 32);
                }
            }
        }
        // SAFETY: sixteen sums; the store may be unaligned.
        unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), totals(lanes)) };
    }
}

/// Adds the sums of some blocks, less those of the activations, times their scales: `[output]`.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add(
    mut values: __m512,
    sums: &Sums,
    tile: &BlockTile<'_>,
    output: usize,
    row: usize,
    first: usize,
    blocks: usize,
) -> __m512 {
    let BlockRow { sums: x_sums, steps, .. } = tile.row(row);
    let outputs = (tile.tile.outputs - output).min(LANES);
    for place in (0..blocks).step_by(LANES) {
        let some = (blocks - place).min(LANES);
        let sums = in_lanes(outputs, |i| &sums[i * blocks + place..][..some]);
        let scales = in_lanes(outputs, |i| bytemuck::cast_slice(&tile.scales(output + i)[first + place..][..some]));
        for (block, (sums, scales)) in (first + place..first + place + some).zip(sums.into_iter().zip(scales)) {
            // Codes are trits + 1, so the sum of the activations is too much.
            let sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(x_sums[block]));
            let factors = _mm512_mul_ps(_mm512_castsi512_ps(scales), _mm512_set1_ps(steps[block]));
            values = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, values);
        }
    }
    values
}

/// The sum over the lanes of each of sixteen vectors, whose low halves count four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn totals(v: [__m512i; LANES]) -> __m512i {
    let mut pairs = [_mm512_setzero_si512(); LANES / 2];
    for (pair, v) in pairs.iter_mut().zip(v.as_chunks::<2>().0) {
        *pair = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    }
    // Each 128 bits hold the sums of four vectors over as many lanes of theirs.
    let mut fours = [_mm512_setzero_si512(); LANES / 4];
    for (four, pair) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
        *four = _mm512_add_epi32(_mm512_unpacklo_epi64(pair[0], pair[1]), _mm512_unpackhi_epi64(pair[0], pair[1]));
    }
    let mut eights = [_mm512_setzero_si512(); LANES / 8];
    for (eight, four) in eights.iter_mut().zip(fours.as_chunks::<2>().0) {
        let even = _mm512_shuffle_i32x4::<0x88>(four[0], four[1]);
        let odd = _mm512_shuffle_i32x4::<0xdd>(four[0], four[1]);
        *eight = _mm512_add_epi32(even, odd);
    }
    let low = _mm512_shuffle_i32x4::<0x88>(eights[0], eights[1]);
    let high = _mm512_shuffle_i32x4::<0xdd>(eights[0], eights[1]);
    _mm512_add_epi32(_mm512_srai_epi32::<2>(low), high)
}
