//! The kernels for x86 CPUs with AVX2, FMA and F16C (Intel since 2013, AMD since 2015).
//!
//! An [`Avx2`] exists only where the CPU has these instructions; that is what makes the calls below sound.

mod bytes;
mod eight;
pub(super) mod lanes;
mod nibbles;
mod tables;
mod trits;

use std::any::Any;
use std::arch::x86_64::*;
use std::ops::Range;

use crate::backend::Numerics;
use crate::cpu::floats;
use crate::cpu::kernels::bounds::{self, BoundedRows, Factors, RowBounds, Shares, Sums};
use crate::cpu::kernels::bytes::LINE;
use crate::cpu::kernels::portable::Portable;
use crate::cpu::kernels::spans::{SET, SpanLimits, SpanRoom, TakeSums};
use crate::cpu::kernels::vector::{dense, heads, trits as float_trits};
use crate::cpu::kernels::{
    BlockTile, DenseRow, Entries, FloatTile, KernelSet, Kernels, NibbleRows, Scores, Tile, TileScales, words,
};

/// Bytes between a load of weights and the line that is asked for into the nearest cache meanwhile: 2 KiB is 150 to 200 ns of
/// streaming.
const NEAR_BYTES: usize = 2048;
/// The same, into the second cache, which waits for three times as many lines at once as the nearest. A loop like that of one activation
/// row on AVX-512 reads at 93 % of a plain read so, with the near distance alone at 75 % (Emerald Rapids, one thread, `benches/README.md`).
const FAR_BYTES: usize = 8192;

/// Measured: 16 rows are done as fast without tables, 32 rows 1.2 times and 128 rows 1.4 times as fast with them.
const FEWEST_SPAN_ROWS: usize = 26;
/// Weight rows that are worth building tables.
const SHORTEST_SPAN: usize = 320;
/// Fewest activation rows beside whole sets that are made one with zeros.
const FEWEST_IN_SET: usize = 10;

/// The token: only [`Avx2::detect`] gives one out.
pub(crate) struct Avx2(());

impl Avx2 {
    /// The kernels, if this CPU can run them.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Avx2 = Avx2(());
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"))
            .then_some(&TOKEN)
    }
}

impl Kernels for Avx2 {
    fn set(&self) -> KernelSet {
        KernelSet::Avx2
    }

    fn older(&self) -> &dyn Kernels {
        &Portable
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { trits::dot_codes(sums, tile) }
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2 and FMA.
        unsafe { trits::dot_blocks(out, tile, scales) }
    }

    fn span_rows(&self, rows: usize, numerics: Numerics) -> usize {
        match rows % SET {
            _ if rows < FEWEST_SPAN_ROWS || numerics != Numerics::Int8Rows => 0,
            rest if rest < FEWEST_IN_SET => rows - rest,
            _ => rows,
        }
    }

    fn span_limits(&self) -> SpanLimits {
        SpanLimits { rows: tables::SETS * SET, shortest: SHORTEST_SPAN }
    }

    fn room(&self) -> Box<dyn Any + Send> {
        Box::new(tables::Room::new())
    }

    fn span_codes(&self, room: &mut SpanRoom, tile: &Tile<'_>, _x_sums: &[i32], take: TakeSums<'_, i32>) -> bool {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { tables::span_codes(room.get(), tile, take) }
    }

    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and F16C.
        unsafe { dot_floats(out, tile) }
    }

    fn dot_dense(&self, out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and F16C.
        unsafe { dot_dense(out, w, x) }
    }

    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { bytes::dot_bytes(out, w, x) }
    }

    fn dot_nibbles(&self, out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { nibbles::dot_nibbles(out, w, x) }
    }

    fn scores(&self, scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and F16C.
        unsafe { self::scores(scores, q, keys, factor) }
    }

    fn mix(&self, out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and F16C.
        unsafe { mix(out, weights, positions, values) }
    }

    fn widen(&self, out: &mut [f32], halves: &[u16]) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and F16C.
        unsafe { widen(out, halves) }
    }

    fn sum_words(&self, words: &[u64]) -> u64 {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { sum_words(words) }
    }

    compile_again! {
        "avx2,fma,f16c", bounds:
        fn bound(out: RowBounds<'_>, sums: &Sums, rows: &BoundedRows<'_>, factors: &Factors, shares: &Shares);
    }

    compile_again! {
        "avx2,fma,f16c", floats:
        fn absmax(x: &[f32]) -> f32;
        fn round(out: &mut [i8], x: &[f32], scale: f32);
        fn block_sums(out: &mut [i32], x: &[i8]);
        fn sum_squares(x: &[f32]) -> f64;
        fn inner(u: &[f32], v: &[f32]) -> f32;
        fn halve(coarse: &mut [u8], fine: &mut [u8], v: &mut [f32], absmax: f32) -> f64;
        fn scale_sums(out: &mut [f32], sums: &[i32], scales: &[f32], divisor: f32);
        fn norm(out: &mut [f32], x: &[f32], factor: f32, gain: &[f32]);
        fn squared_relu(out: &mut [f32], gate: &[f32], up: &[f32]);
        fn silu(out: &mut [f32], gate: &[f32], up: &[f32]);
        fn gelu(out: &mut [f32], gate: &[f32], up: &[f32]);
        fn hadamard(block: &mut [f32]);
        fn recall(with_key: &mut [f32], with_query: &mut [f32], memory: &[f32], key: &[f32], query: &[f32]);
        fn remember(memory: &mut [f32], fade: f32, key: &[f32], update: &[f32]);
        fn exp_sum(scores: &mut [f32], largest: f32) -> f32;
        fn extremes(x: &[f32]) -> (f32, f32);
        fn largest(x: &[f32]) -> Option<usize>;
    }
}

#[target_feature(enable = "avx2")]
fn sum_words(words: &[u64]) -> u64 {
    words::sum::<32>(words)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_dense(out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
    // SAFETY: this function's instructions are those that `__m256` needs, here and below.
    unsafe { dense::dot_dense::<__m256>(out, w, x) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dot_floats(out: &mut [f32], tile: &FloatTile<'_>) {
    // SAFETY: as above.
    unsafe { float_trits::dot_floats::<__m256, 8>(out, tile) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn scores(scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
    // SAFETY: as above.
    unsafe { heads::scores::<__m256>(scores, q, keys, factor) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn mix(out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
    // SAFETY: as above.
    unsafe { heads::mix::<__m256>(out, weights, positions, values) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn widen(out: &mut [f32], halves: &[u16]) {
    // SAFETY: as above.
    unsafe { heads::widen::<__m256>(out, halves) }
}

/// Asks for what comes after the weights at `address`, where all are read in the order in which they lie.
#[inline(always)]
pub(super) fn prefetch_stream(address: *const u8) {
    prefetch_both(stream_ahead(address));
}

/// The near and the far place that [`prefetch_stream`] asks for.
#[inline(always)]
pub(super) fn stream_ahead(address: *const u8) -> [*const u8; 2] {
    [NEAR_BYTES, FAR_BYTES].map(|bytes| address.wrapping_add(bytes))
}

/// Asks for a line into the nearest cache, and for one into the second.
#[inline(always)]
pub(super) fn prefetch_both([near, far]: [*const u8; 2]) {
    prefetch(near);
    prefetch_to_second(far);
}

/// The farther half of [`prefetch_stream`]: for loops that come between two stretches of a stream, so that memory does not rest.
#[inline(always)]
pub(super) fn prefetch_far(address: *const u8) {
    prefetch_to_second(address.wrapping_add(FAR_BYTES));
}

/// Asks for the share of one of `outputs` weight rows in what is read soon after all of them.
#[inline(always)]
pub(super) fn prefetch_soon(soon: &[u8], output: usize, outputs: usize) {
    let lines = soon.len().div_ceil(LINE).div_ceil(outputs);
    let share = soon.chunks(LINE).skip(output * lines).take(lines);
    share.for_each(|line| prefetch_to_second(line.as_ptr()));
}

/// Asks for a cache line that may not even exist.
#[inline(always)]
pub(super) fn prefetch(address: *const u8) {
    // SAFETY: a prefetch is a hint; no address makes it fail.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// As [`prefetch`], but only into the second cache: for what comes later.
#[inline(always)]
pub(super) fn prefetch_to_second(address: *const u8) {
    // SAFETY: a prefetch is a hint; no address makes it fail.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
}
