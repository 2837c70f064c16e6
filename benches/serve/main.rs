//! The server under load, beside the same model without a server: `figures` measures what a server costs, each figure beside the
//! same work of a session in this process, by turns; `soak` lets hundreds of clients do for minutes what clients do, and counts
//! what was lost. Prints Markdown tables, ready for benches/README.md. The server listens at 127.0.0.1 alone.

mod client;
#[path = "../../tests/common/examples.rs"]
mod examples;
mod figures;
mod first;
mod gaps;
#[path = "../../tests/common/gguf_writer.rs"]
mod gguf_writer;
mod raw;
mod server;
#[path = "../shared/shape.rs"]
mod shape;
mod soak;
#[path = "../shared/synthetic_file.rs"]
mod synthetic_file;
mod texts;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sterna::Model;
use tempfile::TempPath;

use shape::Shape;

/// The model that ships with the crate: so small that all of a server's work shows beside its steps.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf");

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Figures,
    Soak,
}

/// A part of the figures.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    Throughput,
    Overhead,
    First,
    Idle,
    Gaps,
    Arrivals,
}

/// Measures the server.
#[derive(Parser)]
pub struct Args {
    /// What to do.
    #[arg(default_value = "figures")]
    what: What,
    /// Measures these alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// The model's file [default: the one that ships with the crate].
    #[arg(long, conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// A file of a published shape with random trits, which is written for this run.
    #[arg(long)]
    shape: Option<Shape>,
    /// Threads that compute.
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, |n| n.get()))]
    threads: usize,
    /// Few repetitions.
    #[arg(long)]
    quick: bool,
    /// How long the soak takes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Clients of the soak at once.
    #[arg(long, default_value_t = 256)]
    connections: usize,
    /// Starts the random numbers of prompts and arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What Cargo calls a benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is served, and by what.
pub struct Bench {
    pub args: Args,
    pub program: PathBuf,
    pub path: PathBuf,
    pub model: Model,
    /// Removes the file that was written.
    _written: Option<TempPath>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let written = args.shape.map(written).transpose()?;
    let path = match (&written, &args.model) {
        (Some(path), _) => path.to_path_buf(),
        (None, Some(path)) => path.clone(),
        (None, None) => SHIPPED.into(),
    };
    let model = Model::open(&path)?;
    let bench = Bench { program: server::program(), path, model, args, _written: written };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match bench.args.what {
        What::Figures => figures::measure(&bench, &runtime).map(|()| ExitCode::SUCCESS),
        What::Soak => soak::soak(&bench, &runtime),
    }
}

/// Removed however this ends; what a kill leaves, the next run writes over.
fn written(shape: Shape) -> anyhow::Result<TempPath> {
    let shape = shape.synthetic();
    let name = format!("served-{shape:?}.gguf");
    let path = TempPath::try_from_path(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))?;
    synthetic_file::write(&path, shape)?;
    Ok(path)
}

impl Bench {
    /// A server of this model, with more arguments.
    pub fn server(&self, threads: usize, arguments: &[&str]) -> anyhow::Result<server::Server> {
        let path = self.path.to_string_lossy();
        let threads = threads.to_string();
        let arguments = [&["--model", &*path, "--threads", &threads], arguments].concat();
        server::Server::start(&self.program, &arguments)
    }
}
