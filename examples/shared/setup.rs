//! What comes before the work: reading, loading. There is nothing to report of it, and nothing to remove.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::flag;

use crate::terminal;

/// As long as this is not over, the first Ctrl-C ends the program at once.
pub struct Setup(Arc<AtomicBool>);

impl Setup {
    pub fn begin() -> anyhow::Result<Self> {
        let runs = Arc::new(AtomicBool::new(true));
        for signal in terminal::signals() {
            flag::register_conditional_shutdown(signal, terminal::INTERRUPTED.into(), runs.clone())
                .context("cannot wait for Ctrl-C")?;
        }
        Ok(Self(runs))
    }

    pub fn end(self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
