//! The kernels for WebAssembly: vectors of 128 bits (SIMD128), and the dot products of relaxed SIMD.
//!
//! What instructions a module has is decided when it is compiled, and an engine that lacks one of them does not load it. So nothing
//! is detected here: a module without relaxed SIMD and one with it are built (`web/build`), and the page loads the one that its
//! browser takes. The loops of `floats.rs` are not compiled again, as all of the module is compiled for SIMD128.

mod bytes;
mod eight;
mod products;
#[cfg(feature = "relaxed-simd")]
mod relaxed;
mod trits;

use eight::Eight;

use crate::cpu::kernels::portable::Portable;
use crate::cpu::kernels::vector::by_vectors;
use crate::cpu::kernels::{BlockTile, KernelSet, Kernels, Tile, TileScales};

/// The kernels of every engine since 2023.
pub(crate) struct Simd128;

/// Those with dot products.
#[cfg(feature = "relaxed-simd")]
pub(crate) struct RelaxedSimd;

impl Simd128 {
    /// The kernels: the module was loaded, so there are their instructions.
    pub(crate) fn detect() -> Option<&'static Self> {
        Some(&Simd128)
    }
}

#[cfg(feature = "relaxed-simd")]
impl RelaxedSimd {
    /// The kernels: the module was loaded, so there are their instructions.
    pub(crate) fn detect() -> Option<&'static Self> {
        Some(&RelaxedSimd)
    }
}

impl Kernels for Simd128 {
    fn set(&self) -> KernelSet {
        KernelSet::Simd128
    }

    fn older(&self) -> &dyn Kernels {
        &Portable
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: the whole module is compiled for SIMD128 where this set is in it.
        unsafe { trits::dot_codes(sums, tile) }
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        // SAFETY: as above.
        unsafe { trits::dot_blocks(out, tile, scales) }
    }

    fn dot_bytes(&self, out: &mut [i32], w: &[i8], x: &[i16]) {
        bytes::dot_bytes(out, w, x);
    }

    by_vectors!(Eight);
}

#[cfg(feature = "relaxed-simd")]
impl Kernels for RelaxedSimd {
    fn set(&self) -> KernelSet {
        KernelSet::RelaxedSimd
    }

    fn older(&self) -> &dyn Kernels {
        &Simd128
    }

    fn dot_codes(&self, sums: &mut [i32], tile: &Tile<'_>) {
        // SAFETY: the engine loaded this module, which has the dot products, so it has them too.
        unsafe { relaxed::dot_codes(sums, tile) }
    }

    fn dot_blocks(&self, out: &mut [f32], tile: &BlockTile<'_>, scales: TileScales<'_>) {
        // SAFETY: as above.
        unsafe { relaxed::dot_blocks(out, tile, scales) }
    }
}
