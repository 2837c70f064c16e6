//! Ctrl-C while an answer is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use sterna::Interrupt;

use crate::terminal;

/// Set by Ctrl-C. A second one, before the first is cleared, ends the program.
pub struct Interrupts {
    answer: Arc<AtomicBool>,
    step: Interrupt,
}

impl Interrupts {
    /// Other requests to end are not answers' business: they end the program.
    pub fn begin() -> anyhow::Result<Self> {
        let (answer, step) = (Arc::new(AtomicBool::new(false)), Interrupt::new());
        let hooks = || {
            // In this order: the first signal finds the flag not set.
            flag::register_conditional_shutdown(SIGINT, terminal::INTERRUPTED.into(), answer.clone())?;
            flag::register(SIGINT, answer.clone())?;
            for signal in terminal::signals().into_iter().filter(|signal| *signal != SIGINT) {
                let ends = Arc::new(AtomicBool::new(true));
                flag::register_conditional_shutdown(signal, 128 + signal, ends)?;
            }
            flag::register(SIGINT, step.flag())
        };
        hooks().context("cannot wait for Ctrl-C")?;
        Ok(Self { answer, step })
    }

    /// Ends the step that a session computes.
    pub fn of_steps(&self) -> Interrupt {
        self.step.clone()
    }

    /// Whether the answer is to end.
    pub fn is_set(&self) -> bool {
        self.answer.load(Ordering::Relaxed)
    }

    /// The next answer is another one.
    pub fn clear(&self) {
        self.step.flag().store(false, Ordering::Relaxed);
        self.answer.store(false, Ordering::Relaxed);
    }
}
