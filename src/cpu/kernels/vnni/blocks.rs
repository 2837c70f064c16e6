//! Trits times int8 where each block of activations has a scale: the sums of a block are made floats in their lanes, and
//! added there times a factor. Only the last vector of a row is added across its lanes.

use std::array;

use super::{AHEAD_BYTES, Vector, prefetch};
use crate::cpu::kernels::{BlockRow, BlockTile};

/// Activation rows that share the codes of a block.
const ROWS: usize = 4;

/// [`crate::cpu::kernels::Kernels::dot_blocks`].
///
/// # Safety
/// The CPU has AVX2, FMA and the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn dot_blocks<V: Vector>(out: &mut [f32], tile: &BlockTile<'_>) {
    for (some, out) in out.chunks_mut(ROWS).enumerate() {
        let first = some * ROWS;
        // SAFETY: the caller shows the instructions.
        unsafe {
            match out.len() {
                1 => some_rows::<V, 1>(out, tile, first),
                2 => some_rows::<V, 2>(out, tile, first),
                3 => some_rows::<V, 3>(out, tile, first),
                _ => some_rows::<V, ROWS>(out, tile, first),
            }
        }
    }
}

/// # Safety
/// As for [`dot_blocks`].
#[inline(always)]
unsafe fn some_rows<V: Vector, const COUNT: usize>(out: &mut [f32], tile: &BlockTile<'_>, first: usize) {
    let rows: [BlockRow<'_>; COUNT] = array::from_fn(|i| tile.row(first + i));
    // SAFETY: the caller shows the instructions; each row has as many blocks as there are codes and scales.
    unsafe {
        // Even and odd blocks have their own sums, so that additions do not wait for each other.
        let (mut even, mut odd) = ([V::no_floats(); COUNT], [V::no_floats(); COUNT]);
        let (pairs, last) = tile.codes.as_chunks::<2>();
        for (i, pair) in pairs.iter().enumerate() {
            prefetch(pair.as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES));
            add::<V, COUNT>(&mut even, tile, &rows, 2 * i);
            add::<V, COUNT>(&mut odd, tile, &rows, 2 * i + 1);
        }
        if !last.is_empty() {
            add::<V, COUNT>(&mut even, tile, &rows, 2 * pairs.len());
        }
        for (out, (even, odd)) in out.iter_mut().zip(even.into_iter().zip(odd)) {
            *out = V::total(even, odd);
        }
    }
}

/// Adds a block's sums times its scales for each activation row.
///
/// # Safety
/// As for [`dot_blocks`]; each row, the codes and the scales have the block `b`.
#[inline(always)]
unsafe fn add<V: Vector, const COUNT: usize>(
    totals: &mut [V::Floats; COUNT],
    tile: &BlockTile<'_>,
    rows: &[BlockRow<'_>; COUNT],
    b: usize,
) {
    // SAFETY: the caller shows the instructions, and that the places lie inside.
    unsafe {
        let (block, scale) = (tile.codes.get_unchecked(b), *tile.scales.get_unchecked(b));
        let mut codes = [V::zero(); 4];
        for (vector, codes) in codes.iter_mut().enumerate().take(V::VECTORS) {
            *codes = V::codes(block, vector);
        }
        for (total, row) in totals.iter_mut().zip(rows) {
            let x = row.x.get_unchecked(b);
            // Codes are trits + 1, so the sum of the activations is too much. Fields come from the top, as in `dot_codes`:
            // a lane is at most 4 · (3·64) · 128, and 64 · 128 · 128 more.
            let mut sums = V::less(*row.sums.get_unchecked(b));
            for (vector, codes) in codes.iter().enumerate().take(V::VECTORS) {
                if vector > 0 {
                    sums = sums.shift_down();
                }
                sums = sums.add_products(*codes, V::activations(x, vector));
            }
            *total = sums.add_scaled(*row.steps.get_unchecked(b) * scale, *total);
        }
    }
}
