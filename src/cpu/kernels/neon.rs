//! The kernels for ARM CPUs of 64 bits: NEON, which all of them have, and the dot products of most since 2018.
//!
//! Tested under emulation, never timed on hardware. So there is no prefetch by software here: what distance helps, or
//! whether any does, only hardware can say. The loops of `floats.rs` are not compiled again: NEON is part of every such
//! target. What `std::arch` has not stabilised, dot products and conversions from half precision, is one instruction of
//! inline assembly each.

mod eight;
mod trits;

use std::arch::is_aarch64_feature_detected;

use eight::Eight;

use crate::cpu::kernels::portable::{Portable, blocks_by_codes};
use crate::cpu::kernels::vector::by_vectors;
use crate::cpu::kernels::{BlockTile, KernelSet, Kernels, Tile, TileScales};

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

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        blocks_by_codes(self, out, tile, scales);
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has NEON.
        unsafe { trits::dot_codes(sums, tile) }
    }

    by_vectors!(Eight);
}

impl Kernels for NeonDot {
    fn set(&self) -> KernelSet {
        KernelSet::NeonDot
    }

    fn older(&self) -> &dyn Kernels {
        &self.0
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        blocks_by_codes(self, out, tile, scales);
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: `self` exists, so the CPU has the dot products.
        unsafe { trits::dot_codes_with_dotprod(sums, tile) }
    }
}
