//! `vpdpbusd` on 64 bytes, for CPUs with AVX-512 VNNI (Intel servers since 2019, AMD since 2022). Half of a block's
//! columns is one vector: the block's 32 bytes are loaded into both halves of a register, and each half keeps another
//! field.
//!
//! An [`Avx512Vnni`] exists only where the CPU has these instructions; that is what makes the calls below sound.

mod blocks;

use std::any::Any;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::LazyLock;

use super::{Vector, bytes, floats as float_trits, heads, nibbles, panels};
use crate::backend::Numerics;
use crate::cpu::floats;
use crate::cpu::kernels::avx2::Avx2;
use crate::cpu::kernels::panel::{self, Panel};
use crate::cpu::kernels::spans::{PANEL, SpanLimits, SpanRoom, TakeSums};
use crate::cpu::kernels::{
    BlockTile, Entries, FloatTile, KernelSet, Kernels, NibbleRows, Scores, TakeScales, Tile, TileScales, words,
};

/// Fewest activation rows that are worth unpacking a panel of weight rows: without, steps of 24 take 0.91 to 0.94 of the time, and of
/// 32 0.93 to 1.05 (Zen 4, one thread, 2B and 0.7B).
const FEWEST_SPAN_ROWS: usize = 25;
/// The same where blocks have scales, which the other way handles one by one.
const FEWEST_SPAN_ROWS_OF_BLOCKS: usize = 3;

/// The token: only [`Avx512Vnni::detect`] gives one out.
pub(crate) struct Avx512Vnni {
    avx2: &'static Avx2,
}

impl Avx512Vnni {
    /// The kernels, if this CPU can run them.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: LazyLock<Option<Avx512Vnni>> = LazyLock::new(|| {
            let avx2 = Avx2::detect()?;
            // Every CPU with VNNI has the others; that is no reason not to ask.
            let has_all = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni");
            has_all.then_some(Avx512Vnni { avx2 })
        });
        TOKEN.as_ref()
    }
}

impl Kernels for Avx512Vnni {
    fn set(&self) -> KernelSet {
        KernelSet::Avx512Vnni
    }

    fn older(&self) -> &dyn Kernels {
        self.avx2
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, AVX-512F and AVX-512 VNNI.
        unsafe { dot_codes(sums, tile) }
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA, AVX-512F, AVX-512BW and AVX-512 VNNI.
        unsafe { blocks::dot_blocks(out, tile, scales) }
    }

    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and AVX-512F.
        unsafe { float_trits::dot_floats(out, tile) }
    }

    fn scores(&self, scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
        // SAFETY: `self` exists, so the CPU has AVX2 and AVX-512F.
        unsafe { heads::scores(scores, q, keys, factor) }
    }

    fn mix(&self, out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
        match (out.len() / weights.len()).is_multiple_of(heads::LANES) {
            // SAFETY: `self` exists, so the CPU has AVX2 and AVX-512F.
            true => unsafe { heads::mix(out, weights, positions, values) },
            false => self.avx2.mix(out, weights, positions, values),
        }
    }

    fn widen(&self, out: &mut [f32], halves: &[u16]) {
        // SAFETY: `self` exists, so the CPU has AVX2 and AVX-512F.
        unsafe { heads::widen(out, halves) }
    }

    compile_again! {
        "avx2,fma,f16c,avx512f", floats:
        fn exp_sum(scores: &mut [f32], largest: f32) -> f32;
        fn extremes(x: &[f32]) -> (f32, f32);
    }

    fn sum_words(&self, words: &[u64]) -> u64 {
        // SAFETY: `self` exists, so the CPU has AVX-512F.
        unsafe { sum_words(words) }
    }

    fn span_rows(&self, rows: usize, numerics: Numerics) -> usize {
        let fewest = match numerics {
            Numerics::Int8Rows => FEWEST_SPAN_ROWS,
            Numerics::Int8Groups => FEWEST_SPAN_ROWS_OF_BLOCKS,
            Numerics::Float => usize::MAX,
        };
        if rows < fewest { 0 } else { rows }
    }

    fn span_limits(&self) -> SpanLimits {
        SpanLimits { rows: panel::ROWS, shortest: 2 * PANEL }
    }

    fn room(&self) -> Box<dyn Any + Send> {
        Box::new(Panel::new())
    }

    fn reserve(&self, room: &mut SpanRoom, blocks: usize) {
        room.get::<Panel>().reserve(blocks);
    }

    fn span_codes(&self, room: &mut SpanRoom, tile: &Tile<'_>, x_sums: &[i32], take: TakeSums<'_, i32>) -> bool {
        // SAFETY: `self` exists, so the CPU has AVX-512F, AVX-512BW and AVX-512 VNNI.
        unsafe { panels::span_codes(room.get(), tile, x_sums, take) }
        true
    }

    fn span_blocks(&self, room: &mut SpanRoom, tile: &BlockTile<'_>, scales: TakeScales<'_>, take: TakeSums<'_, f32>) {
        // SAFETY: as above, and FMA.
        unsafe { panels::span_blocks(room.get(), tile, scales, take) }
    }

    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        // SAFETY: `self` exists, so the CPU has AVX-512F, AVX-512BW and AVX-512 VNNI.
        unsafe { bytes::dot_bytes(out, w, x) }
    }

    fn dot_nibbles(&self, out: &mut [i32], w: NibbleRows<'_>, x: &[i8]) {
        // SAFETY: as above, and AVX2.
        unsafe { nibbles::dot_nibbles(out, w, x) }
    }
}

#[target_feature(enable = "avx512f")]
fn sum_words(words: &[u64]) -> u64 {
    words::sum::<64>(words)
}

/// 2 weight rows by 4 activation rows, both vectors of a block: 16 sums, codes, masks and activations fit the 32 registers.
const OUTPUTS: usize = 2;
/// Vectors of a block.
const AT_ONCE: usize = 2;

#[target_feature(enable = "avx2,avx512f,avx512vnni")]
fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that `__m512i` needs.
    unsafe { super::dot_codes::<__m512i, OUTPUTS, AT_ONCE>(sums, tile) }
}

impl Vector for __m512i {
    const VECTORS: usize = 2;
    const APART: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn codes(block: &[u8; 32], vector: usize) -> Self {
        const FIELDS: [[i8; 2]; 2] = [[0xc0u8 as i8, 0x30], [0x0c, 0x03]];
        let [low, high] = FIELDS[vector];
        // SAFETY: the block has 32 bytes, the load may be unaligned; the caller shows AVX2 and AVX-512F.
        unsafe {
            let mask = _mm512_broadcast_i64x4(_mm256_set1_epi8(low));
            let mask = _mm512_inserti64x4::<1>(mask, _mm256_set1_epi8(high));
            let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(block.as_ptr().cast()));
            _mm512_and_si512(both, mask)
        }
    }

    #[inline(always)]
    unsafe fn activations(x: &[i8; 128], vector: usize) -> Self {
        // SAFETY: a half has 64 bytes, the load may be unaligned; the caller shows AVX-512F.
        unsafe { _mm512_loadu_si512(x.as_chunks::<64>().0[vector].as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn add_products(self, codes: Self, x: Self) -> Self {
        // SAFETY: the caller shows AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(self, codes, x) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller shows AVX-512F.
        unsafe { _mm512_add_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn shift_down(self) -> Self {
        // SAFETY: the caller shows AVX-512F.
        unsafe { _mm512_srai_epi32::<4>(self) }
    }

    #[inline(always)]
    unsafe fn finish(self) -> __m256i {
        // The low half counts four times.
        // SAFETY: the caller shows AVX2 and AVX-512F.
        unsafe {
            let low = _mm256_srai_epi32::<2>(_mm512_castsi512_si256(self));
            _mm256_add_epi32(low, _mm512_extracti64x4_epi64::<1>(self))
        }
    }
}
