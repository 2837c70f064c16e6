//! What drafts from the prompt win and cost: a file of this repository that is in the prompt and is written anew with small edits,
//! and prose that goes on. Random weights of a published shape compute every step; what is said is told to them, as a model that did
//! the task would say it. By turns with and without drafts. Prints a Markdown table, ready for benches/README.md.

#[path = "../tests/common/script.rs"]
mod script;
#[path = "shared/shape.rs"]
mod shape;

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use sterna::cpu::CpuOptions;
use sterna::generate::{Prompt, PromptLookup, StepBudget, Usage};
use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};

use script::Script;
use shape::Shape;

/// The model that ships with the crate: its tokenizer cuts the texts.
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf");
/// What is written anew.
const FILE: &str = include_str!("../src/interrupt.rs");
/// What goes on.
const PROSE: &str = include_str!("../ARCHITECTURE.md");
/// Tokens that are made, at most.
const MOST: usize = 400;

/// Measures drafts.
#[derive(Parser)]
struct Args {
    /// The shape of the random weights.
    #[arg(long, default_value = "0.7b")]
    shape: Shape,
    /// Threads that compute.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often each is done, with and without.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What Cargo calls a benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A text in the prompt, and what is said after it.
struct Task {
    name: &'static str,
    prompt: Vec<u32>,
    said: Vec<u32>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = Device::cpu_with(CpuOptions { threads: Some(args.threads), ..CpuOptions::default() });
    let options = SessionOptions { context: Some(2048), ..SessionOptions::default() };
    let mut session = Session::new(&Model::synthetic(args.shape.synthetic(), 1), &device, &options)?;
    println!("{}\n", session.device());
    println!("| task | tokens | tok/s without | with | | taken of drafted |\n|---|---|---|---|---|---|");
    for task in tasks()? {
        let (mut rates, mut usage) = ([Vec::new(), Vec::new()], Usage::default());
        let mut ratios = Vec::new();
        for round in 0..args.rounds {
            let mut order = [PromptLookup::Never, PromptLookup::WhereFaster];
            if round % 2 == 1 {
                order.reverse();
            }
            let mut both = [0.0; 2];
            for lookup in order {
                let (rate, used) = say(&mut session, &task, lookup)?;
                let place = usize::from(lookup == PromptLookup::WhereFaster);
                both[place] = rate;
                rates[place].push(rate);
                usage = if place == 1 { used } else { usage };
            }
            ratios.push(both[1] / both[0]);
        }
        let [without, with] = rates.map(median);
        println!(
            "| {} | {} + {} | {without:.1} | {with:.1} | {:.2} × | {} of {} |",
            task.name,
            task.prompt.len(),
            task.said.len(),
            median(ratios),
            usage.accepted,
            usage.drafted
        );
    }
    Ok(())
}

/// What is asked.
fn tasks() -> anyhow::Result<[Task; 2]> {
    let model = Model::open(SHIPPED)?;
    let tokenizer = model.tokenizer()?;
    let anew = FILE.replace("Interrupt", "Cancel").replace("whether", "if");
    ensure!(anew != FILE, "the file is edited");
    let (before, after) = PROSE.split_at(PROSE.find("\n## ").unwrap_or(0).max(4000));
    let cut = |ids: Vec<u32>| ids.into_iter().take(MOST).collect();
    let last = |ids: Vec<u32>| ids[ids.len().saturating_sub(1000)..].to_vec();
    Ok([
        Task {
            name: "a file written anew",
            prompt: last(tokenizer.encode_prompt(FILE)?),
            said: cut(tokenizer.encode(&anew)?),
        },
        Task {
            name: "prose that goes on",
            prompt: last(tokenizer.encode_prompt(before)?),
            said: cut(tokenizer.encode(after)?),
        },
    ])
}

/// Tokens a second after the first, and what became of drafts.
fn say(session: &mut Session, task: &Task, lookup: PromptLookup) -> anyhow::Result<(f64, Usage)> {
    let options =
        GenerateOptions { max_tokens: task.said.len(), ignore_end: true, lookup, ..GenerateOptions::default() };
    let prompt = Prompt { ids: task.prompt.clone(), options };
    let id = session.join_with(prompt, Box::new(Script(task.said.clone())))?;
    let (mut start, mut usage) = (Instant::now(), Usage::default());
    while session.usage(id).is_some() {
        for piece in session.step(&StepBudget::whole_chunks()) {
            ensure!(piece.error.is_none(), "{:?}", piece.error);
            if piece.usage.made == 1 {
                start = Instant::now();
            }
            usage = piece.usage;
        }
    }
    Ok(((task.said.len() - 1) as f64 / start.elapsed().as_secs_f64(), usage))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
