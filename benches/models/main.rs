//! Whole models of the published shapes with random trits, on the CPU and on GPUs: prefill, decoding and batches, beside the
//! device's bandwidth; and how long a file of the real size takes to open. Prints Markdown tables, ready for
//! benches/README.md.
//!
//! A case takes seconds, too long to repeat it for samples: the median is taken over the tokens of one run, and the roof
//! is measured again for each device and number of threads.

mod file;
#[path = "../../tests/common/gguf_writer.rs"]
mod gguf_writer;
mod report;
mod shaders;
#[path = "../shared/synthetic_file.rs"]
mod synthetic_file;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use sterna::cpu::{CpuOptions, KernelSet};
use sterna::generate::{Prompt, PromptLookup, StepBudget};
use sterna::gpu::{Adapter, GpuDevice, GpuOptions, copy_bandwidth};
use sterna::measure::{peak_memory_bytes, read_bandwidth};
use sterna::model::SyntheticShape;
use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};

use crate::report::{Figure, Report};

/// Prompt tokens of each sequence of a batch.
const BATCH_PROMPT: usize = 8;

/// What is measured of a model.
struct Plan {
    prompts: &'static [usize],
    /// Tokens before those that are timed, for a single sequence.
    contexts: &'static [usize],
    /// Sequences of the batches.
    batches: &'static [usize],
    /// Steps that are timed.
    steps: usize,
}

const ON_CPU: Plan = Plan { prompts: &[128, 512, 2048], contexts: &[64, 1024], batches: &[2, 3, 4, 8, 16], steps: 32 };
const ON_GPU: Plan = Plan { prompts: &[128, 512, 2048], contexts: &[64, 2048, 8192], batches: &[8, 32], steps: 128 };
const QUICK: Plan = Plan { prompts: &[128], contexts: &[64], batches: &[2, 3, 4, 8, 16], steps: 16 };
/// Whether everything runs: the figures mean nothing.
const SMALL: Plan = Plan { prompts: &[40], contexts: &[16, 150], batches: &[2, 9], steps: 4 };

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// BitNet b1.58 2B-4T.
    #[value(name = "2b")]
    Bitnet2B,
    /// bitnet_b1_58-large.
    #[value(name = "0.7b")]
    Bitnet700M,
    #[value(name = "bonsai")]
    Bonsai1_7B,
    #[value(name = "bonsai-27b")]
    Bonsai27B,
    #[value(name = "bonsai-2-27b")]
    Bonsai2_27B,
    #[value(name = "bonsai-27b-cut")]
    Bonsai27BCut,
    /// The shape of the model that ships with the crate.
    #[value(name = "tales-4m")]
    Tales4M,
}

/// Measures whole models.
#[derive(Parser)]
struct Args {
    /// The shapes to measure [default: both; with --quick 2b].
    #[arg(long, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// The devices to measure: "cpu", "gpu", or a part of a GPU's name.
    #[arg(long, value_delimiter = ',', default_value = "cpu")]
    device: Vec<String>,
    /// Numbers of threads of the CPU [default: 1 and 2; with --quick 2].
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// The kernels [default: the fastest that this CPU has].
    #[arg(long)]
    kernels: Option<KernelSet>,
    /// Short contexts and few tokens.
    #[arg(long)]
    quick: bool,
    /// All that is measured, in sizes that a software GPU does in seconds; the shape is tales-4m unless one is named.
    #[arg(long)]
    small: bool,
    /// Writes all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
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
        args.shape = match (args.small, args.quick) {
            (true, _) => vec![Shape::Tales4M],
            (false, true) => vec![Shape::Bitnet2B],
            (false, false) => vec![Shape::Bitnet2B, Shape::Bitnet700M],
        };
    }
    if args.threads.is_empty() {
        args.threads = if args.quick { vec![2] } else { vec![1, 2] };
    }
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut report = Report { machine: format!("{}, {cores} cores", cpu_name()), ..Report::default() };
    println!("{}\n", report.machine);
    println!("| model | device | bandwidth GB/s | what | tok/s | GB/s | of the roof | GMAC/s |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut shader_tables = Vec::new();
    for &shape in &args.shape {
        for device in &args.device {
            if device == "cpu" {
                for &threads in &args.threads {
                    measure_cpu(shape, threads, &args, &mut report)?;
                }
            } else {
                shader_tables.push(measure_gpu(shape, device, &args, &mut report)?);
            }
        }
    }
    shader_tables.iter().for_each(|table| println!("\n{table}"));
    println!("{}", report.beside_cpu());
    report.not_measured.iter().for_each(|what| println!("Not measured: {what}."));
    if let Some(path) = &args.json {
        report.write(path)?;
    }
    if !args.no_file && !args.small {
        file::measure_opening()?;
    }
    let peak = peak_memory_bytes().map_or("not measured".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
    println!("\nPeak memory of the whole run: {peak}.");
    Ok(())
}

/// What a row of the table is made with.
struct Bench<'a> {
    session: Session,
    model: &'static str,
    device: String,
    is_gpu: bool,
    roof: f64,
    trits: f64,
    step_bytes: f64,
    report: &'a mut Report,
}

fn plan(args: &Args, usual: &'static Plan) -> &'static Plan {
    match (args.small, args.quick) {
        (true, _) => &SMALL,
        (false, true) => &QUICK,
        (false, false) => usual,
    }
}

fn measure_cpu(shape: Shape, threads: usize, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let kernels = args.kernels.unwrap_or_else(KernelSet::best);
    let options = CpuOptions { threads: Some(threads), kernels: args.kernels, ..CpuOptions::default() };
    let label = format!("{threads} threads, {kernels}");
    let plan = plan(args, &ON_CPU);
    Bench::new(shape, &Device::cpu_with(options), label, read_bandwidth(threads)?, plan, report)?.run(plan)
}

/// Returns the table of the shaders.
fn measure_gpu(shape: Shape, name: &str, args: &Args, report: &mut Report) -> anyhow::Result<String> {
    let adapter = if name == "gpu" { Adapter::first()? } else { Adapter::named(name)? };
    let options = GpuOptions::default();
    let bandwidth = copy_bandwidth(&GpuDevice::open(&adapter, &options)?)?;
    let plan = plan(args, &ON_GPU);
    let device = Device::gpu_with(&adapter, &options)?;
    let mut bench = Bench::new(shape, &device, adapter.name(), bandwidth, plan, report)?;
    bench.run(plan)?;
    shaders::table(&mut bench, plan.steps)
}

impl<'a> Bench<'a> {
    fn new(
        shape: Shape,
        device: &Device,
        label: String,
        roof: f64,
        plan: &Plan,
        report: &'a mut Report,
    ) -> anyhow::Result<Self> {
        let (name, synthetic) = match shape {
            Shape::Bitnet2B => ("2B-4T", SyntheticShape::Bitnet2B),
            Shape::Bitnet700M => ("0.7B", SyntheticShape::Bitnet700M),
            Shape::Bonsai1_7B => ("Bonsai 1.7B", SyntheticShape::Bonsai1_7B),
            Shape::Bonsai27B => ("Bonsai 27B", SyntheticShape::Bonsai27B),
            Shape::Bonsai2_27B => ("Bonsai 2 27B", SyntheticShape::Bonsai2_27B),
            Shape::Bonsai27BCut => ("Bonsai 27B, cut", SyntheticShape::Bonsai27BCut),
            Shape::Tales4M => ("tales 4M", SyntheticShape::Tales4M),
        };
        let model = Model::synthetic(synthetic, 1);
        let config = model.config().clone();
        let longest = plan.prompts.iter().chain(plan.contexts).max().context("something is measured")?;
        let options = SessionOptions {
            context: Some((longest + plan.steps + 32).min(config.context)),
            sequences: *plan.batches.iter().max().unwrap_or(&1),
            ..SessionOptions::default()
        };
        let session = Session::new(&model, device, &options)?;
        let trits = config.ternary_weights() as f64;
        let head_bytes = (config.vocabulary * config.width * 2) as f64;
        let step_bytes = trits / 4.0 + head_bytes;
        Ok(Self { session, model: name, device: label, is_gpu: device.is_gpu(), roof, trits, step_bytes, report })
    }

    fn run(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for &prompt in plan.prompts {
            self.prefill(prompt)?;
        }
        for &context in plan.contexts {
            let room = self.session.positions();
            if context + plan.steps >= room {
                let Self { model, device, .. } = self;
                let what = format!("decoding of {model} after {context} on {device}: it has room for {room} positions");
                self.report.not_measured.push(what);
            } else {
                self.decode(1, context, plan.steps)?;
            }
        }
        for &sequences in plan.batches {
            self.decode(sequences, BATCH_PROMPT, plan.steps)?;
        }
        Ok(())
    }

    /// Time until the first token of a prompt, the head included.
    fn prefill(&mut self, tokens: usize) -> anyhow::Result<()> {
        self.session.clear();
        let mut made = self.session.generate_ids(&ids(0, tokens), &greedy(1))?;
        made.next().context("a token comes")??;
        let rate = made.timings().prefill_per_second().context("there was a prompt")?;
        drop(made);
        self.row(&format!("prefill of {tokens}"), rate, None, Some(rate * self.trits));
        Ok(())
    }

    /// Steps of some sequences at once, after prompts of `context` tokens: the median over the steps.
    fn decode(&mut self, sequences: usize, context: usize, steps: usize) -> anyhow::Result<()> {
        // One more than is timed: the first token belongs to the prompt.
        let prompt = |i| Prompt { ids: ids(i, context), options: greedy(steps + 1) };
        let prompts: Vec<Prompt> = (0..sequences).map(prompt).collect();
        let mut batch = self.session.generate_batch(&prompts)?.with_budget(StepBudget::side_by_side());
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
        drop(batch);
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

    fn row(&mut self, what: &str, tokens: f64, bytes: Option<f64>, products: Option<f64>) {
        let Self { model, device, is_gpu, roof, .. } = self;
        let bandwidth =
            bytes.map_or(" | ".into(), |bytes| format!("{:.2} | {:.0} %", bytes / 1e9, 100.0 * bytes / *roof));
        let giga = products.map_or(String::new(), |products| format!("{:.0}", products / 1e9));
        println!("| {model} | {device} | {:.1} | {what} | {tokens:.2} | {bandwidth} | {giga} |", *roof / 1e9);
        self.report.figures.push(Figure {
            model,
            device: device.clone(),
            is_gpu: *is_gpu,
            bandwidth: *roof,
            what: what.into(),
            tokens_a_second: tokens,
            bytes_a_second: bytes,
            products_a_second: products,
        });
    }
}

/// Token ids of a prompt, which every vocabulary has; no two sequences begin alike.
fn ids(sequence: usize, count: usize) -> Vec<u32> {
    (0..count).map(|i| ((sequence * 7919 + i * 31) % 2_000) as u32).collect()
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_end: true, lookup: PromptLookup::Never, ..GenerateOptions::greedy() }
}

/// The machine, as Linux names it.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.trim().strip_prefix(':'));
    name.map_or_else(|| "an unnamed CPU".into(), |name| name.trim().into())
}
