//! Panels of weight rows times many activation rows by `vpdpbusd`: two vectors of sums for each of eight rows, and each four
//! columns of an activation row in all lanes.

use std::arch::x86_64::*;
use std::array;
use std::ops::Range;

use crate::cpu::kernels::avx2::prefetch_to_second;
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::panel::{BLOCK_TILES, Bytes, HALVES, LANES, Panel};
use crate::cpu::kernels::spans::{PANEL, PanelSums, TakeSums};
use crate::cpu::kernels::{BlockTile, TakeScales, Tile};
use crate::format::ternary::BLOCK_BYTES;

/// Activation rows of a register tile: 16 sums, two vectors of codes and one of activations fit the 32 registers.
const ROWS: usize = 8;

/// [`crate::cpu::kernels::Kernels::span_codes`]; every code counts.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn span_codes(panel: &mut Panel, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) {
    panel.each(tile, take, |panel, sums, output, blocks| {
        if blocks.start == 0 {
            begin(sums, x_sums);
        }
        let next = Panel::next(tile, output, &blocks);
        add_codes(panel, &mut sums[..tile.rows], tile, blocks, next);
    });
}

/// [`crate::cpu::kernels::Kernels::span_blocks`]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
pub(super) fn span_blocks(panel: &mut Panel, tile: &BlockTile<'_>, scales: TakeScales<'_>, take: TakeSums<'_, f32>) {
    panel.each(&tile.tile, take, |panel, values, output, blocks| {
        if blocks.start == 0 {
            panel.take_scales(&tile.tile, scales, output);
            values[..tile.tile.rows].fill([0.0; PANEL]);
        }
        let next = Panel::next(&tile.tile, output, &blocks);
        add_blocks(panel, &mut values[..tile.tile.rows], tile, blocks, next);
    });
}

/// Sums begin at minus the sum of the activations, because codes are trits + 1.
fn begin(sums: &mut PanelSums<i32>, x_sums: &[i32]) {
    for (sums, x_sum) in sums.iter_mut().zip(x_sums) {
        sums.fill(-x_sum);
    }
}

/// Adds the products of some blocks, those of a stretch, for all activation rows.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_codes(panel: &Panel, sums: &mut PanelSums<i32>, tile: &Tile<'_>, blocks: Range<usize>, next: *const u8) {
    let add = |first: usize, sums: &mut [[i32; PANEL]]| match sums.len() {
        1 => codes_of_rows::<1>(panel, sums, tile, first, blocks.clone(), next),
        2 => codes_of_rows::<2>(panel, sums, tile, first, blocks.clone(), next),
        3 => codes_of_rows::<3>(panel, sums, tile, first, blocks.clone(), next),
        4 => codes_of_rows::<4>(panel, sums, tile, first, blocks.clone(), next),
        5 => codes_of_rows::<5>(panel, sums, tile, first, blocks.clone(), next),
        6 => codes_of_rows::<6>(panel, sums, tile, first, blocks.clone(), next),
        7 => codes_of_rows::<7>(panel, sums, tile, first, blocks.clone(), next),
        _ => codes_of_rows::<ROWS>(panel, sums, tile, first, blocks.clone(), next),
    };
    for (some, sums) in sums.chunks_mut(ROWS).enumerate() {
        add(some * ROWS, sums);
    }
}

/// As [`add_codes`], where each block has its scales.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni,fma")]
fn add_blocks(panel: &Panel, values: &mut PanelSums<f32>, tile: &BlockTile<'_>, blocks: Range<usize>, next: *const u8) {
    let add = |first: usize, values: &mut [[f32; PANEL]]| match values.len() {
        1 => blocks_of_rows::<1>(panel, values, tile, first, blocks.clone(), next),
        2 => blocks_of_rows::<2>(panel, values, tile, first, blocks.clone(), next),
        3 => blocks_of_rows::<3>(panel, values, tile, first, blocks.clone(), next),
        4 => blocks_of_rows::<4>(panel, values, tile, first, blocks.clone(), next),
        5 => blocks_of_rows::<5>(panel, values, tile, first, blocks.clone(), next),
        6 => blocks_of_rows::<6>(panel, values, tile, first, blocks.clone(), next),
        7 => blocks_of_rows::<7>(panel, values, tile, first, blocks.clone(), next),
        _ => blocks_of_rows::<ROWS>(panel, values, tile, first, blocks.clone(), next),
    };
    for (some, values) in values.chunks_mut(ROWS).enumerate() {
        add(some * ROWS, values);
    }
}

/// The sums of `COUNT` activation rows with a panel.
type Sums<const COUNT: usize> = [[__m512i; HALVES]; COUNT];

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn codes_of_rows<const COUNT: usize>(
    panel: &Panel,
    sums: &mut [[i32; PANEL]],
    tile: &Tile<'_>,
    first: usize,
    blocks: Range<usize>,
    next: *const u8,
) {
    let x: [&[[i8; 128]]; COUNT] = array::from_fn(|row| &tile.activations(first + row)[blocks.clone()]);
    let mut lanes: Sums<COUNT> = [[_mm512_setzero_si512(); HALVES]; COUNT];
    for (lanes, sums) in lanes.iter_mut().zip(&*sums) {
        for (lanes, sums) in lanes.iter_mut().zip(sums.as_chunks::<LANES>().0) {
            // SAFETY: sixteen sums; the load may be unaligned.
            *lanes = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
        }
    }
    for block in 0..blocks.len() {
        let mut of_rows = [&[0; 128]; COUNT];
        for (of_row, x) in of_rows.iter_mut().zip(x) {
            *of_row = &x[block];
        }
        // SAFETY: this function's instructions are those that it needs.
        unsafe { add_block(&mut lanes, panel.codes(blocks.len()), block, of_rows, next) };
    }
    for (lanes, sums) in lanes.iter().zip(sums) {
        for (lanes, sums) in lanes.iter().zip(sums.as_chunks_mut::<LANES>().0) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), *lanes) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni,fma")]
fn blocks_of_rows<const COUNT: usize>(
    panel: &Panel,
    values: &mut [[f32; PANEL]],
    tile: &BlockTile<'_>,
    first: usize,
    blocks: Range<usize>,
    next: *const u8,
) {
    for (place, block) in blocks.clone().enumerate() {
        let mut x = [&[0; 128]; COUNT];
        let mut lanes: Sums<COUNT> = [[_mm512_setzero_si512(); HALVES]; COUNT];
        for (row, (x, lanes)) in x.iter_mut().zip(&mut lanes).enumerate() {
            let row = tile.row(first + row);
            *x = &row.x[block];
            *lanes = [_mm512_set1_epi32(-row.sums[block]); HALVES];
        }
        // SAFETY: this function's instructions are those that it needs.
        unsafe { add_block(&mut lanes, panel.codes(blocks.len()), place, x, next) };
        for (row, (lanes, values)) in lanes.iter().zip(values.iter_mut()).enumerate() {
            let step = tile.row(first + row).steps[block];
            for (half, values) in values.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                add_scaled(values, lanes[half], panel.scales().of(block, half), step);
            }
        }
    }
}

/// Adds the products of one block that was unpacked.
///
/// # Safety
/// The CPU has AVX-512F and AVX-512 VNNI.
#[inline(always)]
unsafe fn add_block<const COUNT: usize>(
    sums: &mut Sums<COUNT>,
    codes: [&[Bytes]; HALVES],
    block: usize,
    x: [&[i8; 128]; COUNT],
    next: *const u8,
) {
    for tile in 0..BLOCK_TILES {
        let [low, high] = codes.map(|codes| &codes[block * BLOCK_TILES + tile].0);
        for (four, (low, high)) in low.iter().zip(high).enumerate() {
            if four % 2 == 0 {
                prefetch_to_second(next.wrapping_add(block * PANEL * BLOCK_BYTES + (tile * LANES + four) * LINE / 2));
            }
            // SAFETY: the caller shows the instructions; 64 bytes each, aligned to as many.
            unsafe {
                let codes = [_mm512_load_si512(low.as_ptr().cast()), _mm512_load_si512(high.as_ptr().cast())];
                for (sums, x) in sums.iter_mut().zip(x) {
                    let [a, b, c, d] = x.as_chunks::<4>().0[tile * LANES + four];
                    let x = _mm512_set1_epi32(i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]));
                    sums[0] = _mm512_dpbusd_epi32(sums[0], codes[0], x);
                    sums[1] = _mm512_dpbusd_epi32(sums[1], codes[1], x);
                }
            }
        }
    }
}

/// `values += sums * (scale * step)`, the order of operations that every kernel of this set has.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add_scaled(values: &mut [f32; LANES], sums: __m512i, scales: &[f32; LANES], step: f32) {
    // SAFETY: sixteen floats each; loads and stores may be unaligned.
    unsafe {
        let factors = _mm512_mul_ps(_mm512_loadu_ps(scales.as_ptr()), _mm512_set1_ps(step));
        let before = _mm512_loadu_ps(values.as_ptr());
        _mm512_storeu_ps(values.as_mut_ptr(), _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, before));
    }
}
