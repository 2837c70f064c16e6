//! The list of kernels: what the inner loops are, and which instruction sets they are written for.
//!
//! | verb | kernel | written in |
//! |---|---|---|
//! | `matmul`, `matmul_add` | [`Kernels::dot_codes`] | each set by hand |
//! | the same, of many rows | [`Kernels::dot_tables`] | sets for which it is faster |
//! | the same, of activations in f32 | [`Kernels::dot_floats`] | `vector/`, over each set's eight or sixteen floats |
//! | `logits` | [`Kernels::dot_dense`] | `vector/`, over each set's eight floats |
//! | `best`, `candidates` | [`Kernels::dot_bytes`], then `dot_dense` | `bytes.rs`, over each set's vectors |
//! | `attend` | [`Kernels::scores`], [`Kernels::mix`] | `vector/`, over each set's eight floats |
//! | `quantize`, `norm_quantize`, `norm_selected`, `glu`, `delta_rule`, `argmax`, softmax | the others | `floats.rs`, compiled for each set |
//!
//! To add an instruction set: a file with a token type that exists only where the CPU has the instructions, `impl Kernels`
//! for it with the kernels that it speeds up (the rest is computed by the set named by [`Kernels::older`]), its `mod` here,
//! and its row in [`KernelSet`] (`set.rs`).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod bytes;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod portable;
mod set;
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 and AMX alone have tables"))]
pub(crate) mod tables;
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub use set::KernelSet;
pub(crate) use tiles::{BlockRow, BlockTile, DenseRow, Entries, FloatRow, FloatTile, TILE_ROWS, Tile};

use std::any::Any;

use crate::cpu::kernels::tables::Tables;

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

    /// `out[row] = Σ scale · Σ trit·x` over the blocks and the columns of each, for activations in f32. In any order, which is the same
    /// for every row, however many there are.
    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        self.older().dot_floats(out, tile);
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

    /// What a thread keeps for [`Kernels::dot_tables`], in a form of this set's own.
    fn room(&self) -> Box<dyn Any + Send> {
        Box::new(())
    }

    /// Makes that room large enough for activation rows of so many blocks: before [`Kernels::dot_tables`].
    fn reserve(&self, _tables: &mut Tables, _blocks: usize) {}

    /// `tables.sums[row / TABLE_ROWS][output][row % TABLE_ROWS] = Σ trit·x` over a whole weight row, for at most
    /// [`tables::SPAN`] weight rows and [`tables::SETS`] times [`tables::TABLE_ROWS`] activation rows. False, and sums
    /// that mean nothing, if a code 3 was met. The tables were made for these kernels.
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

    /// [`crate::cpu::floats::hadamard`]
    fn hadamard(&self, block: &mut [f32]) {
        self.older().hadamard(block);
    }

    /// [`crate::cpu::floats::recall`]
    fn recall(&self, with_key: &mut [f32], with_query: &mut [f32], memory: &[f32], key: &[f32], query: &[f32]) {
        self.older().recall(with_key, with_query, memory, key, query);
    }

    /// [`crate::cpu::floats::remember`]
    fn remember(&self, memory: &mut [f32], fade: f32, key: &[f32], update: &[f32]) {
        self.older().remember(memory, fade, key, update);
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
