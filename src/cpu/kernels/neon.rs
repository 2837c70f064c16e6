//! The kernels for ARM CPUs of 64 bits: NEON, which all of them have, and the dot products of most since 2018.
//!
//! Tested under emulation, never timed on hardware. So there is no prefetch by software here: what distance helps, or
//! whether any does, only hardware can say. The loops of `floats.rs` are not compiled again: NEON is part of every such
//! target. What `std::arch` has not stabilised, dot products and conversions from half precision, is one instruction of
//! inline assembly each.

mod eight;
mod trits;

use std::arch::is_aarch64_feature_detected;
use std::ops::Range;

use eight::Eight;

use crate::cpu::kernels::portable::{Portable, blocks_by_codes};
use crate::cpu::kernels::vector::{dense, heads, trits as float_trits};
use crate::cpu::kernels::{BlockTile, DenseRow, Entries, FloatTile, KernelSet, Kernels, Scores, Tile};

/// The token of NEON: only [`Neon::detect`] gives one out.
pub(crate) struct Neon(());

/// The token of NEON with dot products: only [`NeonDot::detect`] gives one out.
pub(crate) struct NeonDot(Neon);

impl Neon {
    /// The kernels, if this CPU can run them. They read the little-endian values of files as they lie in memory.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: Neon = Neon(());
        (cfg!(target_endian = "little") && is_aarch64_feature_detected!("neon")).then_some(&TOKEN)
    }
}

impl NeonDot {
    /// The kernels, if this CPU can run them.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: NeonDot = NeonDot(Neon(()));
        (Neon::detect().is_some() && is_aarch64_feature_detected!("dotprod")).then_some(&TOKEN)
    }
}

impl Kernels for Neon {
    fn set(&self) -> KernelSet {
        KernelSet::Neon
    }

    fn older(&self) -> &dyn Kernels {
        &Portable
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>) {
        blocks_by_codes(self, out, tile);
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { trits::dot_codes(sums, tile) }
    }

    fn dot_floats(&self, out: &mut [f32], tile: &FloatTile<'_>) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { float_trits::dot_floats::<Eight, 8>(out, tile) }
    }

    fn dot_dense(&self, out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { dense::dot_dense::<Eight>(out, w, x) }
    }

    fn scores(&self, scores: &mut [Scores], q: &[f32], keys: Entries<'_>, factor: f32) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { heads::scores::<Eight>(scores, q, keys, factor) }
    }

    fn mix(&self, out: &mut [f32], weights: &[Scores], positions: Range<usize>, values: Entries<'_>) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { heads::mix::<Eight>(out, weights, positions, values) }
    }

    fn widen(&self, out: &mut [f32], halves: &[u16]) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { heads::widen::<Eight>(out, halves) }
    }
}

impl Kernels for NeonDot {
    fn set(&self) -> KernelSet {
        KernelSet::NeonDot
    }

    fn older(&self) -> &dyn Kernels {
        &self.0
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>) {
        blocks_by_codes(self, out, tile);
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has the dot products.
        unsafe { trits::dot_codes_with_dotprod(sums, tile) }
    }
}
