//! Ctrl-C within a step of a session.

use anyhow::Context;
use signal_hook::flag;
use sterna::Interrupt;

use crate::terminal;

/// Set by Ctrl-C and other requests to end: a long prompt, or a slow device, is not waited for.
pub fn on_ctrl_c() -> anyhow::Result<Interrupt> {
    let interrupt = Interrupt::new();
    for signal in terminal::signals() {
        flag::register(signal, interrupt.flag()).context("cannot wait for Ctrl-C")?;
    }
    Ok(interrupt)
}
