//! Trits times int8 with `vpdpbusd`: it multiplies unsigned codes with signed activations and adds four neighbouring
//! products to a sum of 32 bits. Written once, for the two vector lengths that have the instruction.
//!
//! Codes are masked where they lie in their byte and never shifted down: the fields of a block count 64, 16, 4 and 1
//! times. Fields are summed from the top, and the sums so far, which are multiples, are shifted down before the next
//! field comes on top (Horner's rule). So a vector of codes costs one load and one `and`.

mod bytes;
mod floats;
mod heads;
mod nibbles;
mod panels;
mod ymm;
mod zmm;

use std::arch::x86_64::*;
use std::array;
use std::ops::Range;

use super::avx2::lanes::{InOrder, add_lanes_i32};
use super::avx2::{prefetch, prefetch_stream, prefetch_to_second};
use crate::cpu::kernels::Tile;

pub(super) use ymm::AvxVnni;
pub(super) use zmm::Avx512Vnni;

/// Most blocks that are summed before the fields come together; the activations of four rows stay in the nearest cache.
/// A lane gains at most 4 · (3·64) · 128 = 98304 a block, so 64 blocks come to 6.3 million and cannot wrap.
const STRETCH: usize = 64;

/// Activation rows of a register tile.
const ROWS: usize = 4;

/// A vector register, or rather what the loops below do with it. Lanes are sums of 32 bits.
///
/// # Safety
/// Every function needs the instructions of its set; that the CPU has them is the caller's to show.
trait Vector: Copy {
    /// Vectors that hold the codes of a block, at most four.
    const VECTORS: usize;
    unsafe fn zero() -> Self;
    /// One vector of a block's codes, not shifted down.
    unsafe fn codes(block: &[u8; 32], vector: usize) -> Self;
    /// The activations that belong to these codes.
    unsafe fn activations(x: &[i8; 128], vector: usize) -> Self;
    /// Adds the products of codes and activations.
    unsafe fn add_products(self, codes: Self, x: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// From the weights of one vector to those of the next.
    unsafe fn shift_down(self) -> Self;
    /// What the sums are in the end, after the last vector.
    unsafe fn finish(self) -> __m256i;
}

/// [`crate::cpu::kernels::Kernels::dot_codes`], `OUTPUTS` weight rows at a time where there are several activation rows.
///
/// # Safety
/// The CPU has AVX2 and the instructions of `V`.
#[inline(always)]
unsafe fn dot_codes<V: Vector, const OUTPUTS: usize>(sums: &mut [i32], tile: &Tile<'_>) {
    assert_eq!(sums.len(), tile.sums());
    // SAFETY: the caller shows the instructions.
    unsafe {
        if tile.rows == 1 {
            return one_row::<V>(sums, tile);
        }
        let whole = tile.outputs / OUTPUTS * OUTPUTS;
        for output in (0..whole).step_by(OUTPUTS) {
            all_rows::<V, OUTPUTS>(sums, tile, output);
        }
        for output in whole..tile.outputs {
            all_rows::<V, 1>(sums, tile, output);
        }
    }
}

/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn one_row<V: Vector>(sums: &mut [i32], tile: &Tile<'_>) {
    let x = tile.activations(0);
    // SAFETY: the caller shows the instructions.
    unsafe {
        // Places in `sums` are (output, group), and so is the order here.
        let mut sums = InOrder::new(sums);
        for output in 0..tile.outputs {
            for (codes, x) in tile.weights(output).chunks(tile.group).zip(x.chunks(tile.group)) {
                sums.push(dot_one::<V>(codes, x));
            }
        }
        sums.finish();
    }
}

/// One weight row and one activation row; the sum is over the lanes.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn dot_one<V: Vector>(codes: &[[u8; 32]], x: &[[i8; 128]]) -> __m256i {
    // SAFETY: the caller shows the instructions.
    unsafe {
        let mut total = _mm256_setzero_si256();
        for (codes, x) in codes.chunks(STRETCH).zip(x.chunks(STRETCH)) {
            // Even and odd blocks have their own sums, so that additions do not wait for each other.
            let mut sums = [[V::zero(); 4]; 2];
            let ((pairs, last), (x_pairs, x_last)) = (codes.as_chunks::<2>(), x.as_chunks::<2>());
            for (pair, x) in pairs.iter().zip(x_pairs) {
                prefetch_stream(pair.as_ptr().cast());
                for (sums, (block, x)) in sums.iter_mut().zip(pair.iter().zip(x)) {
                    add_block(sums, block, x);
                }
            }
            for (block, x) in last.iter().zip(x_last) {
                add_block(&mut sums[0], block, x);
            }
            let [even, odd] = sums;
            let mut sum = even[0].add(odd[0]);
            for vector in 1..V::VECTORS {
                sum = sum.shift_down().add(even[vector].add(odd[vector]));
            }
            total = _mm256_add_epi32(total, sum.finish());
        }
        total
    }
}

/// Adds the products of a block to the sums of its vectors.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn add_block<V: Vector>(sums: &mut [V; 4], block: &[u8; 32], x: &[i8; 128]) {
    for (vector, sum) in sums.iter_mut().enumerate().take(V::VECTORS) {
        // SAFETY: the caller shows the instructions.
        *sum = unsafe { sum.add_products(V::codes(block, vector), V::activations(x, vector)) };
    }
}

/// Some weight rows and all activation rows.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn all_rows<V: Vector, const OUTPUTS: usize>(sums: &mut [i32], tile: &Tile<'_>, output: usize) {
    for row in (0..tile.rows).step_by(ROWS) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match tile.rows - row {
                1 => some_rows::<V, OUTPUTS, 1>(sums, tile, output, row),
                2 => some_rows::<V, OUTPUTS, 2>(sums, tile, output, row),
                3 => some_rows::<V, OUTPUTS, 3>(sums, tile, output, row),
                _ => some_rows::<V, OUTPUTS, ROWS>(sums, tile, output, row),
            }
        }
    }
}

/// Some weight rows and some activation rows, from `output` and `row` on.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn some_rows<V: Vector, const OUTPUTS: usize, const COUNT: usize>(
    sums: &mut [i32],
    tile: &Tile<'_>,
    output: usize,
    row: usize,
) {
    let groups = tile.groups();
    let codes: [&[[u8; 32]]; OUTPUTS] = array::from_fn(|i| tile.weights(output + i));
    let x: [&[[i8; 128]]; COUNT] = array::from_fn(|i| tile.activations(row + i));
    for group in 0..groups {
        let blocks = group * tile.group..tile.blocks.min((group + 1) * tile.group);
        // SAFETY: the caller shows the instructions; each weight row and each activation row has `tile.blocks` blocks.
        unsafe {
            let mut totals = [[_mm256_setzero_si256(); COUNT]; OUTPUTS];
            for first in blocks.clone().step_by(STRETCH) {
                let stretch = first..blocks.end.min(first + STRETCH);
                let lanes = dot_many::<V, OUTPUTS, COUNT>(&codes, &x, stretch, OUTPUTS * tile.codes_stride);
                for (totals, lanes) in totals.iter_mut().zip(lanes) {
                    for (total, lanes) in totals.iter_mut().zip(lanes) {
                        *total = _mm256_add_epi32(*total, lanes);
                    }
                }
            }
            for (i, totals) in totals.iter().enumerate() {
                // The last vector stands in where there are no four; its sum is not used then.
                let mut four = [totals[COUNT - 1]; 4];
                four[..COUNT].copy_from_slice(totals);
                for (j, sum) in add_lanes_i32(four).into_iter().enumerate().take(COUNT) {
                    sums[((output + i) * tile.rows + row + j) * groups + group] = sum;
                }
            }
        }
    }
}

/// Several weight rows and several activation rows; the sums are over the lanes of each vector. The codes `ahead` bytes
/// on, those of the next weight rows, are fetched meanwhile, and into the second cache those four times as far.
///
/// # Safety
/// As for [`dot_codes`]; and every slice has the blocks of `stretch`.
#[inline(always)]
unsafe fn dot_many<V: Vector, const OUTPUTS: usize, const COUNT: usize>(
    codes: &[&[[u8; 32]]; OUTPUTS],
    x: &[&[[i8; 128]]; COUNT],
    stretch: Range<usize>,
    ahead: usize,
) -> [[__m256i; COUNT]; OUTPUTS] {
    // SAFETY: the caller shows the instructions, and that the places lie inside.
    unsafe {
        let mut sums = [[V::zero(); COUNT]; OUTPUTS];
        for vector in 0..V::VECTORS {
            for sums in &mut sums {
                for sum in sums {
                    *sum = sum.shift_down();
                }
            }
            for b in stretch.clone() {
                let mut loaded = [V::zero(); OUTPUTS];
                for (loaded, codes) in loaded.iter_mut().zip(codes) {
                    let block = codes.get_unchecked(b);
                    if vector == 0 && b % 2 == 0 {
                        prefetch(block.as_ptr().wrapping_add(ahead));
                        prefetch_to_second(block.as_ptr().wrapping_add(4 * ahead));
                    }
                    *loaded = V::codes(block, vector);
                }
                for (j, x) in x.iter().enumerate() {
                    let x = V::activations(x.get_unchecked(b), vector);
                    for (sums, codes) in sums.iter_mut().zip(loaded) {
                        sums[j] = sums[j].add_products(codes, x);
                    }
                }
            }
        }
        // Into an array of their own: an array that leaves the function would be written at every step of the loop.
        let mut finished = [[_mm256_setzero_si256(); COUNT]; OUTPUTS];
        for i in 0..OUTPUTS {
            for j in 0..COUNT {
                finished[i][j] = sums[i][j].finish();
            }
        }
        finished
    }
}
