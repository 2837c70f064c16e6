//! Trits times int8, some blocks at a time: activations are brought into the form that the instructions want once for all weight rows
//! of a tile. Written once; a set says in [`Products`] what its instructions do with a block.

use std::arch::wasm32::*;
use std::ops::Range;

use crate::cpu::kernels::{BlockRow, BlockTile, Tile, TileScales};

/// Blocks of activations that are prepared together: those of eight rows are 16 KiB, half of the nearest cache.
const STRETCH: usize = 8;

/// The products of a block of codes with blocks of activations.
///
/// # Safety
/// All functions have one condition: the module has the instructions of this way.
pub(super) trait Products {
    /// 128 activations in the form that is multiplied.
    type Block: Copy;
    /// Such a block of zeros.
    const NOTHING: Self::Block;
    /// Brings activations into that form.
    unsafe fn prepared(x: &[i8; 128]) -> Self::Block;
    /// Adds the products of one block of codes and a block of each activation row to four sums of 32 bits for each row.
    unsafe fn add<const ROWS: usize>(sums: &mut [v128; ROWS], codes: &[u8; 32], x: [&Self::Block; ROWS]);
}

/// [`crate::cpu::kernels::Kernels::dot_codes`].
///
/// # Safety
/// The module has the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn dot_codes<P: Products>(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match tile.rows {
            1 => codes_of::<P, 1>(sums, tile),
            2 => codes_of::<P, 2>(sums, tile),
            3 => codes_of::<P, 3>(sums, tile),
            4 => codes_of::<P, 4>(sums, tile),
            5 => codes_of::<P, 5>(sums, tile),
            6 => codes_of::<P, 6>(sums, tile),
            7 => codes_of::<P, 7>(sums, tile),
            8 => codes_of::<P, 8>(sums, tile),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
///
/// # Safety
/// The module has the instructions of `P`.
#[inline(always)]
pub(super) unsafe fn dot_blocks<P: Products>(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        match tile.tile.rows {
            1 => blocks_of::<P, 1>(out, tile, scales),
            2 => blocks_of::<P, 2>(out, tile, scales),
            3 => blocks_of::<P, 3>(out, tile, scales),
            4 => blocks_of::<P, 4>(out, tile, scales),
            5 => blocks_of::<P, 5>(out, tile, scales),
            6 => blocks_of::<P, 6>(out, tile, scales),
            7 => blocks_of::<P, 7>(out, tile, scales),
            8 => blocks_of::<P, 8>(out, tile, scales),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// # Safety
/// The module has the instructions of `P`.
#[inline(always)]
unsafe fn codes_of<P: Products, const ROWS: usize>(sums: &mut [i32], tile: &Tile<'_>) {
    let groups = tile.groups();
    assert_eq!(sums.len(), tile.sums());
    sums.fill(0);
    let mut prepared = [[P::NOTHING; STRETCH]; ROWS];
    for blocks in stretches(tile.blocks) {
        // SAFETY: the caller shows the instructions, here and below.
        unsafe { prepare::<P, ROWS>(&mut prepared, tile, &blocks) };
        for (output, sums) in sums.chunks_exact_mut(ROWS * groups).enumerate() {
            let mut codes = &tile.weights(output)[blocks.clone()];
            let mut first = 0;
            while !codes.is_empty() {
                // As many as one sum covers.
                let group = (blocks.start + first) / tile.group;
                let count = codes.len().min((group + 1) * tile.group - blocks.start - first);
                let (now, later) = codes.split_at(count);
                let mut lanes = [i32x4_splat(0); ROWS];
                for (block, codes) in (first..).zip(now) {
                    // SAFETY: as above.
                    unsafe { P::add(&mut lanes, codes, std::array::from_fn(|row| &prepared[row][block])) };
                }
                for (row, lanes) in lanes.into_iter().enumerate() {
                    sums[row * groups + group] += total(lanes);
                }
                (codes, first) = (later, first + count);
            }
        }
    }
}

/// # Safety
/// The module has the instructions of `P`.
#[inline(always)]
unsafe fn blocks_of<P: Products, const ROWS: usize>(out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
    assert_eq!(out.len(), tile.tile.outputs * ROWS);
    let mut prepared = [[P::NOTHING; STRETCH]; ROWS];
    let rows: [BlockRow<'_>; ROWS] = std::array::from_fn(|row| tile.row(row));
    for blocks in stretches(tile.tile.blocks) {
        // SAFETY: the caller shows the instructions, here and below.
        unsafe { prepare::<P, ROWS>(&mut prepared, &tile.tile, &blocks) };
        for (output, out) in out.chunks_exact_mut(ROWS).enumerate() {
            let codes = tile.tile.weights(output);
            let mut floats = [f32x4_splat(0.0); ROWS];
            for (place, block) in blocks.clone().enumerate() {
                let mut lanes = [i32x4_splat(0); ROWS];
                // SAFETY: as above.
                unsafe { P::add(&mut lanes, &codes[block], std::array::from_fn(|row| &prepared[row][place])) };
                for ((floats, lanes), row) in floats.iter_mut().zip(lanes).zip(&rows) {
                    // Codes are trits + 1, so the sum of the activations is too much.
                    let exact = i32x4_sub(lanes, i32x4(row.sums[block], 0, 0, 0));
                    let scale = f32x4_splat(row.steps[block] * scales.values[block][output]);
                    *floats = f32x4_add(*floats, f32x4_mul(f32x4_convert_i32x4(exact), scale));
                }
            }
            for (o, floats) in out.iter_mut().zip(floats) {
                *o += (f32x4_extract_lane::<0>(floats) + f32x4_extract_lane::<1>(floats))
                    + (f32x4_extract_lane::<2>(floats) + f32x4_extract_lane::<3>(floats));
            }
        }
    }
}

fn stretches(blocks: usize) -> impl Iterator<Item = Range<usize>> {
    (0..blocks).step_by(STRETCH).map(move |first| first..blocks.min(first + STRETCH))
}

/// # Safety
/// The module has the instructions of `P`.
#[inline(always)]
unsafe fn prepare<P: Products, const ROWS: usize>(
    prepared: &mut [[P::Block; STRETCH]; ROWS],
    tile: &Tile<'_>,
    blocks: &Range<usize>,
) {
    for (row, prepared) in prepared.iter_mut().enumerate() {
        for (prepared, x) in prepared.iter_mut().zip(&tile.activations(row)[blocks.clone()]) {
            // SAFETY: the caller shows the instructions.
            *prepared = unsafe { P::prepared(x) };
        }
    }
}

/// The sum of four lanes.
#[inline(always)]
pub(super) fn total(lanes: v128) -> i32 {
    (i32x4_extract_lane::<0>(lanes) + i32x4_extract_lane::<1>(lanes))
        + (i32x4_extract_lane::<2>(lanes) + i32x4_extract_lane::<3>(lanes))
}

/// Sixteen bytes.
#[inline(always)]
pub(super) fn load<T>(bytes: &[T; 16]) -> v128 {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: there are 16 bytes; loads of WebAssembly need no alignment.
    unsafe { v128_load(bytes.as_ptr().cast()) }
}
