//! What cannot be tested on this machine is told on the terminal: a contributor without a GPU must not read "all passed" and
//! believe that shaders were tested.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Tells once in a process what is skipped and why. The harness keeps what passing tests print by `eprintln!` to itself, but
/// not what is written to the stream.
pub fn skipped(what: impl Display) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let text = what.to_string();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.contains(&text) {
        // A terminal that is gone is no fault of what is tested.
        let _ = writeln!(std::io::stderr(), "skipped: {text}");
        told.insert(text);
    }
}
