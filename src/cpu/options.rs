//! How to use the CPU: with how many threads, which kernels, and whether with a screened head.

use crate::cpu::{KernelSet, cores};
use crate::error::{Error, Result};

/// The most threads that can be asked for.
const MAX_THREADS: usize = 1024;

/// How to use the CPU.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// Threads that compute, the calling thread among them, 1 to 1024. `None`: the environment variable
    /// `STERNA_THREADS` if it is set and not empty, else one for each physical core among those that this process may use, by its
    /// affinity and the quota of its control group (one for each logical core where the system does not tell them apart).
    pub threads: Option<usize>,
    /// The kernels to use. `None`: the fastest that this CPU has.
    pub kernels: Option<KernelSet>,
    /// Whether tokens are chosen with the help of a copy of the head in few bits.
    pub screening: Screening,
    /// Whether weights are copied into huge pages.
    pub huge_pages: HugePages,
}

/// Whether what a token reads is copied into memory of huge pages at load, and the pages of its file's map given back. Reading is
/// faster so, where the system has such pages; the weights are memory of this process then, and other processes do not share them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Where Linux gives them to programs that ask (`/sys/kernel/mm/transparent_hugepage/enabled` is `madvise` or `always`), and as
    /// much as half of the memory that is available holds. Elsewhere weights stay where they are, and so do those that the model keeps
    /// in memory itself ([`OpenOptions::map`](crate::model::OpenOptions::map), [`Model::from_bytes`](crate::Model::from_bytes)).
    #[default]
    WhereGiven,
    /// Weights stay where they are: in the map of their file, which all processes share, unless they had to be decoded.
    Never,
}

/// Whether to keep a copy of a model's head in 4 and 4 bits, so that most of its f16 rows need not be read to choose a token. The
/// choice is proven to be that of the exact head; only memory and time differ. The copy is made at the second step that chooses tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Screening {
    /// No copy: half the head's bytes of memory less, and more time for a token.
    Never,
    /// For heads of more than 8 bits a weight that are large enough to gain, from 4 MiB in f16 on.
    #[default]
    WhereFaster,
    /// For every head of more than 8 bits a weight.
    Always,
}

impl CpuOptions {
    /// The threads that are asked for.
    ///
    /// # Errors
    /// [`Error::Input`] if their number is out of range or `STERNA_THREADS` is no number.
    pub(super) fn threads(&self) -> Result<usize> {
        let threads = match self.threads {
            Some(threads) => threads,
            None => default_threads()?,
        };
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Error::Input(format!("{threads} threads: choose 1 to {MAX_THREADS}")));
        }
        Ok(threads)
    }
}

fn default_threads() -> Result<usize> {
    match std::env::var("STERNA_THREADS") {
        Ok(text) if !text.trim().is_empty() => text
            .trim()
            .parse()
            .map_err(|_| Error::Input(format!("STERNA_THREADS is {text:?}: it must be a whole number, or not set"))),
        _ => Ok(cores::allowed().min(MAX_THREADS)),
    }
}
