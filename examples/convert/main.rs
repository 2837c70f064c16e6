//! Writes any ternary model that opens as one GGUF file:
//!
//! ```text
//! cargo run --release --example convert -- models/tales-4m-i2_s.gguf tales-tq1_0.gguf --to tq1_0
//! ```

mod args;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use sterna::convert::{Progress, Report, Stage, convert};
use sterna::model::{Model, OpenOptions};

use args::Args;

fn main() -> anyhow::Result<ExitCode> {
    logging::start();
    let args = Args::parse();
    let stop = terminal::stop_on_ctrl_c()?;
    let start = Instant::now();
    let open = OpenOptions { i2s_layout: args.i2s_layout, ..OpenOptions::default() };
    let model = Model::open_with(&args.model, &open)
        .with_context(|| format!("cannot open the model {}", args.model.display()))?;
    let bar = terminal::progress_bar("writing");
    let mut show = |Progress { stage, done, total, .. }| {
        bar.set_message(if stage == Stage::Writing { "writing" } else { "verifying" });
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = convert(&model, &args.output, &args.options(), &mut show);
    bar.finish_and_clear();
    match outcome.with_context(|| format!("cannot convert {}", args.model.display()))? {
        Some(report) => {
            print(&args, &report);
            eprintln!("in {}", terminal::short(start.elapsed()));
            Ok(ExitCode::SUCCESS)
        }
        None => {
            eprintln!("stopped; nothing was written");
            Ok(ExitCode::from(terminal::INTERRUPTED))
        }
    }
}

fn print(args: &Args, report: &Report) {
    let bits = report.linear_bytes as f64 * 8.0 / report.linear_weights as f64;
    println!("{}: {} tensors, {}", args.output.display(), report.tensors, megabytes(report.file_bytes));
    println!("before: {}", megabytes(input_bytes(&args.model)));
    println!("linear layers: {} weights at {bits:.2} bits", report.linear_weights);
    for change in &report.changes {
        println!("{change}");
    }
    println!("{}", if report.is_verified { "verified: read back, and equal" } else { "not verified" });
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Bytes of a file, or of the weight files of a directory.
fn input_bytes(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let is_weights = |path: &Path| path.extension().is_some_and(|ending| ending == "safetensors");
    let directory = if path.is_dir() { Some(path) } else { path.parent().filter(|_| is_weights(path)) };
    let Some(entries) = directory.and_then(|directory| std::fs::read_dir(directory).ok()) else { return size(path) };
    entries.flatten().map(|entry| entry.path()).filter(|path| is_weights(path)).map(|path| size(&path)).sum()
}
