//! Writes any ternary model that opens as one GGUF file:
//!
//! ```text
//! cargo run --release --example convert -- models/tales-4m-i2_s.gguf tales-tq1_0.gguf --to tq1_0
//! ```

mod args;
#[path = "../shared/command.rs"]
mod command;
#[path = "../shared/hub.rs"]
mod hub;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/quiet.rs"]
mod quiet;
#[path = "../shared/same_file.rs"]
mod same_file;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail};
use sterna::convert::{Progress, Report, Stage, convert};
use sterna::format::locate;
use sterna::format::safetensors::Checkpoint;
use sterna::model::{Model, OpenOptions};

use args::Args;

fn main() -> anyhow::Result<ExitCode> {
    logging::start();
    let args: Args = command::parse();
    let stop = terminal::stop_on_ctrl_c(false)?; // the work ends with the tensor at hand, and then its file must be removed
    let start = Instant::now();
    check_output(&args)?;
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
            quiet::stdout().write_all(told(&args, &report).as_bytes())?;
            terminal::say(&format!("in {}", terminal::short(start.elapsed())));
            Ok(ExitCode::SUCCESS)
        }
        None => {
            terminal::say("stopped; nothing was written");
            Ok(ExitCode::from(terminal::INTERRUPTED))
        }
    }
}

/// Whether the output is a file, and none that is read.
fn check_output(args: &Args) -> anyhow::Result<()> {
    if args.output.as_os_str() == "-" {
        bail!(
            "the output is read back and compared, which stdout cannot be: name a file (\"./-\" for one of that name)"
        );
    }
    let is_read = |file: &PathBuf| same_file::is_same(file, &args.output);
    if let Some(file) = files(&locate(&args.model)?).iter().find(|file| is_read(file)) {
        bail!("the output {} is {}, which is read: choose another name", args.output.display(), file.display());
    }
    Ok(())
}

/// The report for people.
fn told(args: &Args, report: &Report) -> String {
    let bits = report.linear_bytes as f64 * 8.0 / report.linear_weights as f64;
    let mut lines = vec![
        format!("{}: {} tensors, {}", args.output.display(), report.tensors, megabytes(report.file_bytes)),
        format!("before: {}", megabytes(input_bytes(&args.model))),
        format!("linear layers: {} weights at {bits:.2} bits", report.linear_weights),
    ];
    lines.extend(report.changes.iter().map(ToString::to_string));
    lines.push(if report.is_verified { "verified: read back, and equal".into() } else { "not verified".into() });
    lines.join("\n") + "\n"
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Bytes of a file, or of the weight files of a directory.
fn input_bytes(path: &Path) -> u64 {
    let is_weights = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "safetensors");
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    match files(&locate(path).unwrap_or_else(|_| path.to_owned())).as_slice() {
        [file] => size(file),
        several => several.iter().filter(is_weights).map(size).sum(),
    }
}

/// The files that may be read of a model: itself, or those of its directory but for GGUF files.
fn files(model: &Path) -> Vec<PathBuf> {
    let Some(directory) = Checkpoint::directory(model) else { return vec![model.to_owned()] };
    let entries = directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))).collect()
}
