//! The sets of kernels by name: the list of all, one row each, and which this CPU can run.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::wasm;
use super::{Kernels, portable};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, vnni};
use crate::error::Error;

/// Makes of each row a set, its name and its kernels, which are compiled where the condition holds.
macro_rules! kernel_sets {
    ($($(#[$doc:meta])* $set:ident $name:literal if $condition:meta, $kernels:path;)+) => {
        /// A family of kernels for one instruction set. More may come.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum KernelSet {
            $($(#[$doc])* $set,)+
        }

        impl KernelSet {
            /// All sets, slowest first among those of one architecture.
            pub const ALL: &'static [KernelSet] = &[$(KernelSet::$set),+];

            fn name(self) -> &'static str {
                match self {
                    $(KernelSet::$set => $name,)+
                }
            }

            /// The kernels, where this CPU can run them.
            pub(crate) fn table(self) -> Option<&'static dyn Kernels> {
                match self {$(
                    #[cfg($condition)]
                    KernelSet::$set => <$kernels>::detect().map(|kernels| kernels as &dyn Kernels),
                    #[cfg(not($condition))]
                    KernelSet::$set => None,
                )+}
            }
        }
    };
}

kernel_sets! {
    /// Plain Rust: runs on every CPU.
    Portable "portable" if all(), portable::Portable;
    /// x86 of 2013 and later: AVX2, FMA and F16C.
    Avx2 "avx2" if target_arch = "x86_64", avx2::Avx2;
    /// x86 of 2021 and later: AVX-VNNI beside AVX2.
    AvxVnni "avx-vnni" if target_arch = "x86_64", vnni::AvxVnni;
    /// x86 servers of 2019 and later: AVX-512 VNNI beside AVX2.
    Avx512Vnni "avx512-vnni" if target_arch = "x86_64", vnni::Avx512Vnni;
    /// Intel servers of 2023 and later, on Linux: AMX for many rows beside AVX-512 VNNI.
    Amx "amx" if target_arch = "x86_64", amx::Amx;
    /// ARM of 64 bits: NEON. Tested under emulation, never timed on hardware.
    Neon "neon" if target_arch = "aarch64", neon::Neon;
    /// ARM of about 2018 and later: NEON with dot products of int8. Tested under emulation, never timed on hardware.
    NeonDot "neon-dotprod" if target_arch = "aarch64", neon::NeonDot;
    /// WebAssembly with vectors of 128 bits.
    Simd128 "simd128" if all(target_arch = "wasm32", target_feature = "simd128"), wasm::Simd128;
    /// The same with dot products of int8, in a module that was built with the feature `relaxed-simd`.
    RelaxedSimd "relaxed-simd"
        if all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed-simd"), wasm::RelaxedSimd;
}

impl KernelSet {
    /// The sets that this CPU can run, slowest first.
    pub fn available() -> Vec<KernelSet> {
        Self::ALL.iter().copied().filter(|set| set.table().is_some()).collect()
    }

    /// The fastest set that this CPU can run.
    pub fn best() -> KernelSet {
        Self::available().pop().unwrap_or(KernelSet::Portable)
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
        Self::ALL.iter().copied().find(|set| set.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|set| set.name()).collect();
            Error::Input(format!("there are no kernels \"{name}\": choose one of {}", names.join(", ")))
        })
    }
}
