//! What the examples share of the terminal: text, progress bars, Ctrl-C, durations for people.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A line for stderr. Where it cannot be written, there is no place to say so.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A progress bar on stderr that only appears on a terminal, and only if the work takes longer than a blink.
pub fn progress_bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {eta}").expect("the template is sound");
    let bar = ProgressBar::no_length().with_style(style.progress_chars("=> ")).with_message(what);
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(10));
    bar
}

/// Set by the first Ctrl-C or request to end (SIGTERM, SIGHUP), so that the program can end what it is doing, report, and remove
/// what it has not finished. The second one ends it at once, if that is wanted.
pub fn stop_on_ctrl_c(second_ends: bool) -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in signals() {
        let hook = || {
            // In this order: the first signal finds the flag not set.
            if second_ends {
                flag::register_conditional_shutdown(signal, INTERRUPTED.into(), stop.clone())?;
            }
            flag::register(signal, stop.clone())
        };
        hook().context("cannot wait for Ctrl-C")?;
    }
    Ok(stop)
}

/// What asks a program to end. A hang-up stays ignored where whoever started it had it so (`nohup`), which Linux
/// tells.
pub fn signals() -> Vec<i32> {
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(target_os = "linux")]
    if !ignores_hang_up() {
        signals.push(signal_hook::consts::SIGHUP);
    }
    signals
}

/// Whether hang-ups are ignored: the system tells it in a mask of the signals, the first of which it is.
#[cfg(target_os = "linux")]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
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
