//! Trits times int8 for several activation rows with AMX, the matrix unit of Intel's servers since 2023: one `tdpbusd` multiplies
//! 64 columns of the codes of sixteen weight rows with those of sixteen activation rows, 16384 products.
//!
//! A tile's row is a weight row: unpacking is a shift and a mask, and nothing is turned. What is turned are the activations, which are
//! few: row `k` of their tiles holds four neighbouring columns of sixteen activation rows, once for a span.
//!
//! Where one scale covers a weight row, sums stay integers, and begin at minus the sum of the activations, because codes are trits + 1.
//! Where each block has its own, the sums of a block are stored, and become floats while the next block is multiplied.
//!
//! An [`Amx`] exists only where the CPU has these instructions and the kernel lets this process use them; that is what
//! makes the calls below sound. Rust has no stable intrinsics for AMX, so its instructions are inline assembly, each a whole
//! loop: no tile lives from one to the next but the configuration.

mod detect;
mod operands;
mod tiles;

use std::any::Any;
use std::arch::x86_64::*;

use super::panel::{HALVES, LANES, PanelScales, ROWS};
use super::vnni::Avx512Vnni;
use crate::backend::Numerics;
use crate::cpu::kernels::spans::{PANEL, SET, SpanRoom, TakeSums};
use crate::cpu::kernels::{BlockTile, KernelSet, Kernels, TakeScales, Tile};
use operands::{Activations, Codes, turned};
use tiles::{NO_SUMS, TileSums, TileUnit};

/// The token: only [`Amx::detect`] gives one out.
pub(crate) struct Amx {
    avx512: &'static Avx512Vnni,
}

/// Fewest activation rows that are worth tiles, which zeros make full; fewer are multiplied by vectors. Measured on a Sapphire Rapids VM
/// of two cores (2026-11-29), whole steps of the 0.7B shape and, of blocks with scales, of Bonsai 1.7B, of the time by vectors (of 16
/// rows and of blocks, in panels, as they were then): 4 rows 1.28 and 1.11, 8 rows 0.96 and 0.81, 16 rows 0.79 and 0.70.
const FEWEST_IN_TILES: usize = 7;
/// The same where blocks have scales.
const FEWEST_IN_TILES_OF_BLOCKS: usize = 5;

/// What a thread keeps for these kernels: as much as the longest row of activations needs.
struct Room {
    activations: Activations,
    codes: Box<Codes>,
    /// Of each set of activation rows and each half of a panel.
    sums: Vec<[TileSums; HALVES]>,
    /// As many floats.
    values: Vec<[[[f32; SET]; LANES]; HALVES]>,
    /// Of the blocks that are being multiplied, of one and of the next.
    products: Box<[[[TileSums; HALVES]; 2]; 2]>,
    taken: Vec<[i32; PANEL]>, // of each activation row, or as many floats
    scales: PanelScales,
    of_vectors: SpanRoom,
}

impl Kernels for Amx {
    fn set(&self) -> KernelSet {
        KernelSet::Amx
    }

    fn older(&self) -> &dyn Kernels {
        self.avx512
    }

    fn span_rows(&self, rows: usize, numerics: Numerics) -> usize {
        match numerics {
            Numerics::Int8Rows if rows >= FEWEST_IN_TILES => rows,
            _ => self.avx512.span_rows(rows, numerics),
        }
    }

    fn room(&self) -> Box<dyn Any + Send> {
        let sets = ROWS / SET;
        Box::new(Room {
            activations: Activations::new(),
            codes: Codes::boxed(),
            sums: vec![[NO_SUMS; HALVES]; sets],
            values: vec![[[[0.0; SET]; LANES]; HALVES]; sets],
            products: Box::new([[[NO_SUMS; HALVES]; 2]; 2]),
            taken: vec![[0; PANEL]; sets * SET],
            scales: PanelScales::new(),
            of_vectors: SpanRoom::new(self.avx512),
        })
    }

    fn reserve(&self, room: &mut SpanRoom, blocks: usize) {
        let Room { activations, scales, of_vectors, .. } = room.get();
        activations.reserve(blocks);
        scales.reserve(blocks);
        self.avx512.reserve(of_vectors, blocks);
    }

    fn span_codes(&self, room: &mut SpanRoom, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) -> bool {
        // SAFETY: `self` exists, so the CPU has AVX-512F, AVX-512BW and AMX with int8, which this process may use.
        unsafe { span_codes(room.get(), tile, x_sums, take) }
        true
    }

    fn span_blocks(&self, room: &mut SpanRoom, tile: &BlockTile<'_>, scales: TakeScales<'_>, take: TakeSums<'_, f32>) {
        let room: &mut Room = room.get();
        match tile.tile.rows < FEWEST_IN_TILES_OF_BLOCKS {
            true => self.avx512.span_blocks(&mut room.of_vectors, tile, scales, take),
            // SAFETY: as above; every such CPU has FMA.
            false => unsafe { span_blocks(room, tile, scales, take) },
        }
    }
}

/// [`Kernels::span_codes`]; every code counts.
///
/// # Safety
/// The CPU has AMX with int8, and this process may use it.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn span_codes(room: &mut Room, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) {
    let Room { activations, codes, sums, taken, .. } = room;
    activations.turn(tile);
    let sums = &mut sums[..activations.sets()];
    // SAFETY: the caller shows AMX.
    let unit = unsafe { TileUnit::configured() };
    for output in (0..tile.outputs).step_by(PANEL) {
        for (sums, x_sums) in sums.iter_mut().zip(x_sums.chunks(SET)) {
            let mut row = [0; SET];
            row.iter_mut().zip(x_sums).for_each(|(row, x_sum)| *row = -x_sum);
            sums.iter_mut().for_each(|half| half.0.fill(row));
        }
        for first in (0..tile.blocks).step_by(Codes::BLOCKS) {
            let blocks = first..tile.blocks.min(first + Codes::BLOCKS);
            codes.unpack(tile, output, blocks.clone());
            for (pair, sums) in sums.chunks_mut(2).enumerate() {
                let x = |set: usize| activations.set(2 * pair + set, blocks.clone());
                match sums {
                    [one, other] => unit.add_two(codes.of(blocks.len()), [x(0), x(1)], [one, other]),
                    [one] => unit.add(codes.of(blocks.len()), x(0), one),
                    _ => unreachable!("chunks of one or two"),
                }
            }
        }
        for (taken, sums) in taken.as_chunks_mut::<SET>().0.iter_mut().zip(&*sums) {
            turned(taken, sums.each_ref().map(|half| &half.0));
        }
        take(output, &taken[..tile.rows]);
    }
}

/// [`Kernels::span_blocks`]
///
/// # Safety
/// As for [`span_codes`].
#[target_feature(enable = "avx512f,avx512bw,fma")]
unsafe fn span_blocks(room: &mut Room, tile: &BlockTile<'_>, scales: TakeScales<'_>, take: TakeSums<'_, f32>) {
    let Room { activations, codes, values, products, taken, scales: of_panel, .. } = room;
    activations.turn(&tile.tile);
    activations.turn_factors(tile);
    let values = &mut values[..activations.sets()];
    // SAFETY: the caller shows AMX.
    let unit = unsafe { TileUnit::configured() };
    for output in (0..tile.tile.outputs).step_by(PANEL) {
        of_panel.take(&tile.tile, scales, output);
        values.as_flattened_mut().as_flattened_mut().fill([0.0; SET]);
        for first in (0..tile.tile.blocks).step_by(Codes::BLOCKS) {
            let blocks = first..tile.tile.blocks.min(first + Codes::BLOCKS);
            codes.unpack(&tile.tile, output, blocks.clone());
            for (pair, values) in values.chunks_mut(2).enumerate() {
                // One block is multiplied while the sums of the one before become floats.
                let (mut before, mut turn) = (None, 0);
                for block in blocks.clone().map(Some).chain([None]) {
                    if let Some(block) = block {
                        let x = |set: usize| activations.set(2 * pair + set, block..block + 1);
                        let codes = codes.of_block(block - first);
                        match (values.len(), &mut products[turn]) {
                            (2, sums) => unit.multiply_two(codes, [x(0), x(1)], sums),
                            (_, [sums, _]) => unit.multiply(codes, x(0), sums),
                        }
                    }
                    if let Some(before) = std::mem::replace(&mut before, block) {
                        for (place, values) in values.iter_mut().enumerate() {
                            let set = 2 * pair + place;
                            let rows = tile.tile.outputs - output;
                            add_products(
                                values,
                                &products[1 - turn][place],
                                activations,
                                of_panel,
                                rows,
                                (set, before),
                            );
                        }
                    }
                    turn = 1 - turn;
                }
            }
        }
        for (taken, values) in taken.as_chunks_mut::<SET>().0.iter_mut().zip(&*values) {
            turned(taken, values.each_ref().map(bytemuck::cast_ref));
        }
        take(output, bytemuck::cast_slice(&taken[..tile.tile.rows]));
    }
}

/// Adds the sums of a block, less those of the activations, times its scales: of the first weight rows of a panel, and one set.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn add_products(
    values: &mut [[[f32; SET]; LANES]; HALVES],
    products: &[TileSums; HALVES],
    activations: &Activations,
    scales: &PanelScales,
    weight_rows: usize,
    (set, block): (usize, usize),
) {
    let (x_sums, steps) = activations.factors(set, block);
    // SAFETY: sixteen integers and sixteen floats; loads may be unaligned.
    let (x_sums, steps) = unsafe { (_mm512_loadu_si512(x_sums.as_ptr().cast()), _mm512_loadu_ps(steps.as_ptr())) };
    let rows = values.as_flattened_mut().iter_mut().zip(products.iter().flat_map(|half| &half.0));
    for (row, (values, sums)) in rows.enumerate().take(weight_rows) {
        let scale = scales.of(block, row / LANES)[row % LANES];
        // SAFETY: sixteen integers and sixteen floats; loads and the store may be unaligned.
        unsafe {
            let sums = _mm512_sub_epi32(_mm512_loadu_si512(sums.as_ptr().cast()), x_sums);
            let factors = _mm512_mul_ps(_mm512_set1_ps(scale), steps);
            let before = _mm512_loadu_ps(values.as_ptr());
            _mm512_storeu_ps(values.as_mut_ptr(), _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), factors, before));
        }
    }
}
