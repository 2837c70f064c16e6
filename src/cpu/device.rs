//! An opened CPU: its kernels and its threads, which all sessions on it share.

use crate::cpu::kernels::Kernels;
use crate::cpu::workers::Workers;
use crate::cpu::{CpuOptions, HugePages, KernelSet, Screening};
use crate::error::{Error, Result};

/// An opened CPU. Cheap to clone; all clones, and all that compute on them, have the same threads.
///
/// A process may fork: in the child there are no other threads, so it computes on the calling one, and drops what it was left
/// without waiting for any. That holds if no other thread was in a step at the fork, as that one's hold on the threads is copied.
#[derive(Clone)]
pub struct CpuDevice {
    pub(super) kernels: &'static dyn Kernels,
    pub(super) workers: Workers,
    pub(super) screening: Screening,
    pub(super) huge_pages: HugePages,
}

impl CpuDevice {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`Error::Device`] if this CPU cannot run the kernels asked for, or no more threads can be started;
    /// [`Error::Input`] if the number of threads is out of range or `STERNA_THREADS` is no number.
    pub fn open(options: &CpuOptions) -> Result<Self> {
        let set = options.kernels.unwrap_or_else(KernelSet::best);
        let kernels = set.table().ok_or_else(|| {
            let available: Vec<_> = KernelSet::available().iter().map(KernelSet::to_string).collect();
            Error::absent(format!("this CPU cannot run the {set} kernels; it has: {}", available.join(", ")))
        })?;
        let workers = Workers::start(options.threads()?, kernels)?;
        Ok(Self { kernels, workers, screening: options.screening, huge_pages: options.huge_pages })
    }

    /// Threads that compute, the calling thread among them.
    pub fn threads(&self) -> usize {
        self.workers.threads()
    }

    /// The kernels in use.
    pub fn kernels(&self) -> KernelSet {
        self.kernels.set()
    }
}

impl std::fmt::Debug for CpuDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuDevice").field("kernels", &self.kernels()).field("threads", &self.threads()).finish()
    }
}
