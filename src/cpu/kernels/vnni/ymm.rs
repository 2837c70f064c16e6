//! `vpdpbusd` on 32 bytes, for CPUs with AVX-VNNI (Intel since 2021, AMD since 2024). A quarter of a block's columns is
//! one vector.
//!
//! An [`AvxVnni`] exists only where the CPU has these instructions; that is what makes the calls below sound.

mod blocks;

use std::arch::x86_64::*;
use std::sync::LazyLock;

use super::Vector;
use crate::cpu::kernels::avx2::Avx2;
use crate::cpu::kernels::{BlockTile, KernelSet, Kernels, Tile, TileScales};

/// The token: only [`AvxVnni::detect`] gives one out.
pub(crate) struct AvxVnni {
    avx2: &'static Avx2,
}

impl AvxVnni {
    /// The kernels, if this CPU can run them.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: LazyLock<Option<AvxVnni>> = LazyLock::new(|| {
            let avx2 = Avx2::detect()?;
            is_x86_feature_detected!("avxvnni").then_some(AvxVnni { avx2 })
        });
        TOKEN.as_ref()
    }
}

impl Kernels for AvxVnni {
    fn set(&self) -> KernelSet {
        KernelSet::AvxVnni
    }

    fn older(&self) -> &dyn Kernels {
        self.avx2
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2, FMA and AVX-VNNI.
        unsafe { blocks::dot_blocks(out, tile, scales) }
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has AVX2 and AVX-VNNI.
        unsafe { dot_codes(sums, tile) }
    }
}

/// 3 weight rows by 4 activation rows: 12 sums, 3 vectors of codes and one of activations are the 16 registers.
const OUTPUTS: usize = 3;
/// Vectors of a block: more would leave no registers.
const AT_ONCE: usize = 1;

#[target_feature(enable = "avx2,avxvnni")]
fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that `__m256i` needs.
    unsafe { super::dot_codes::<__m256i, OUTPUTS, AT_ONCE>(sums, tile) }
}

impl Vector for __m256i {
    const VECTORS: usize = 4;
    const APART: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller shows AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn codes(block: &[u8; 32], vector: usize) -> Self {
        const FIELDS: [i8; 4] = [0xc0u8 as i8, 0x30, 0x0c, 0x03];
        // SAFETY: the block has 32 bytes, the load may be unaligned; the caller shows AVX2.
        unsafe { _mm256_and_si256(_mm256_loadu_si256(block.as_ptr().cast()), _mm256_set1_epi8(FIELDS[vector])) }
    }

    #[inline(always)]
    unsafe fn activations(x: &[i8; 128], vector: usize) -> Self {
        // SAFETY: a quarter has 32 bytes, the load may be unaligned; the caller shows AVX2.
        unsafe { _mm256_loadu_si256(x.as_chunks::<32>().0[vector].as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn add_products(self, codes: Self, x: Self) -> Self {
        // SAFETY: the caller shows AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(self, codes, x) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller shows AVX2.
        unsafe { _mm256_add_epi32(self, other) }
    }

    #[inline(always)]
    unsafe fn shift_down(self) -> Self {
        // SAFETY: the caller shows AVX2.
        unsafe { _mm256_srai_epi32::<2>(self) }
    }

    #[inline(always)]
    unsafe fn finish(self) -> __m256i {
        self
    }
}
