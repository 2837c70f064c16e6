//! How one thread tells another to leave off a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a session to leave off the step that it computes, or the next one if it computes none: from another thread, or from a
/// handler of Ctrl-C. A step takes as long as its rows, which for a long prompt is seconds on a small machine; an interrupt is
/// heeded within a few milliseconds on a CPU, and on a GPU as soon as the host waits for it. Cheap to clone; clones are one.
///
/// The step that was interrupted [computed nothing](crate::Session::was_interrupted): its sequences are where they were before,
/// and the next step begins it again.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// One that was not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Interrupts, once. May be called from a signal handler.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag that [`Interrupt::set`] sets, for crates that set flags when signals come.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Whether it was set, and nobody has heeded it yet.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Heeds it: whether it was set. From then on it is not.
    pub(crate) fn take(&self) -> bool {
        self.is_set() && self.0.swap(false, Ordering::Relaxed)
    }
}
