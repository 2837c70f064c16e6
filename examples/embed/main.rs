//! Makes a vector of each text with a ternary embedding model, and shows how near the texts are to each other:
//!
//! ```text
//! cargo run --release --example embed -- --model bitnet-embedding-0.6b.gguf "a tern at sea" "a bird over water"
//! ```

#[path = "../shared/command.rs"]
mod command;
#[path = "../shared/device.rs"]
mod device;
#[path = "../shared/drivers.rs"]
mod drivers;
#[path = "../shared/interrupt.rs"]
mod interrupt;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/model.rs"]
mod model;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/output.rs"]
mod output;
#[path = "../shared/quiet.rs"]
mod quiet;
#[path = "../shared/setup.rs"]
mod setup;
#[path = "../shared/terminal.rs"]
mod terminal;
#[path = "../shared/text.rs"]
mod text;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::bail;
use clap::Parser;
use serde_json::json;
use sterna::generate::SessionOptions;
use sterna::{Error, Model};

use device::DeviceArgs;
use model::ModelArgs;
use numbers::one_or_more;
use output::Output;
use setup::Setup;

/// Makes a vector of each text with a ternary embedding model (BitNet embedding 0.6B, 270M).
///
/// Prints the cosine of the angle between every two texts, or all vectors as JSON. Ctrl-C stops after the texts at work.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// The texts. Without any, each line of stdin is one. Put "--" before texts that begin with a dash.
    #[arg(allow_negative_numbers = true)]
    texts: Vec<String>,

    /// Put before every text: the instruction that a model's card asks for before a query, for example.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    prefix: String,

    /// Texts that are computed together.
    #[arg(long, value_name = "N", default_value_t = 8, allow_negative_numbers = true, value_parser = one_or_more)]
    batch: usize,

    /// The longest text, in tokens. The default is what the model was trained for, at most 4096.
    #[arg(long, short, visible_alias = "ctx-size", value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    context: Option<usize>,

    /// Cuts texts that are too long, and says which. Without it they are an error.
    #[arg(long)]
    truncate: bool,

    /// Writes texts and vectors to a file, or to stdout with "-".
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArgs,
}

/// Most texts that are compared with each other on the screen.
const COMPARED: usize = 12;
/// The longest text, in tokens, unless the command line says otherwise.
const DEFAULT_CONTEXT: usize = 4096;
/// Letters of a text that a message repeats.
const BEGIN: usize = 40;

/// A text, and what the model is given of it.
struct Input {
    text: String,
    ids: Vec<u32>,
    was_cut: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    drivers::quiet();
    logging::start();
    let args: Args = command::parse();
    if args.device.devices {
        return device::list().map(|()| ExitCode::SUCCESS);
    }
    let (stop, setup) = (terminal::stop_on_ctrl_c(true)?, Setup::begin()?);
    let json = args.json.as_deref().map(|path| Output::open(path, &[&args.model.model])).transpose()?;
    let texts = args.texts()?;
    let model = args.model.open()?;
    let most = args.context.unwrap_or(model.config().context.min(DEFAULT_CONTEXT));
    let inputs = args.inputs(&model, texts, most)?;
    let sequences = args.batch.min(inputs.len());
    let interrupt = interrupt::on_ctrl_c()?;
    let options = SessionOptions { context: Some(most), sequences, interrupt, ..SessionOptions::default() };
    let mut session = device::load(&args.device, &model, &options)?;
    setup.end();

    let start = Instant::now();
    let bar = terminal::progress_bar("embedding");
    bar.set_length(inputs.len() as u64);
    let mut vectors = Vec::with_capacity(inputs.len());
    for some in inputs.chunks(sequences) {
        let ids: Vec<_> = some.iter().map(|input| &input.ids).collect();
        match session.embed_ids(&ids) {
            Ok(some) => vectors.extend(some),
            Err(Error::Interrupted) => break,
            Err(error) => return Err(error.into()),
        }
        bar.inc(some.len() as u64);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish_and_clear();
    let (width, time) = (model.config().width, terminal::short(start.elapsed()));
    let (made, all, device) = (vectors.len(), inputs.len(), session.device());
    terminal::say(&format!("{made} of {all} texts, {width} features each, in {time} on {device}"));

    match json {
        Some(json) => json.write(&report(&inputs, &vectors)?)?,
        None => quiet::stdout().write_all(cosines(&inputs, &vectors).as_bytes())?,
    }
    if made < all {
        // At once: what a GPU is still at is not waited for.
        std::process::exit(terminal::INTERRUPTED.into());
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn texts(&self) -> anyhow::Result<Vec<String>> {
        if !self.texts.is_empty() {
            return Ok(self.texts.clone());
        }
        if std::io::stdin().is_terminal() {
            bail!("no texts: give some after the options, or lines on stdin");
        }
        let input = text::read(Path::new("-"))?;
        let texts: Vec<String> = input.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if texts.is_empty() {
            bail!("stdin holds no text");
        }
        Ok(texts)
    }

    /// The ids of all texts, none of them more than `most`: before the model is loaded.
    fn inputs(&self, model: &Model, texts: Vec<String>, most: usize) -> anyhow::Result<Vec<Input>> {
        let mut inputs = Vec::with_capacity(texts.len());
        for (place, text) in texts.into_iter().enumerate() {
            let mut ids = model.embedding_ids(&format!("{}{text}", self.prefix))?;
            let (tokens, was_cut) = (ids.len(), ids.len() > most);
            if was_cut {
                let begin: String = text.chars().take(BEGIN).collect();
                let what = format!("text {} ({begin:?}…): {tokens} tokens, at most {most} fit", place + 1);
                if !self.truncate {
                    bail!("{what}: shorten it, or cut it with --truncate{}", self.more_room(model, tokens));
                }
                terminal::say(&format!("{what}; the last {} were cut off", tokens - most));
                let end = ids.last().copied().filter(|&id| model.tokenizer().is_ok_and(|t| t.eos() == Some(id)));
                ids.truncate(most - usize::from(end.is_some()));
                ids.extend(end); // which the vector is made at
            }
            inputs.push(Input { text, ids, was_cut });
        }
        Ok(inputs)
    }

    /// Another way out, where there is one.
    fn more_room(&self, model: &Model, tokens: usize) -> String {
        match tokens <= model.config().context {
            true => format!("; or make room with --context {tokens}"),
            false => String::new(),
        }
    }
}

fn report(inputs: &[Input], vectors: &[Vec<f32>]) -> anyhow::Result<String> {
    let entry = |(input, vector): (&Input, &Vec<f32>)| match input.was_cut {
        true => json!({ "text": input.text, "truncated_to_tokens": input.ids.len(), "vector": vector }),
        false => json!({ "text": input.text, "vector": vector }),
    };
    let entries: Vec<_> = inputs.iter().zip(vectors).map(entry).collect();
    Ok(serde_json::to_string_pretty(&entries)? + "\n")
}

/// A table of the cosines between the first texts.
fn cosines(inputs: &[Input], vectors: &[Vec<f32>]) -> String {
    let (mut table, shown) = (String::new(), &vectors[..vectors.len().min(COMPARED)]);
    for (place, (input, vector)) in inputs.iter().zip(shown).enumerate() {
        let cosine = |other: &Vec<f32>| vector.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let cosines: String = shown.iter().map(|other| format!("{:7.3}", cosine(other))).collect();
        let begin: String = input.text.chars().take(60).collect();
        table += &format!("{:>3}{cosines}  {begin}\n", place + 1);
    }
    if shown.len() < vectors.len() {
        table += &format!("(the first {COMPARED} of {} texts; --json writes all vectors)\n", vectors.len());
    }
    table
}
