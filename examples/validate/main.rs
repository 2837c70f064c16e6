//! Proves that a model on this machine meets its performance targets:
//!
//! ```text
//! cargo run --release --example validate
//! ```

mod args;
#[path = "../shared/command.rs"]
mod command;
#[path = "../shared/drivers.rs"]
mod drivers;
#[path = "../shared/hub.rs"]
mod hub;
mod identity;
#[path = "../shared/interrupt.rs"]
mod interrupt;
mod json;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/output.rs"]
mod output;
mod plot;
#[path = "../shared/quiet.rs"]
mod quiet;
mod table;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use sterna::measure::validate::{Plan, Report, validate};

use args::Args;
use identity::Identity;
use output::Output;

/// Exit statuses beside success.
const FAILS: u8 = 1;
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    drivers::quiet();
    logging::start();
    match run(&command::parse()) {
        Ok(status) => status.into(),
        Err(error) => {
            terminal::say(&format!("validate: {error:#}"));
            NOT_RUN.into()
        }
    }
}

fn run(args: &Args) -> anyhow::Result<u8> {
    let (stop, start) = (terminal::stop_on_ctrl_c(true)?, Instant::now());
    let (json, plot) = outputs(args)?;
    let model = args.open()?;
    let identity = Identity::of(args.model.as_deref())?;
    let plan = Plan { interrupt: interrupt::on_ctrl_c()?, ..args.plan() };
    let report = under_a_bar(&stop, |progress| validate(&model, &plan, progress))?;
    match output::is_stdout(args.json.as_deref()) || output::is_stdout(args.plot.as_deref()) {
        true => terminal::say(&table::of(&report, &identity)),
        false => quiet::stdout().write_all((table::of(&report, &identity) + "\n").as_bytes())?,
    }
    terminal::say(&format!("took {}", terminal::short(start.elapsed())));
    if let Some(json) = json {
        json.write(&(serde_json::to_string_pretty(&json::of(&report, &identity))? + "\n"))?;
    }
    if let Some(plot) = plot {
        plot.write(&plot::of(&report).context("cannot draw the plot")?)?;
    }
    Ok(match () {
        _ if report.stopped => terminal::INTERRUPTED,
        _ if report.passes() => 0,
        _ => FAILS,
    })
}

/// Where the reports go.
fn outputs(args: &Args) -> anyhow::Result<(Option<Output>, Option<Output>)> {
    let read: Vec<_> = args.model.as_deref().into_iter().collect();
    let open = |path: &Option<std::path::PathBuf>| path.as_deref().map(|path| Output::open(path, &read)).transpose();
    if args.json.is_some() && args.json == args.plot {
        bail!("--json and --plot name the same file");
    }
    Ok((open(&args.json)?, open(&args.plot)?))
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
