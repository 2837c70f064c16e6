//! The list of kernels: what the inner loops are, and which instruction sets they are written for.
//!
//! | verb | kernel | written in |
//! |---|---|---|
//! | `matmul`, `matmul_add` | [`Kernels::dot_codes`] | each set by hand |
//! | the same, of many rows | [`Kernels::span_codes`], [`Kernels::span_blocks`] | sets for which they are faster |
//! | the same, of activations in f32 | [`Kernels::dot_floats`] | `vector/`, over each set's eight or sixteen floats |
//! | what the sums of many rows are worth | [`Kernels::scale_sums`] | `floats.rs`, compiled for each set |
//! | `logits` | [`Kernels::dot_dense`] | `vector/`, over each set's eight floats |
//! | `best`, `candidates` | [`Kernels::dot_nibbles`], `dot_bytes`, then `dot_dense` | `nibbles.rs`, `bytes.rs`, over each set's vectors |
//! | the same, in between | [`Kernels::bound`] | `bounds.rs`, compiled for each set |
//! | `attend`, scales of products | [`Kernels::scores`], [`Kernels::mix`], [`Kernels::widen`] | `vector/`, over each set's eight or sixteen floats |
//! | [`crate::measure::read_bandwidth`] | [`Kernels::sum_words`] | `words.rs`, compiled for each set |
//! | `quantize`, `norm_quantize`, `norm_selected`, `glu`, `delta_rule`, `argmax`, softmax | the others | `floats.rs`, compiled for each set |
//!
//! To add an instruction set: a file with a token type that exists only where the CPU has the instructions, `impl Kernels`
//! for it with the kernels that it speeds up (the rest is computed by the set named by [`Kernels::older`]), its `mod` here,
//! and its row in [`KernelSet`] (`set.rs`).

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod again;
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod bounds;
#[cfg(target_arch = "x86_64")]
mod bytes;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod panel;
pub(crate) mod portable;
mod set;
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only sets of x86-64 have spans"))]
pub(crate) mod spans;
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
mod words;

pub use set::KernelSet;
pub(crate) use tiles::{
    BlockRow, BlockTile, DenseRow, Entries, FEW_QUERIES, FloatRow, FloatTile, KEYS_TOGETHER, NibbleRows, POSITIONS,
    QUERIES_TOGETHER, SCALED_BLOCKS, SCALES_TOGETHER, Scores, TILE_ROWS, TakeScales, Tile, TileScales,
};

use std::any::Any;
use std::ops::Range;

use crate::backend::Numerics;
use crate::cpu::kernels::bounds::{BoundedRows, Factors, RowBounds, Shares, Sums};
use crate::cpu::kernels::spans::{SpanLimits, SpanRoom, TakeSums};

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

    /// `out[(output, row)] += Σ step · scale · Σ trit·x` over the blocks and the columns of each. Sums within a block, or within a
    /// lane of it, are exact integers; floats are added in any order, which is that of [`Kernels::span_blocks`] too. At most
    /// [`SCALES_TOGETHER`] weight rows and [`SCALED_BLOCKS`] blocks.
    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        self.older().dot_blocks(out, tile, scales);
    }

    /// `out[row] = Σ scale · Σ trit·x` over the blocks and the columns of each, for activations in f32. In any order, which is the same
    /// for every row, however many there are.
    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        self.older().dot_floats(out, tile);
    }

    /// How many of so many activation rows of a step are multiplied fastest by [`Kernels::span_codes`] or, of
    /// [`Numerics::Int8Groups`], by [`Kernels::span_blocks`]: the first ones. The others are left to `dot_codes` and `dot_blocks`.
    fn span_rows(&self, _rows: usize, _numerics: Numerics) -> usize {
        0
    }

    /// How large spans are.
    fn span_limits(&self) -> SpanLimits {
        self.older().span_limits()
    }

    /// What a thread keeps for spans, in a form of this set's own.
    fn room(&self) -> Box<dyn Any + Send> {
        Box::new(())
    }

    /// Makes that room large enough for rows of so many blocks: before a span.
    fn reserve(&self, _room: &mut SpanRoom, _blocks: usize) {}

    /// `Σ trit·x` over whole weight rows, for as many of them and as many activation rows as [`Kernels::span_limits`] says, of which
    /// `x_sums` are the sums; `take` is given them panel by panel. False, and nothing is given, if a code 3 is no trit to this set
    /// and one was met. The room was made for these kernels.
    fn span_codes(&self, _room: &mut SpanRoom, _tile: &Tile<'_>, _x_sums: &[i32], _take: TakeSums<'_, i32>) -> bool {
        unreachable!("this set has no spans")
    }

    /// What [`Kernels::dot_blocks`] adds to zeros, bit for bit, for as many rows as a span has.
    fn span_blocks(
        &self,
        _room: &mut SpanRoom,
        _tile: &BlockTile<'_>,
        _scales: TakeScales<'_>,
        _take: TakeSums<'_, f32>,
    ) {
        unreachable!("this set has no spans of blocks")
    }

    /// `out[row] = w · x[row]` in f32, for `x: [out.len(), cols]`. In any order, but weights are converted exactly and each
    /// operation rounds once, to f32 or better: the bounds of the screened head rest on that.
    fn dot_dense(&self, out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
        self.older().dot_dense(out, w, x);
    }

    /// `out[row] = w · x[row]`, exactly, for `x: [out.len(), w.len()]`. `w` is whole lines of 64 bytes; the sums of the
    /// magnitudes of all products of a row fit an i32, so that no order of additions overflows.
    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        self.older().dot_bytes(out, w, x);
    }

    /// `out[(output, row)] = w[output] · x[row]`, exactly, for `x: [_, 2 w.len()]` of −127 to 127. Rows of weights are whole lines, at most
    /// 2^19 bytes, so that no order of additions overflows. All pass over some activation rows, then over others: they should fit the nearest
    /// cache beside those.
    fn dot_nibbles(&self, out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
        self.older().dot_nibbles(out, w, x);
    }

    /// Estimates and upper bounds of at most [`bounds::GROUP`] rows' logits, from the sums of the two before.
    fn bound(&self, out: RowBounds<'_>, sums: &Sums, rows: &BoundedRows<'_>, factors: &Factors, shares: &Shares) {
        self.older().bound(out, sums, rows, factors, shares);
    }

    /// `scores[query][position] = q[query] · keys[position] * factor` for all positions of the keys, whole [`KEYS_TOGETHER`] and at most
    /// [`POSITIONS`], and `q: [queries, head_dim]`. Feature by feature, so that a score has the same bits whatever is computed beside it.
    /// Scores beyond those positions stay as they were.
    fn scores(&self, scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
        self.older().scores(scores, q, keys, factor);
    }

    /// `out[query] += Σ weights[query][position] * values[position - positions.start]` over the positions, one after the other.
    /// `out: [queries, head_dim]`.
    fn mix(&self, out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
        self.older().mix(out, weights, positions, values);
    }

    /// Exactly the same numbers in single precision, of as many IEEE halves.
    fn widen(&self, out: &mut [f32], halves: &[u16]) {
        self.older().widen(out, halves);
    }

    /// The sum of all words, without what is beyond 64 bits.
    fn sum_words(&self, words: &[u64]) -> u64 {
        self.older().sum_words(words)
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

    /// [`crate::cpu::floats::halve`]
    fn halve(&self, coarse: &mut [u8], fine: &mut [u8], v: &mut [f32], absmax: f32) -> f64 {
        self.older().halve(coarse, fine, v, absmax)
    }

    /// [`crate::cpu::floats::inner`]
    fn inner(&self, u: &[f32], v: &[f32]) -> f32 {
        self.older().inner(u, v)
    }

    /// [`crate::cpu::floats::scale_sums`]
    fn scale_sums(&self, out: &mut [f32], sums: &[i32], scales: &[f32], divisor: f32) {
        self.older().scale_sums(out, sums, scales, divisor);
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

    /// [`crate::cpu::floats::extremes`]
    fn extremes(&self, x: &[f32]) -> (f32, f32) {
        self.older().extremes(x)
    }

    /// [`crate::cpu::floats::largest`]
    fn largest(&self, x: &[f32]) -> Option<usize> {
        self.older().largest(x)
    }
}
