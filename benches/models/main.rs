//! Whole models of the published shapes with random trits: prefill, decoding and batches, beside the machine's read
//! bandwidth; and how long a file of the real size takes to open. Prints one Markdown table, ready for benches/README.md.
//!
//! Criterion would repeat each case a hundred times; a case here takes seconds, so the median is taken over the tokens
//! of one run, and the roof is measured again for each number of threads.

mod file;
#[path = "../../tests/common/gguf_writer.rs"]
mod gguf_writer;

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use sterna::cpu::{CpuOptions, KernelSet};
use sterna::generate::Prompt;
use sterna::measure::{peak_memory_bytes, read_bandwidth};
use sterna::model::SyntheticShape;
use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};

/// Sequences of the batches.
const BATCHES: [usize; 3] = [4, 8, 16];
/// Prompt tokens of each sequence of a batch.
const BATCH_PROMPT: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// BitNet b1.58 2B-4T.
    #[value(name = "2b")]
    Bitnet2B,
    /// bitnet_b1_58-large.
    #[value(name = "0.7b")]
    Bitnet700M,
}

/// Measures whole models.
#[derive(Parser)]
struct Args {
    /// The shapes to measure [default: both; with --quick 2b].
    #[arg(long, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// Numbers of threads [default: 1 and 2; with --quick 2].
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// The kernels [default: the fastest that this CPU has].
    #[arg(long)]
    kernels: Option<KernelSet>,
    /// Short contexts and few tokens.
    #[arg(long)]
    quick: bool,
    /// Leaves out the file.
    #[arg(long)]
    no_file: bool,
    /// What Cargo calls a benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.shape.is_empty() {
        args.shape = if args.quick { vec![Shape::Bitnet2B] } else { vec![Shape::Bitnet2B, Shape::Bitnet700M] };
    }
    if args.threads.is_empty() {
        args.threads = if args.quick { vec![2] } else { vec![1, 2] };
    }
    println!("{}, {} cores\n", cpu_name(), std::thread::available_parallelism().map_or(1, |n| n.get()));
    println!("| model | threads, kernels | reads GB/s | what | tok/s | GB/s | of the roof | GMAC/s |");
    println!("|---|---|---|---|---|---|---|---|");
    for &shape in &args.shape {
        for &threads in &args.threads {
            measure(shape, threads, &args)?;
        }
    }
    if !args.no_file {
        file::measure_opening()?;
    }
    let peak = peak_memory_bytes().map_or("not measured".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
    println!("\nPeak memory of the whole run: {peak}.");
    Ok(())
}

/// What a row of the table is made with.
struct Bench {
    session: Session,
    label: String,
    roof: f64,
    trits: f64,
    step_bytes: f64,
}

fn measure(shape: Shape, threads: usize, args: &Args) -> anyhow::Result<()> {
    let (name, synthetic) = match shape {
        Shape::Bitnet2B => ("2B-4T", SyntheticShape::Bitnet2B),
        Shape::Bitnet700M => ("0.7B", SyntheticShape::Bitnet700M),
    };
    let model = Model::synthetic(synthetic, 1);
    let config = model.config().clone();
    let cpu = CpuOptions { threads: Some(threads), kernels: args.kernels, ..CpuOptions::default() };
    let kernels = args.kernels.unwrap_or_else(KernelSet::best);
    let options =
        SessionOptions { context: Some(1024 + 64), sequences: BATCHES[BATCHES.len() - 1], ..SessionOptions::default() };
    let session = Session::new(&model, &Device::cpu_with(cpu), &options)?;
    let roof = read_bandwidth(threads);
    let trits = config.ternary_weights() as f64;
    let label = format!("{name} | {threads}, {kernels} | {:.1}", roof / 1e9);
    let head_bytes = (config.vocabulary * config.width * 2) as f64;
    let mut bench = Bench { session, label, roof, trits, step_bytes: trits / 4.0 + head_bytes };

    let (prompts, contexts, tokens): (&[usize], &[usize], usize) =
        if args.quick { (&[128], &[64], 16) } else { (&[128, 512], &[64, 1024], 32) };
    for &prompt in prompts {
        bench.prefill(prompt)?;
    }
    for &context in contexts {
        bench.decode(1, context, tokens)?;
    }
    for sequences in BATCHES {
        bench.decode(sequences, BATCH_PROMPT, tokens)?;
    }
    Ok(())
}

impl Bench {
    /// Time until the first token of a prompt, the head included.
    fn prefill(&mut self, tokens: usize) -> anyhow::Result<()> {
        self.session.clear();
        let mut made = self.session.generate_ids(&ids(0, tokens), &greedy(1))?;
        made.next().context("a token comes")??;
        let rate = made.timings().prefill_per_second().context("there was a prompt")?;
        self.row(&format!("prefill of {tokens}"), rate, None, Some(rate * self.trits));
        Ok(())
    }

    /// Steps of some sequences at once, after prompts of `context` tokens: the median over the steps.
    fn decode(&mut self, sequences: usize, context: usize, steps: usize) -> anyhow::Result<()> {
        // One more than is timed: the first token belongs to the prompt.
        let prompt = |i| Prompt { ids: ids(i, context), options: greedy(steps + 1) };
        let prompts: Vec<Prompt> = (0..sequences).map(prompt).collect();
        let mut batch = self.session.generate_batch(&prompts)?;
        let mut times = Vec::new();
        loop {
            let start = Instant::now();
            let pieces = batch.by_ref().take(sequences).collect::<Result<Vec<_>, _>>()?;
            if pieces.is_empty() {
                break;
            }
            ensure!(pieces.len() == sequences && pieces.iter().all(|p| p.id.is_some()), "every sequence goes on");
            times.push(start.elapsed().as_secs_f64());
        }
        ensure!(times.len() == steps + 1, "as many steps as were asked for");
        let times = &mut times[1..];
        times.sort_by(f64::total_cmp);
        let step = times[times.len() / 2];
        let what = match sequences {
            1 => format!("decode after {context}"),
            _ => format!("decode, {sequences} sequences"),
        };
        self.row(
            &what,
            sequences as f64 / step,
            Some(self.step_bytes / step),
            Some(self.trits * sequences as f64 / step),
        );
        Ok(())
    }

    fn row(&self, what: &str, tokens: f64, bytes: Option<f64>, products: Option<f64>) {
        let bandwidth =
            bytes.map_or(" | ".into(), |bytes| format!("{:.2} | {:.0} %", bytes / 1e9, 100.0 * bytes / self.roof));
        let products = products.map_or(String::new(), |products| format!("{:.0}", products / 1e9));
        println!("| {} | {what} | {tokens:.2} | {bandwidth} | {products} |", self.label);
    }
}

/// Token ids of a prompt; no two sequences begin alike.
fn ids(sequence: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((sequence * 7919 + i * 31) % 32_000) as u32).collect()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_end: true, ..GenerateOptions::greedy() }
}

/// The machine, as Linux names it.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.trim().strip_prefix(':'));
    name.map_or_else(|| "an unnamed CPU".into(), |name| name.trim().into())
}
