//! Makes a vector of each text with a ternary embedding model, and shows how near the texts are to each other:
//!
//! ```text
//! cargo run --release --example embed -- --model bitnet-embedding-0.6b.gguf "a tern at sea" "a bird over water"
//! ```

#[path = "../shared/device.rs"]
mod device;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/model.rs"]
mod model;
#[path = "../shared/terminal.rs"]
mod terminal;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;
use sterna::generate::SessionOptions;

use device::DeviceArgs;
use model::ModelArgs;

/// Makes a vector of each text with a ternary embedding model (BitNet embedding 0.6B, 270M).
///
/// Prints the cosine of the angle between every two texts, or all vectors as JSON. Ctrl-C stops after the texts at work.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The texts. Without any, each line of stdin is one.
    texts: Vec<String>,

    /// Put before every text: the instruction that a model's card asks for before a query, for example.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,

    /// Texts that are computed together.
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,

    /// The longest text, in tokens. The default is what the model was trained for, at most 4096.
    #[arg(long, value_name = "N")]
    context: Option<usize>,

    /// Writes texts and vectors to a file, or to stdout with "-".
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Most texts that are compared with each other on the screen.
const COMPARED: usize = 12;

fn main() -> anyhow::Result<ExitCode> {
    logging::start();
    let args = Args::parse();
    if args.device.devices {
        device::list();
        return Ok(ExitCode::SUCCESS);
    }
    let stop = terminal::stop_on_ctrl_c()?;
    let texts = args.texts()?;
    let sequences = args.batch.clamp(1, texts.len());
    let options = SessionOptions { context: args.context, sequences, ..SessionOptions::default() };
    let mut session = device::load(&args.device, &args.model.open()?, &options)?;

    let start = Instant::now();
    let bar = terminal::progress_bar("embedding");
    bar.set_length(texts.len() as u64);
    let mut vectors = Vec::with_capacity(texts.len());
    for some in texts.chunks(sequences) {
        let prefixed: Vec<String> = some.iter().map(|text| format!("{}{text}", args.prefix)).collect();
        vectors.extend(session.embed(&prefixed)?);
        bar.inc(some.len() as u64);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish_and_clear();
    let (width, time) = (vectors[0].len(), terminal::short(start.elapsed()));
    eprintln!("{} of {} texts, {width} features each, in {time} on {}", vectors.len(), texts.len(), session.device());

    match &args.json {
        Some(path) => write_json(path, &texts, &vectors)?,
        None => print_cosines(&texts, &vectors),
    }
    let all = vectors.len() == texts.len();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(terminal::INTERRUPTED) })
}

impl Args {
    fn texts(&self) -> anyhow::Result<Vec<String>> {
        if !self.texts.is_empty() {
            return Ok(self.texts.clone());
        }
        if std::io::stdin().is_terminal() {
            bail!("no texts: give some after the options, or lines on stdin");
        }
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input).context("cannot read the texts from stdin")?;
        let texts: Vec<String> = input.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if texts.is_empty() {
            bail!("stdin holds no text");
        }
        Ok(texts)
    }
}

fn write_json(path: &std::path::Path, texts: &[String], vectors: &[Vec<f32>]) -> anyhow::Result<()> {
    let entries = texts.iter().zip(vectors).map(|(text, vector)| json!({ "text": text, "vector": vector }));
    let text = serde_json::to_string_pretty(&entries.collect::<Vec<_>>())? + "\n";
    if path.as_os_str() == "-" {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A table of the cosines between the first texts.
fn print_cosines(texts: &[String], vectors: &[Vec<f32>]) {
    let shown = &vectors[..vectors.len().min(COMPARED)];
    for (place, (text, vector)) in texts.iter().zip(shown).enumerate() {
        let cosine = |other: &Vec<f32>| vector.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let cosines: String = shown.iter().map(|other| format!("{:7.3}", cosine(other))).collect();
        println!("{:>3}{cosines}  {}", place + 1, text.chars().take(60).collect::<String>());
    }
    if shown.len() < vectors.len() {
        println!("(the first {COMPARED} of {} texts; --json writes all vectors)", vectors.len());
    }
}
