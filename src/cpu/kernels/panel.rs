//! Weight rows as AVX-512 multiplies them with many activation rows: thirty-two at a time, a panel, unpacked so that
//! lanes are weight rows. Row `k` of a [`Bytes`] holds four neighbouring columns of sixteen weight rows, which
//! `vpdpbusd` multiplies with the same four columns of an activation row, and adds to sixteen sums. So no sum is ever added across
//! lanes, and a weight row's scale is a lane of a vector of scales.
//!
//! Some blocks of a panel are unpacked at a time; they stay in the nearest cache while all activation rows pass over them.

use std::arch::x86_64::*;
use std::mem;
use std::ops::Range;

use bytemuck::Pod;

use crate::cpu::kernels::spans::{PANEL, PanelSums, TakeSums};
use crate::cpu::kernels::{SCALES_TOGETHER, TakeScales, Tile};
use crate::format::ternary::BLOCK_BYTES;

/// Most activation rows that a panel is unpacked for at a time.
pub(super) const ROWS: usize = 128;
/// Weight rows in the lanes of a vector.
pub(super) const LANES: usize = SCALES_TOGETHER;
/// Vectors of weight rows in a panel.
pub(super) const HALVES: usize = PANEL / LANES;
/// Blocks of a panel that are unpacked together: 16 KiB, half of the nearest cache or less.
const STRETCH: usize = 4;
/// Tiles of 64 columns in a block.
pub(super) const BLOCK_TILES: usize = 2;
/// Tiles of a stretch.
const STRETCH_TILES: usize = STRETCH * BLOCK_TILES;

/// Sixteen rows of 64 bytes: of codes, four columns of sixteen weight rows in each; or of activations, 64 columns in each.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bytes(pub(super) [[u8; 64]; LANES]);

pub(super) const NO_BYTES: Bytes = Bytes([[0; 64]; LANES]);

/// What a thread keeps for the panels of a span.
pub(super) struct Panel {
    codes: Box<[[Bytes; STRETCH_TILES]; HALVES]>, // of a stretch
    scales: PanelScales,
    sums: Vec<[i32; PANEL]>, // of each activation row, or as many floats
}

impl Panel {
    pub(super) fn new() -> Self {
        let codes = Box::new([[NO_BYTES; STRETCH_TILES]; HALVES]);
        Self { codes, scales: PanelScales::new(), sums: vec![[0; PANEL]; ROWS] }
    }

    /// Makes room for weight rows of so many blocks.
    pub(super) fn reserve(&mut self, blocks: usize) {
        self.scales.reserve(blocks);
    }

    /// The codes of the first `blocks` blocks that were unpacked: `[half][tile]`.
    #[inline(always)]
    pub(super) fn codes(&self, blocks: usize) -> [&[Bytes]; HALVES] {
        let [low, high] = &*self.codes;
        [&low[..blocks * BLOCK_TILES], &high[..blocks * BLOCK_TILES]]
    }

    /// The scales of its weight rows.
    #[inline(always)]
    pub(super) fn scales(&self) -> &PanelScales {
        &self.scales
    }

    /// Takes the scales of the weight rows from `output` on.
    pub(super) fn take_scales(&mut self, tile: &Tile<'_>, scales: TakeScales<'_>, output: usize) {
        self.scales.take(tile, scales, output);
    }

    /// What lies behind a panel of the weight rows of `tile` from `output` on, as far behind it as `blocks` are behind its beginning, in the
    /// order of memory: where products of these blocks ask for the next panel. So memory is read while it would rest.
    #[inline(always)]
    pub(super) fn next(tile: &Tile<'_>, output: usize, blocks: &Range<usize>) -> *const u8 {
        tile.codes.as_ptr().wrapping_add((output + PANEL) * tile.codes_stride + blocks.start * PANEL * BLOCK_BYTES)
    }

    /// Unpacks each panel of the weight rows of `tile`, stretch by stretch, has `add` add the products of its blocks to its sums,
    /// and `take` the sums. `add(panel, sums, first weight row, blocks)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn each<T: Pod>(
        &mut self,
        tile: &Tile<'_>,
        take: TakeSums<'_, T>,
        mut add: impl FnMut(&mut Self, &mut PanelSums<T>, usize, Range<usize>),
    ) {
        assert!(tile.rows <= ROWS);
        let mut sums = mem::take(&mut self.sums);
        for output in (0..tile.outputs).step_by(PANEL) {
            let sums: &mut PanelSums<T> = bytemuck::cast_slice_mut(&mut sums);
            for first in (0..tile.blocks).step_by(STRETCH) {
                let blocks = first..tile.blocks.min(first + STRETCH);
                self.unpack(tile, output, blocks.clone());
                add(self, sums, output, blocks);
            }
            take(output, &sums[..tile.rows]);
        }
        self.sums = sums;
    }

    /// Unpacks some blocks of the weight rows from `output` on. Rows beyond the last are zeros.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn unpack(&mut self, tile: &Tile<'_>, output: usize, blocks: Range<usize>) {
        for (half, tiles) in self.codes.iter_mut().enumerate() {
            let output = output + half * LANES;
            // Two blocks of a weight row are a vector.
            for (pair, tiles) in tiles.as_chunks_mut::<{ 2 * BLOCK_TILES }>().0.iter_mut().enumerate() {
                let first = blocks.start + 2 * pair;
                let Some(left) = blocks.end.checked_sub(first).filter(|&left| left > 0) else { break };
                let mask = if left > 1 { !0 } else { 0x00ff };
                let mut packed = [_mm512_setzero_si512(); LANES];
                for (row, packed) in packed.iter_mut().enumerate().take(tile.outputs.saturating_sub(output)) {
                    let blocks = &tile.weights(output + row)[first..][..left.min(2)];
                    // SAFETY: a block has 32 bytes, and the mask asks for those of one where there is one; the load may be
                    // unaligned.
                    *packed = unsafe { _mm512_maskz_loadu_epi32(mask, blocks.as_ptr().cast()) };
                }
                unpack_pair(tiles, transposed(packed));
            }
        }
    }
}

/// The scales of the weight rows of a panel: of each half, and of each block of the longest row.
pub(super) struct PanelScales([Vec<[f32; LANES]>; HALVES]);

impl PanelScales {
    pub(super) fn new() -> Self {
        Self([Vec::new(), Vec::new()])
    }

    /// Makes room for weight rows of so many blocks.
    pub(super) fn reserve(&mut self, blocks: usize) {
        self.0.iter_mut().for_each(|half| half.resize(half.len().max(blocks), [0.0; LANES]));
    }

    /// Takes those of the weight rows of `tile` from `output` on. Of rows beyond the last they are zeros.
    pub(super) fn take(&mut self, tile: &Tile<'_>, scales: TakeScales<'_>, output: usize) {
        for (half, of_half) in self.0.iter_mut().enumerate() {
            let (first, of_half) = (output + half * LANES, &mut of_half[..tile.blocks]);
            match first < tile.outputs {
                true => scales(first, of_half),
                false => of_half.fill([0.0; LANES]),
            }
        }
    }

    /// Those of a block of half the panel.
    #[inline(always)]
    pub(super) fn of(&self, block: usize, half: usize) -> &[f32; LANES] {
        &self.0[half][block]
    }
}

/// At most sixteen values of each of some rows, as a vector for each value, whose lanes are the rows: the first sixteen, and zeros for
/// those that are not there.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn in_lanes<'a>(rows: usize, row: impl Fn(usize) -> &'a [i32]) -> [__m512i; LANES] {
    let mut vectors = [_mm512_setzero_si512(); LANES];
    for (i, vector) in vectors.iter_mut().enumerate().take(rows) {
        let values = row(i);
        assert!(values.len() <= LANES);
        let mask = (1u32 << values.len()).wrapping_sub(1) as __mmask16;
        // SAFETY: the mask asks for as many values as there are; the load may be unaligned.
        *vector = unsafe { _mm512_maskz_loadu_epi32(mask, values.as_ptr()) };
    }
    transposed(vectors)
}

/// Unpacks two blocks of sixteen weight rows: vector `j` of `packed` holds bytes `4j..4j + 4` of both blocks' 64, whose fields
/// are columns `4j..4j + 4`, `+ 32`, `+ 64` and `+ 96` from the top.
#[inline]
#[target_feature(enable = "avx512f")]
fn unpack_pair(tiles: &mut [Bytes; 2 * BLOCK_TILES], packed: [__m512i; LANES]) {
    let mask = _mm512_set1_epi8(3);
    for (block, packed) in packed.as_chunks::<{ LANES / 2 }>().0.iter().enumerate() {
        let [first, second] = &mut tiles.as_chunks_mut::<BLOCK_TILES>().0[block];
        let [top, next] = first.0.as_chunks_mut::<8>().0 else { unreachable!("a tile has sixteen rows") };
        let [third, last] = second.0.as_chunks_mut::<8>().0 else { unreachable!("a tile has sixteen rows") };
        for (j, &packed) in packed.iter().enumerate() {
            put(&mut top[j], _mm512_and_si512(_mm512_srli_epi32::<6>(packed), mask));
            put(&mut next[j], _mm512_and_si512(_mm512_srli_epi32::<4>(packed), mask));
            put(&mut third[j], _mm512_and_si512(_mm512_srli_epi32::<2>(packed), mask));
            put(&mut last[j], _mm512_and_si512(packed, mask));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn put(to: &mut [u8; 64], bytes: __m512i) {
    // SAFETY: 64 bytes; the store may be unaligned.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), bytes) };
}

/// Sixteen rows of sixteen values of 32 bits, as columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(r: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = r;
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    // Of rows 4q.. : lane l of vector 4q + j holds column 4l + j.
    let mut fours = pairs;
    for q in (0..16).step_by(4) {
        fours[q] = _mm512_unpacklo_epi64(pairs[q], pairs[q + 2]);
        fours[q + 1] = _mm512_unpackhi_epi64(pairs[q], pairs[q + 2]);
        fours[q + 2] = _mm512_unpacklo_epi64(pairs[q + 1], pairs[q + 3]);
        fours[q + 3] = _mm512_unpackhi_epi64(pairs[q + 1], pairs[q + 3]);
    }
    let mut columns = fours;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        // Lanes 0 and 2, and lanes 1 and 3, of two vectors each.
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        columns[j] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
        columns[8 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
        columns[4 + j] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        columns[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
    columns
}
