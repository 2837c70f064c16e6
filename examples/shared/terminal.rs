//! What long-running examples share: progress bars, Ctrl-C, durations for people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr that only appears on a terminal, and only if the work takes longer than a blink.
pub fn progress_bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}").expect("the template is sound");
    let bar = ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_message(what);
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(10));
    bar
}

/// Set by the first Ctrl-C, so that the program can end what it is doing and report. The second one ends it at once.
pub fn stop_on_ctrl_c() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    })?;
    Ok(stop)
}

/// The exit status of a program that was stopped by Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// A duration for people: milliseconds below a second.
pub fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}
