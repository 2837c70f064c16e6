//! What tiles are loaded from: codes as they are unpacked, and activations as they are turned.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::cpu::kernels::avx2::prefetch_to_second;
use crate::cpu::kernels::panel::{BLOCK_TILES, Bytes, HALVES, LANES, NO_BYTES, ROWS, in_lanes, transposed};
use crate::cpu::kernels::spans::{PANEL, SET};
use crate::cpu::kernels::{BlockTile, Tile};

/// The codes of some blocks of a panel, a byte each: `[half][tile of 64 columns][weight row]`.
pub(super) struct Codes([[Bytes; Codes::BLOCKS * BLOCK_TILES]; HALVES]);

impl Codes {
    /// Blocks of a panel that are unpacked together: 32 KiB.
    pub(super) const BLOCKS: usize = 8;

    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self([[NO_BYTES; Self::BLOCKS * BLOCK_TILES]; HALVES]))
    }

    /// The codes of the first `blocks` blocks that were unpacked.
    #[inline(always)]
    pub(super) fn of(&self, blocks: usize) -> [&[Bytes]; HALVES] {
        self.0.each_ref().map(|half| &half[..blocks * BLOCK_TILES])
    }

    /// The codes of one of them.
    #[inline(always)]
    pub(super) fn of_block(&self, block: usize) -> [&[Bytes]; HALVES] {
        self.0.each_ref().map(|half| &half[block * BLOCK_TILES..][..BLOCK_TILES])
    }

    /// Unpacks some blocks of the weight rows from `output` on. Of rows beyond the last, codes are those of other rows.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn unpack(&mut self, tile: &Tile<'_>, output: usize, blocks: Range<usize>) {
        // Of the two copies of a block's 32 bytes, the first keeps the field of lower columns.
        let shifts = |low: i16, high: i16| _mm512_inserti64x4::<1>(_mm512_set1_epi16(low), _mm256_set1_epi16(high));
        let (first_half, second_half, mask) = (shifts(6, 4), shifts(2, 0), _mm512_set1_epi8(3));
        for row in 0..PANEL.min(tile.outputs - output) {
            let tiles = &mut self.0[row / LANES];
            let codes = &tile.weights(output + row)[blocks.clone()];
            for (block, tiles) in codes.iter().zip(tiles.as_chunks_mut::<BLOCK_TILES>().0) {
                // The same of the next panel: rows are too short, and too many, for the CPU to see what comes.
                prefetch_to_second(block.as_ptr().wrapping_add(PANEL * tile.codes_stride));
                // SAFETY: a block has 32 bytes, and rows of tiles 64; loads and stores may be unaligned.
                unsafe {
                    let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(block.as_ptr().cast()));
                    for (tile, shift) in tiles.iter_mut().zip([first_half, second_half]) {
                        let codes = _mm512_and_si512(_mm512_srlv_epi16(both, shift), mask);
                        _mm512_storeu_si512(tile.0[row % LANES].as_mut_ptr().cast(), codes);
                    }
                }
            }
        }
    }
}

/// Activations of a span, four columns of sixteen rows in each row of a tile: `[set][tile of 64 columns]`; rows that a set lacks are
/// zeros. And, of blocks with scales, what each is added with: `[set][block][row of the set]`.
pub(super) struct Activations {
    x: Vec<Bytes>,
    x_sums: Vec<[i32; SET]>,
    steps: Vec<[f32; SET]>,
    sets: usize,
    blocks: usize,
}

impl Activations {
    pub(super) fn new() -> Self {
        Self { x: Vec::new(), x_sums: Vec::new(), steps: Vec::new(), sets: 0, blocks: 0 }
    }

    /// Makes room for as many rows of so many blocks as a span has.
    pub(super) fn reserve(&mut self, blocks: usize) {
        let count = ROWS / SET * blocks;
        if self.x_sums.len() < count {
            self.x.resize(count * BLOCK_TILES, NO_BYTES);
            self.x_sums.resize(count, [0; SET]);
            self.steps.resize(count, [0.0; SET]);
        }
    }

    pub(super) fn sets(&self) -> usize {
        self.sets
    }

    /// Some blocks of a set.
    #[inline(always)]
    pub(super) fn set(&self, set: usize, blocks: Range<usize>) -> &[Bytes] {
        let first = set * self.blocks + blocks.start;
        &self.x[first * BLOCK_TILES..][..blocks.len() * BLOCK_TILES]
    }

    /// The sums of a block's activations and their steps.
    #[inline(always)]
    pub(super) fn factors(&self, set: usize, block: usize) -> (&[i32; SET], &[f32; SET]) {
        let place = set * self.blocks + block;
        (&self.x_sums[place], &self.steps[place])
    }

    /// Takes the activations of a span.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn turn(&mut self, tile: &Tile<'_>) {
        assert!(tile.rows <= ROWS);
        (self.sets, self.blocks) = (tile.rows.div_ceil(SET), tile.blocks);
        for (set, tiles) in self.x.chunks_exact_mut(tile.blocks * BLOCK_TILES).enumerate().take(self.sets) {
            let first = set * SET;
            for (place, to) in tiles.iter_mut().enumerate() {
                let mut rows = [_mm512_setzero_si512(); SET];
                for (row, columns) in (first..tile.rows).zip(&mut rows) {
                    let x = &tile.activations(row).as_flattened()[place * 64..][..64];
                    // SAFETY: 64 bytes; the load may be unaligned.
                    *columns = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
                }
                for (to, columns) in to.0.iter_mut().zip(transposed(rows)) {
                    // SAFETY: 64 bytes; the store may be unaligned.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), columns) };
                }
            }
        }
    }

    /// Takes what its blocks are added with.
    pub(super) fn turn_factors(&mut self, tile: &BlockTile<'_>) {
        for row in 0..tile.tile.rows {
            let (set, place) = (row / SET, row % SET);
            let x = tile.row(row);
            let blocks = set * self.blocks..(set + 1) * self.blocks;
            self.x_sums[blocks.clone()].iter_mut().zip(x.sums).for_each(|(to, sum)| to[place] = *sum);
            self.steps[blocks].iter_mut().zip(x.steps).for_each(|(to, step)| to[place] = *step);
        }
    }
}

/// Sums of both halves of a panel, `[weight row][activation row]`, as `[activation row][weight row]`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turned(out: &mut [[i32; PANEL]; SET], halves: [&[[i32; SET]; LANES]; HALVES]) {
    for (half, sums) in halves.into_iter().enumerate() {
        let rows = in_lanes(LANES, |row| &sums[row]);
        for (out, row) in out.iter_mut().zip(rows) {
            let out = &mut out.as_chunks_mut::<LANES>().0[half];
            // SAFETY: sixteen integers; the store may be unaligned.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), row) };
        }
    }
}
