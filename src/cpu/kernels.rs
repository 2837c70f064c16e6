//! The table of kernels: what the inner loops are, and which instruction sets they are written for.
//!
//! | verb | kernel | written in |
//! |---|---|---|
//! | `matmul`, `matmul_add` | [`Kernels::dot_codes`] | each set by hand |
//! | the same, of many rows | [`Kernels::dot_tables`] | sets for which it is faster |
//! | `logits` | [`Kernels::dot_dense`] | `vector/`, over each set's eight floats |
//! | `best`, `candidates` | [`Kernels::dot_bytes`], then `dot_dense` | each set by hand |
//! | `attend` | [`Kernels::scores`], [`Kernels::mix`] | `vector/`, over each set's eight floats |
//! | `quantize`, `norm_quantize`, `norm_selected`, `glu`, `argmax`, softmax | the others | `floats.rs`, compiled for each set |
//!
//! To add an instruction set: a file with a token type that exists only where the CPU has the instructions, `impl Kernels`
//! for it with the kernels that it speeds up (the rest is computed by the set named by [`Kernels::older`]), and one entry
//! each in [`KernelSet`], [`KernelSet::ALL`] and [`KernelSet::table`] (`set.rs`).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod portable;
mod set;
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 and AMX alone have tables"))]
pub(crate) mod tables;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub use set::KernelSet;

use crate::cpu::kernels::tables::Tables;
use crate::format::dense::{Dense, Values};
use crate::format::ternary::{BLOCK, BLOCK_BYTES};

/// Most activation rows of a [`Tile`].
pub(crate) const TILE_ROWS: usize = 8;

/// Some rows of packed weights against some rows of activations, over some of their blocks of 128 columns.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// Packed codes of the first weight row's first block, and of all that follow it.
    pub(crate) codes: &'a [u8],
    /// Bytes from one weight row to the next.
    pub(crate) codes_stride: usize,
    /// Weight rows.
    pub(crate) outputs: usize,
    /// Activations of the first row's first block, and of all that follow them.
    pub(crate) x: &'a [i8],
    /// Activations from one row to the next.
    pub(crate) x_stride: usize,
    /// Activation rows, 1 to [`TILE_ROWS`] or [`tables::TABLE_ROWS`].
    pub(crate) rows: usize,
    /// Blocks of 128 columns.
    pub(crate) blocks: usize,
    /// Blocks that one sum covers; the last sum of a row may cover fewer.
    pub(crate) group: usize,
}

impl Tile<'_> {
    /// Sums of one weight row with one activation row.
    pub(crate) fn groups(&self) -> usize {
        self.blocks.div_ceil(self.group)
    }

    /// The sums of the whole tile.
    pub(crate) fn sums(&self) -> usize {
        self.outputs * self.rows * self.groups()
    }

    /// The blocks of one weight row, checked to lie inside.
    #[inline(always)]
    pub(crate) fn weights(&self, output: usize) -> &[[u8; 32]] {
        &self.codes[output * self.codes_stride..].as_chunks().0[..self.blocks]
    }

    /// The blocks of one activation row, checked to lie inside.
    #[inline(always)]
    pub(crate) fn activations(&self, row: usize) -> &[[i8; 128]] {
        &self.x[row * self.x_stride..].as_chunks().0[..self.blocks]
    }
}

/// One row of packed weights against some rows of activations, in which each block has a scale of its own.
#[derive(Clone, Copy)]
pub(crate) struct BlockTile<'a> {
    /// Packed codes of the weight row.
    pub(crate) codes: &'a [[u8; BLOCK_BYTES]],
    /// The scale of each block of the weight row, or ones where it has one in all.
    pub(crate) scales: &'a [f32],
    /// Activations of the first row, and of all that follow it.
    pub(crate) x: &'a [i8],
    /// Activations from one row to the next.
    pub(crate) x_stride: usize,
    /// The sum of the activations of each block of the first row, and of all rows that follow it.
    pub(crate) x_sums: &'a [i32],
    /// What one step of each block's activations stands for, as `x_sums`.
    pub(crate) steps: &'a [f32],
}

/// The blocks of one activation row.
#[derive(Clone, Copy)]
pub(crate) struct BlockRow<'a> {
    pub(crate) x: &'a [[i8; BLOCK]],
    pub(crate) sums: &'a [i32],
    pub(crate) steps: &'a [f32],
}

impl BlockTile<'_> {
    /// The blocks of one activation row, checked to be as many as there are codes and scales.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> BlockRow<'_> {
        let (blocks, first) = (self.codes.len(), row * (self.x_stride / BLOCK));
        assert_eq!(self.scales.len(), blocks);
        BlockRow {
            x: &self.x[row * self.x_stride..].as_chunks().0[..blocks],
            sums: &self.x_sums[first..first + blocks],
            steps: &self.steps[first..first + blocks],
        }
    }
}

/// [`Kernels::dot_blocks`] by a set's [`Kernels::dot_codes`].
pub(crate) fn blocks_by_codes(kernels: &dyn Kernels, out: &mut [f32], tile: &BlockTile<'_>) {
    /// Blocks at a time.
    const BLOCKS: usize = 64;
    let mut dots = [0i32; BLOCKS];
    for (row, out) in out.iter_mut().enumerate() {
        let BlockRow { x, sums, steps } = tile.row(row);
        *out = 0.0;
        for (piece, codes) in tile.codes.chunks(BLOCKS).enumerate() {
            let places = piece * BLOCKS..piece * BLOCKS + codes.len();
            let (blocks, dots) = (codes.len(), &mut dots[..codes.len()]);
            let (codes, x) = (codes.as_flattened(), x[places.clone()].as_flattened());
            let (codes_stride, x_stride) = (codes.len(), x.len());
            kernels.dot_codes(dots, &Tile { codes, codes_stride, outputs: 1, x, x_stride, rows: 1, blocks, group: 1 });
            // Codes are trits + 1, so the sum of the activations is too much.
            for (dot, block) in dots.iter().zip(places) {
                *out += (dot - sums[block]) as f32 * (steps[block] * tile.scales[block]);
            }
        }
    }
}

/// One row of dense weights, as stored.
#[derive(Clone, Copy)]
pub(crate) enum DenseRow<'a> {
    /// Little-endian, 4 bytes each.
    F32(&'a [u8]),
    /// IEEE half, little-endian, 2 bytes each.
    F16(&'a [u8]),
    /// bfloat16, little-endian, 2 bytes each.
    Bf16(&'a [u8]),
    /// int8 with a scale for each `columns`.
    Int8 { codes: &'a [u8], scales: &'a [f32], columns: usize },
}

impl<'a> DenseRow<'a> {
    pub(crate) fn new(dense: &'a Dense, row: usize) -> Self {
        let cols = dense.cols();
        match dense.values() {
            Values::F32(bytes) => DenseRow::F32(&bytes[row * cols * 4..][..cols * 4]),
            Values::F16(bytes) => DenseRow::F16(&bytes[row * cols * 2..][..cols * 2]),
            Values::Bf16(bytes) => DenseRow::Bf16(&bytes[row * cols * 2..][..cols * 2]),
            Values::Int8 { columns, codes, scales } => {
                let groups = cols / columns;
                let scales = &scales[row * groups..][..groups];
                DenseRow::Int8 { codes: &codes[row * cols..][..cols], scales, columns: *columns }
            }
        }
    }
}

/// Keys or values of consecutive positions, `[positions, head_dim]`.
#[derive(Clone, Copy)]
pub(crate) enum Entries<'a> {
    /// IEEE half.
    F16(&'a [u16]),
    /// Single.
    F32(&'a [f32]),
}

/// Most query heads of one call of [`Kernels::scores`] and [`Kernels::mix`]. The loops are written for pairs.
pub(crate) const HEADS: usize = 8;

/// The inner loops. Every result depends on its own row alone, not on how many rows are computed together, so that a
/// batch equals its rows one by one bit for bit.
pub(crate) trait Kernels: Sync {
    /// Which set this is.
    fn set(&self) -> KernelSet;

    /// The set that computes what this one does not: the table has no holes, and a set need not copy another's kernels.
    /// The portable set computes everything itself.
    fn older(&self) -> &dyn Kernels;

    /// `sums[(output, row, group)] = Σ code·x` over the group's columns: the exact integer for every code 0 to 3 and
    /// every int8, in every set.
    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        self.older().dot_codes(sums, tile);
    }

    /// `out[row] = Σ step · scale · Σ trit·x` over the blocks and the columns of each. Sums within a block, or within a lane of
    /// it, are exact integers; floats are added in any order.
    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>) {
        self.older().dot_blocks(out, tile);
    }

    /// The fewest activation rows for which [`Kernels::dot_tables`] is faster than [`Kernels::dot_codes`], if any are.
    fn fewest_table_rows(&self) -> Option<usize> {
        None
    }

    /// The fewest activation rows beside whole sets of [`tables::TABLE_ROWS`] that are made one with zeros, rather than left
    /// to [`Kernels::dot_codes`].
    fn fewest_in_set(&self) -> usize {
        10
    }

    /// `tables.sums[row / TABLE_ROWS][output][row % TABLE_ROWS] = Σ trit·x` over a whole weight row, for at most
    /// [`tables::SPAN`] weight rows and [`tables::SETS`] times [`tables::TABLE_ROWS`] activation rows. False, and sums
    /// that mean nothing, if a code 3 was met.
    fn dot_tables(&self, _tables: &mut Tables, _tile: &Tile<'_>) -> bool {
        false
    }

    /// `out[row] = w · x[row]` in f32, for `x: [out.len(), cols]`. In any order, but weights are converted exactly and each
    /// operation rounds once, to f32 or better: the bounds of the screened head rest on that.
    fn dot_dense(&self, out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
        self.older().dot_dense(out, w, x);
    }

    /// `out[row] = w · x[row]`, exactly, for `x: [out.len(), w.len()]`. `w` is whole blocks of 128 bytes; the sums of the
    /// magnitudes of all products of a row fit an i32, so that no order of additions overflows.
    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        self.older().dot_bytes(out, w, x);
    }

    /// `scores[(head, position)] = q[head] · keys[position] * factor`. `q: [heads, head_dim]`, at most [`HEADS`].
    fn scores(&self, scores: &mut [f32], q: &[f32], keys: Entries<'_>, head_dim: usize, factor: f32) {
        self.older().scores(scores, q, keys, head_dim, factor);
    }

    /// `out[head] += Σ weights[(head, position)] * values[position]`. `out: [heads, head_dim]`, at most [`HEADS`].
    fn mix(&self, out: &mut [f32], weights: &[f32], values: Entries<'_>, head_dim: usize) {
        self.older().mix(out, weights, values, head_dim);
    }

    /// [`crate::cpu::floats::absmax`]
    fn absmax(&self, x: &[f32]) -> f32 {
        self.older().absmax(x)
    }

    /// [`crate::cpu::floats::round`]
    fn round(&self, out: &mut [i8], x: &[f32], scale: f32) {
        self.older().round(out, x, scale);
    }

    /// [`crate::cpu::floats::block_sums`]
    fn block_sums(&self, out: &mut [i32], x: &[i8]) {
        self.older().block_sums(out, x);
    }

    /// [`crate::cpu::floats::sum_squares`]
    fn sum_squares(&self, x: &[f32]) -> f64 {
        self.older().sum_squares(x)
    }

    /// [`crate::cpu::floats::norm`]
    fn norm(&self, out: &mut [f32], x: &[f32], factor: f32, gain: &[f32]) {
        self.older().norm(out, x, factor, gain);
    }

    /// [`crate::cpu::floats::squared_relu`]
    fn squared_relu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        self.older().squared_relu(out, gate, up);
    }

    /// [`crate::cpu::floats::silu`]
    fn silu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        self.older().silu(out, gate, up);
    }

    /// [`crate::cpu::floats::gelu`]
    fn gelu(&self, out: &mut [f32], gate: &[f32], up: &[f32]) {
        self.older().gelu(out, gate, up);
    }

    /// [`crate::cpu::floats::unpack`]
    fn unpack(&self, out: &mut [f32], codes: &[u8]) {
        self.older().unpack(out, codes);
    }

    /// [`crate::cpu::floats::exp_sum`]
    fn exp_sum(&self, scores: &mut [f32], largest: f32) -> f32 {
        self.older().exp_sum(scores, largest)
    }

    /// [`crate::cpu::floats::largest`]
    fn largest(&self, x: &[f32]) -> Option<usize> {
        self.older().largest(x)
    }
}
