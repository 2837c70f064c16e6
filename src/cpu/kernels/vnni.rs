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

use super::avx2::lanes::ByFours;
use super::avx2::prefetch_stream;
use crate::cpu::kernels::Tile;

pub(super) use ymm::AvxVnni;
pub(super) use zmm::Avx512Vnni;

/// Most blocks that are summed before the fields come together; the activations of four rows stay in the nearest cache.
/// A lane gains at most 4 · (3·64) · 128 = 98304 a block, so 64 blocks come to 6.3 million and cannot wrap.
const STRETCH: usize = 64;

/// Most activation rows that share a load of weights.
const ROWS: usize = 4;

/// A vector register, or rather what the loops below do with it. Lanes are sums of 32 bits.
///
/// # Safety
/// Every function needs the instructions of its set; that the CPU has them is the caller's to show.
trait Vector: Copy {
    /// Vectors that hold the codes of a block, at most four.
    const VECTORS: usize;
    /// Most sums of which even and odd blocks may have their own: there are registers for them.
    const APART: usize;
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

/// [`crate::cpu::kernels::Kernels::dot_codes`], some activation rows, `OUTPUTS` weight rows and `AT_ONCE` vectors of a block at a time;
/// weights come from memory in the order in which they lie there, `OUTPUTS` rows side by side where there are several activation rows.
///
/// # Safety
/// The CPU has AVX2 and the instructions of `V`.
#[inline(always)]
unsafe fn dot_codes<V: Vector, const OUTPUTS: usize, const AT_ONCE: usize>(sums: &mut [i32], tile: &Tile<'_>) {
    assert_eq!(sums.len(), tile.sums());
    for first in (0..tile.rows).step_by(ROWS) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match (tile.rows - first).min(ROWS) {
                // There are registers for all vectors of a block, and one stream is the fastest.
                1 => dot_rows::<V, 1, 4, 1>(sums, tile, first),
                2 => dot_rows::<V, OUTPUTS, AT_ONCE, 2>(sums, tile, first),
                3 => dot_rows::<V, OUTPUTS, AT_ONCE, 3>(sums, tile, first),
                4 => dot_rows::<V, OUTPUTS, AT_ONCE, 4>(sums, tile, first),
                rows => unreachable!("{rows} rows"),
            }
        }
    }
}

/// All weight rows and `COUNT` activation rows, from `first` on.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn dot_rows<V: Vector, const OUTPUTS: usize, const AT_ONCE: usize, const COUNT: usize>(
    sums: &mut [i32],
    tile: &Tile<'_>,
    first: usize,
) {
    let whole = tile.outputs / OUTPUTS * OUTPUTS;
    // SAFETY: the caller shows the instructions.
    unsafe {
        let mut sums = ByFours::new(sums);
        for output in (0..whole).step_by(OUTPUTS) {
            dot_outputs::<V, OUTPUTS, AT_ONCE, COUNT>(&mut sums, tile, output, first);
        }
        for output in whole..tile.outputs {
            dot_outputs::<V, 1, AT_ONCE, COUNT>(&mut sums, tile, output, first);
        }
        sums.finish();
    }
}

/// Some weight rows and some activation rows, from `output` and `first` on.
///
/// # Safety
/// As for [`dot_codes`].
#[inline(always)]
unsafe fn dot_outputs<V: Vector, const OUTPUTS: usize, const AT_ONCE: usize, const COUNT: usize>(
    sums: &mut ByFours<'_>,
    tile: &Tile<'_>,
    output: usize,
    first: usize,
) {
    let codes: [&[[u8; 32]]; OUTPUTS] = array::from_fn(|i| tile.weights(output + i));
    let x: [&[[i8; 128]]; COUNT] = array::from_fn(|row| tile.activations(first + row));
    let groups = tile.groups();
    for group in 0..groups {
        let blocks = group * tile.group..tile.blocks.min((group + 1) * tile.group);
        // SAFETY: the caller shows the instructions; each weight row and each activation row has `tile.blocks` blocks.
        unsafe {
            let lanes = dot_blocks::<V, OUTPUTS, AT_ONCE, COUNT>(&codes, &x, blocks);
            let place = |i: usize| ((output + i / COUNT) * tile.rows + first + i % COUNT) * groups + group;
            match lanes.as_flattened() {
                [lanes] => sums.push(place(0), *lanes),
                lanes => sums.push_all(lanes, place),
            }
        }
    }
}

/// Some blocks of these rows; the sums are over the lanes of each vector.
///
/// # Safety
/// As for [`dot_codes`]; and every slice has `blocks`.
#[inline(always)]
unsafe fn dot_blocks<V: Vector, const OUTPUTS: usize, const AT_ONCE: usize, const COUNT: usize>(
    codes: &[&[[u8; 32]]; OUTPUTS],
    x: &[&[[i8; 128]]; COUNT],
    blocks: Range<usize>,
) -> [[__m256i; COUNT]; OUTPUTS] {
    // Even and odd blocks have their own sums where there are registers for them, so that additions do not wait for each other.
    let are_apart = 2 * OUTPUTS * COUNT * AT_ONCE.min(V::VECTORS) <= V::APART;
    // SAFETY: the caller shows the instructions, and that the blocks lie inside.
    unsafe {
        let mut totals = [[_mm256_setzero_si256(); COUNT]; OUTPUTS];
        for first in blocks.clone().step_by(STRETCH) {
            let stretch = first..blocks.end.min(first + STRETCH);
            let mut of_stretch = [[V::zero(); COUNT]; OUTPUTS];
            for first in (0..V::VECTORS).step_by(AT_ONCE) {
                let vectors = first..V::VECTORS.min(first + AT_ONCE);
                let mut sums = [[[[V::zero(); COUNT]; OUTPUTS]; AT_ONCE]; 2]; // of even blocks, and of odd ones
                let (pairs, end) = (stretch.len() / 2, stretch.end);
                for pair in (stretch.start..end).step_by(2).take(pairs) {
                    if first == 0 {
                        codes.iter().for_each(|codes| prefetch_stream(codes.as_ptr().wrapping_add(pair).cast()));
                    }
                    add_block(&mut sums[0], codes, x, pair, vectors.clone());
                    add_block(&mut sums[usize::from(are_apart)], codes, x, pair + 1, vectors.clone());
                }
                if !stretch.len().is_multiple_of(2) {
                    add_block(&mut sums[0], codes, x, end - 1, vectors.clone());
                }
                let [even, odd] = sums;
                for (even, odd) in even.into_iter().zip(odd).take(vectors.len()) {
                    for (i, of_stretch) in of_stretch.iter_mut().enumerate() {
                        for (row, sum) in of_stretch.iter_mut().enumerate() {
                            *sum = sum.shift_down().add(even[i][row].add(odd[i][row]));
                        }
                    }
                }
            }
            for (totals, of_stretch) in totals.iter_mut().zip(of_stretch) {
                for (total, sum) in totals.iter_mut().zip(of_stretch) {
                    *total = _mm256_add_epi32(*total, sum.finish());
                }
            }
        }
        totals
    }
}

/// Adds the products of one block to the sums of some of its vectors.
///
/// # Safety
/// As for [`dot_codes`]; and every slice has `block`.
#[inline(always)]
unsafe fn add_block<V: Vector, const OUTPUTS: usize, const AT_ONCE: usize, const COUNT: usize>(
    sums: &mut [[[V; COUNT]; OUTPUTS]; AT_ONCE],
    codes: &[&[[u8; 32]]; OUTPUTS],
    x: &[&[[i8; 128]]; COUNT],
    block: usize,
    vectors: Range<usize>,
) {
    for (vector, sums) in vectors.zip(sums) {
        // SAFETY: the caller shows the instructions, and that the block lies inside.
        unsafe {
            let mut of_block = [V::zero(); OUTPUTS];
            for (of_block, codes) in of_block.iter_mut().zip(codes) {
                *of_block = V::codes(codes.get_unchecked(block), vector);
            }
            for (row, x) in x.iter().enumerate() {
                let x = V::activations(x.get_unchecked(block), vector);
                for (sums, codes) in sums.iter_mut().zip(of_block) {
                    sums[row] = sums[row].add_products(codes, x);
                }
            }
        }
    }
}
