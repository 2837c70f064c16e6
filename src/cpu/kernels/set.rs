//! The sets of kernels by name: which there are, and which this CPU can run.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::{Kernels, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, vnni};
use crate::error::Error;

/// A family of kernels for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelSet {
    /// Plain Rust: runs on every CPU.
    Portable,
    /// x86 of 2013 and later: AVX2, FMA and F16C.
    Avx2,
    /// x86 of 2021 and later: AVX-VNNI beside AVX2.
    AvxVnni,
    /// x86 servers of 2019 and later: AVX-512 VNNI beside AVX2.
    Avx512Vnni,
    /// Intel servers of 2023 and later, on Linux: AMX for many rows beside AVX-512 VNNI.
    Amx,
    /// ARM of 64 bits: NEON. Tested under emulation, never timed on hardware.
    Neon,
    /// ARM of about 2018 and later: NEON with dot products of int8. Tested under emulation, never timed on hardware.
    NeonDot,
}

impl KernelSet {
    /// All sets, slowest first among those of one architecture.
    pub const ALL: [KernelSet; 7] = [
        KernelSet::Portable,
        KernelSet::Avx2,
        KernelSet::AvxVnni,
        KernelSet::Avx512Vnni,
        KernelSet::Amx,
        KernelSet::Neon,
        KernelSet::NeonDot,
    ];

    /// The sets that this CPU can run, slowest first.
    pub fn available() -> Vec<KernelSet> {
        Self::ALL.into_iter().filter(|set| set.table().is_some()).collect()
    }

    /// The fastest set that this CPU can run.
    pub fn best() -> KernelSet {
        Self::available().pop().unwrap_or(KernelSet::Portable)
    }

    fn name(self) -> &'static str {
        match self {
            KernelSet::Portable => "portable",
            KernelSet::Avx2 => "avx2",
            KernelSet::AvxVnni => "avx-vnni",
            KernelSet::Avx512Vnni => "avx512-vnni",
            KernelSet::Amx => "amx",
            KernelSet::Neon => "neon",
            KernelSet::NeonDot => "neon-dotprod",
        }
    }

    /// The kernels, where this CPU can run them.
    pub(crate) fn table(self) -> Option<&'static dyn Kernels> {
        match self {
            KernelSet::Portable => Some(&portable::Portable),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx2 => avx2::Avx2::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(target_arch = "x86_64")]
            KernelSet::AvxVnni => vnni::AvxVnni::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Avx512Vnni => vnni::Avx512Vnni::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(target_arch = "x86_64")]
            KernelSet::Amx => amx::Amx::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(not(target_arch = "x86_64"))]
            KernelSet::Avx2 | KernelSet::AvxVnni | KernelSet::Avx512Vnni | KernelSet::Amx => None,
            #[cfg(target_arch = "aarch64")]
            KernelSet::Neon => neon::Neon::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(target_arch = "aarch64")]
            KernelSet::NeonDot => neon::NeonDot::detect().map(|kernels| kernels as &dyn Kernels),
            #[cfg(not(target_arch = "aarch64"))]
            KernelSet::Neon | KernelSet::NeonDot => None,
        }
    }
}

impl fmt::Display for KernelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KernelSet {
    type Err = Error;

    /// # Errors
    /// [`Error::Input`] if no set has this name.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|set| set.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|set| set.name()).collect();
            Error::Input(format!("there are no kernels \"{name}\": choose one of {}", names.join(", ")))
        })
    }
}
