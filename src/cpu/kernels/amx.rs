//! Trits times int8 for many activation rows with AMX, the matrix unit of Intel's servers since 2023: one `tdpbsud`
//! multiplies 16 activation rows of 64 columns with as many codes of 16 weight rows, 16384 products.
//!
//! Weight rows come as [panels](super::panel), whose unpacked blocks all activation rows pass over. Where one scale covers a weight row, sums stay integers, and begin at minus the sum of the
//! activations, because codes are trits + 1. Where each block has its own, the sums of a block are stored, and become floats
//! while the next block is multiplied.
//!
//! An [`Amx`] exists only where the CPU has these instructions and the kernel lets this process use them; that is what
//! makes the calls below sound. Rust has no stable intrinsics for AMX, so its instructions are inline assembly, each a whole
//! loop: no tile lives from one to the next but the configuration.

mod detect;
mod tiles;

use std::any::Any;
use std::arch::x86_64::*;
use std::ops::Range;

use super::panel::{BLOCK_TILES, HALVES, LANES, Panel};
use super::vnni::{Avx512Vnni, panels as vectors};
use crate::backend::Numerics;
use crate::cpu::kernels::spans::{PANEL, PanelSums, SET, SpanRoom, TakeSums};
use crate::cpu::kernels::{BlockTile, KernelSet, Kernels, Tile};
use tiles::{ActivationSet, NO_PRODUCTS, Products, TileUnit};

/// The token: only [`Amx::detect`] gives one out.
pub(crate) struct Amx {
    avx512: &'static Avx512Vnni,
}

/// Fewest activation rows that are worth a set of tiles, which zeros make full; fewer are multiplied by vectors.
const FEWEST_IN_SET: usize = 10;

/// What a thread keeps for these kernels: as much as the longest row of activations needs.
struct Room {
    panel: Panel,
    /// Activations of a set that zeros make full: `[SET, blocks * 128]`.
    last: Vec<i8>,
    /// Sums of the block that is being multiplied, and of the one before.
    products: Box<[Products; 2]>,
}

impl Kernels for Amx {
    fn set(&self) -> KernelSet {
        KernelSet::Amx
    }

    fn older(&self) -> &dyn Kernels {
        self.avx512
    }

    fn span_rows(&self, rows: usize, numerics: Numerics) -> usize {
        self.avx512.span_rows(rows, numerics)
    }

    fn room(&self) -> Box<dyn Any + Send> {
        Box::new(Room { panel: Panel::new(), last: Vec::new(), products: Box::new([NO_PRODUCTS; 2]) })
    }

    fn reserve(&self, room: &mut SpanRoom, blocks: usize) {
        let Room { panel, last, .. } = room.get();
        panel.reserve(blocks);
        if last.len() < SET * blocks * 128 {
            last.resize(SET * blocks * 128, 0);
        }
    }

    fn span_codes(&self, room: &mut SpanRoom, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) -> bool {
        // SAFETY: `self` exists, so the CPU has AVX-512F, AVX-512BW, AVX-512 VNNI and AMX with int8, which this process may use.
        unsafe { span_codes(room.get(), tile, x_sums, take) }
        true
    }

    fn span_blocks(&self, room: &mut SpanRoom, tile: &BlockTile<'_>, take: TakeSums<'_, f32>) {
        // SAFETY: as above; every such CPU has FMA.
        unsafe { span_blocks(room.get(), tile, take) }
    }
}

/// How many of some activation rows are multiplied by tiles: whole sets, and what is nearly one.
fn rows_in_tiles(rows: usize) -> usize {
    match rows % SET {
        rest if rest < FEWEST_IN_SET => rows - rest,
        _ => rows,
    }
}

/// [`Kernels::span_codes`]; every code counts.
///
/// # Safety
/// The CPU has AMX with int8, and this process may use it.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn span_codes(room: &mut Room, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) {
    let Room { panel, last, .. } = room;
    let in_tiles = rows_in_tiles(tile.rows);
    let sets = Sets::new(tile, in_tiles, last);
    // SAFETY: the caller shows AMX.
    let unit = unsafe { TileUnit::configured() };
    let mut unused = [[0; PANEL]; SET]; // the sums of the set beyond an odd number
    panel.each(tile, take, |panel, sums, _, blocks| {
        if blocks.start == 0 {
            vectors::begin(sums, x_sums);
        }
        let mut of_sets = sums.as_chunks_mut::<SET>().0.iter_mut().take(sets.count);
        for pair in 0..sets.pairs() {
            let Some(first) = of_sets.next() else { break };
            let second = of_sets.next().unwrap_or(&mut unused);
            unit.add(panel.codes(blocks.len()), sets.pair(pair, blocks.start), [first, second]);
        }
        vectors::add_codes(panel, sums, tile, in_tiles..tile.rows, blocks);
    });
}

/// [`Kernels::span_blocks`]
///
/// # Safety
/// As for [`span_codes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
unsafe fn span_blocks(room: &mut Room, tile: &BlockTile<'_>, take: TakeSums<'_, f32>) {
    let Room { panel, last, products } = room;
    let in_tiles = rows_in_tiles(tile.tile.rows);
    let sets = Sets::new(&tile.tile, in_tiles, last);
    // SAFETY: the caller shows AMX.
    let unit = unsafe { TileUnit::configured() };
    panel.each(&tile.tile, take, |panel, values, output, blocks| {
        if blocks.start == 0 {
            panel.take_scales(tile, output);
            values[..tile.tile.rows].fill([0.0; PANEL]);
        }
        // One block is multiplied while the sums of the one before become floats.
        let mut before = None;
        let mut turn = 0;
        for pair in 0..sets.pairs() {
            let rows = pair * 2 * SET..in_tiles.min((pair + 1) * 2 * SET);
            for (place, block) in blocks.clone().enumerate() {
                let codes = panel.codes(blocks.len()).map(|codes| &codes[place * BLOCK_TILES..][..BLOCK_TILES]);
                unit.multiply(codes, sets.pair(pair, block), &mut products[turn]);
                if let Some((rows, block)) = before.replace((rows.clone(), block)) {
                    add_products(values, &products[1 - turn], panel, tile, rows, block);
                }
                turn = 1 - turn;
            }
        }
        if let Some((rows, block)) = before {
            add_products(values, &products[1 - turn], panel, tile, rows, block);
        }
        vectors::add_blocks(panel, values, tile, in_tiles..tile.tile.rows, blocks);
    });
}

/// Adds the sums of a block, less those of the activations, times its scales, for at most two sets of rows.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add_products(
    values: &mut PanelSums<f32>,
    products: &Products,
    panel: &Panel,
    tile: &BlockTile<'_>,
    rows: Range<usize>,
    block: usize,
) {
    let scales = panel.scales(block);
    for (place, row) in rows.enumerate() {
        let x = tile.row(row);
        let (x_sum, step) = (x.sums[block], x.steps[block]);
        for (half, values) in values[row].as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let sums = &products.0[place / SET * HALVES + half][place % SET];
            // SAFETY: sixteen sums; the load may be unaligned.
            let sums = unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) };
            let sums = _mm512_sub_epi32(sums, _mm512_set1_epi32(x_sum));
            vectors::add_scaled(values, sums, scales, half, step);
        }
    }
}

/// Whole sets of activation rows where they lie, and one that zeros make full.
struct Sets<'a> {
    tile: &'a Tile<'a>,
    last: &'a [i8], // [SET, x_stride], if there is one
    count: usize,
}

impl<'a> Sets<'a> {
    /// The sets of the first `rows` rows; `last` is room for one.
    fn new(tile: &'a Tile<'a>, rows: usize, last: &'a mut [i8]) -> Self {
        let rest = rows % SET;
        if rest > 0 {
            let len = tile.blocks * 128;
            for (i, row) in last.chunks_exact_mut(tile.x_stride).enumerate().take(SET) {
                match i < rest {
                    true => row[..len].copy_from_slice(tile.activations(rows - rest + i).as_flattened()),
                    false => row[..len].fill(0),
                }
            }
        }
        Self { tile, last, count: rows.div_ceil(SET) }
    }

    /// How many pairs of sets there are.
    fn pairs(&self) -> usize {
        self.count.div_ceil(2)
    }

    /// The sets of a pair from a block on. The second set beyond an odd number is the first once more, and its sums are not used.
    #[inline(always)]
    fn pair(&self, pair: usize, block: usize) -> [ActivationSet<'_>; 2] {
        let stride = self.tile.x_stride;
        [2 * pair, (2 * pair + 1).min(self.count - 1)].map(|set| {
            let x = match (set + 1) * SET <= self.tile.rows {
                true => &self.tile.x[set * SET * stride..],
                false => self.last,
            };
            ActivationSet { x: &x[block * 128..], stride }
        })
    }
}
