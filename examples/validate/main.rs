//! Proves that a model on this machine meets its performance targets:
//!
//! ```text
//! cargo run --release --example validate
//! ```

mod args;
mod identity;
mod json;
#[path = "../shared/logging.rs"]
mod logging;
mod plot;
mod table;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use sterna::measure::validate::{Report, validate};

use args::Args;
use identity::Identity;

/// Exit statuses beside success.
const FAILS: u8 = 1;
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    logging::start();
    match run(&Args::parse()) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("validate: {error:#}");
            NOT_RUN.into()
        }
    }
}

fn run(args: &Args) -> anyhow::Result<u8> {
    let (stop, start) = (terminal::stop_on_ctrl_c()?, Instant::now());
    let model = args.open()?;
    let identity = Identity::of(args.model.as_deref())?;
    let report = under_a_bar(&stop, |progress| validate(&model, &args.plan(), progress))?;
    println!("{}", table::of(&report, &identity));
    eprintln!("took {}", terminal::short(start.elapsed()));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&json::of(&report, &identity))? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&report, path).with_context(|| format!("cannot draw {}", path.display()))?;
    }
    Ok(match () {
        _ if report.stopped => terminal::INTERRUPTED,
        _ if report.passes() => 0,
        _ => FAILS,
    })
}

/// Runs a validation, showing on the terminal what is being done. Ctrl-C ends it after the current token.
fn under_a_bar(
    stop: &AtomicBool,
    work: impl FnOnce(&mut dyn FnMut(sterna::measure::validate::Progress<'_>) -> ControlFlow<()>) -> sterna::Result<Report>,
) -> sterna::Result<Report> {
    let bar = terminal::progress_bar("");
    let report = work(&mut |progress| {
        if bar.message() != progress.what {
            bar.reset();
            bar.set_message(progress.what.to_owned());
        }
        bar.set_length(progress.all as u64);
        bar.set_position(progress.done as u64);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    report
}
