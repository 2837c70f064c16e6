//! Continues a prompt with a ternary language model and streams the text:
//!
//! ```text
//! cargo run --release --example generate -- --prompt "Once upon a time"
//! ```

mod args;
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
mod report;
#[path = "../shared/sampling.rs"]
mod sampling;
#[path = "../shared/setup.rs"]
mod setup;
#[path = "../shared/terminal.rs"]
mod terminal;
#[path = "../shared/text.rs"]
mod text;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::HumanBytes;
use serde_json::json;
use sterna::generate::{Finish, Prompt, Session, SessionOptions, StepBudget, Usage};
use sterna::gpu::GpuCounters;
use sterna::measure::{Timings, huge_page_bytes, peak_memory_bytes};

use args::Args;
use output::Output;
use setup::Setup;

fn main() -> anyhow::Result<ExitCode> {
    drivers::quiet();
    logging::start();
    let args: Args = command::parse();
    if args.device.devices {
        return device::list().map(|()| ExitCode::SUCCESS);
    }
    let (stop, setup) = (terminal::stop_on_ctrl_c(true)?, Setup::begin()?);
    let read: Vec<_> = std::iter::once(&*args.model.model).chain(args.prompt_file.as_deref()).collect();
    let json = args.json.as_deref().map(|path| Output::open(path, &read)).transpose()?;

    let start = Instant::now();
    let model = args.open()?;
    let text = args.prompt_text()?;
    let ids = args.prompt_ids(&model, text.as_deref())?;
    let options = SessionOptions { interrupt: interrupt::on_ctrl_c()?, ..args.session_options(&model) };
    let mut session = device::load(&args.device, &model, &options)?;
    setup.end();
    if args.profile {
        session.profile()?;
    }
    let load = start.elapsed();

    let seed = args.sampling.seed().unwrap_or_else(new_seed);
    let run = generate(&mut session, &args, &ids, text.as_deref(), seed, &stop)?;
    if args.profile {
        terminal::say(&format!("\n{}", report::profile_table(&session.shader_times())));
    }
    terminal::say(&format!("\n{}", run.summary(&session, &args, load, seed)));
    if let Some(json) = json {
        let report = run.json(&session, &args, load, seed, &ids);
        let report = serde_json::to_string_pretty(&report)? + "\n";
        json.write(&report)?;
    }
    if run.interrupted {
        // At once: what a GPU is still at is not waited for.
        std::process::exit(terminal::INTERRUPTED.into());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a generation made.
#[derive(Default)]
struct Run {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
    timings: Timings,
    interrupted: bool,
    usage: Usage,
    counters: Option<[GpuCounters; 2]>, // of a GPU: of the whole run, and of making the tokens
}

/// Computes the prompt under a progress bar, then streams pieces to stdout until the end or Ctrl-C.
fn generate(
    session: &mut Session,
    args: &Args,
    ids: &[u32],
    text: Option<&str>,
    seed: u64,
    stop: &AtomicBool,
) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let before = session.gpu_counters();
    let mut before_tokens = before;
    let pipe: Box<dyn Write> = match output::is_stdout(args.json.as_deref()) {
        true => Box::new(std::io::stderr()),
        false => Box::new(std::io::stdout()),
    };
    let mut out = Out { pipe, is_closed: false };
    let options = args.generate_options(session.model(), seed);
    let sequence = session.join(Prompt { ids: ids.to_vec(), options })?;
    let bar = terminal::progress_bar("reading the prompt");
    bar.set_length(ids.len() as u64);
    while run.finish.is_none() && !run.interrupted && !out.is_closed {
        let pieces = session.step(&StepBudget::whole_chunks()).to_vec();
        run.interrupted = stop.load(Ordering::Relaxed);
        if pieces.is_empty() {
            bar.set_position(session.usage(sequence).map_or(0, |usage| (usage.cached + usage.computed) as u64));
            continue;
        }
        if !bar.is_finished() {
            bar.finish_and_clear();
            before_tokens = session.gpu_counters();
            out.write(text.filter(|_| !args.no_echo).unwrap_or_default())?;
        }
        for piece in pieces {
            if let Some(error) = piece.error {
                return Err(error.into());
            }
            match (text, piece.id) {
                (None, Some(id)) => out.write(&format!("{id} "))?,
                _ => out.write(&piece.text)?,
            }
            run.ids.extend(piece.id);
            run.text.push_str(&piece.text);
            (run.finish, run.usage) = (piece.finish, piece.usage);
        }
    }
    bar.finish_and_clear();
    out.write("\n")?;
    run.timings = session.timings();
    let since = |earlier: Option<GpuCounters>| Some(session.gpu_counters()?.since(earlier?));
    run.counters = since(before).zip(since(before_tokens)).map(|(all, tokens)| [all, tokens]);
    Ok(run)
}

/// Where the text goes: stdout, or stderr where that has the report. Its reader may close it (`generate | head`): that ends the
/// story, it is no error.
struct Out {
    pipe: Box<dyn Write>,
    is_closed: bool,
}

impl Out {
    /// Shows text at once.
    fn write(&mut self, text: &str) -> std::io::Result<()> {
        match self.pipe.write_all(text.as_bytes()).and_then(|()| self.pipe.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.is_closed = true,
            outcome => outcome?,
        }
        Ok(())
    }
}

impl Run {
    /// One line for people.
    fn summary(&self, session: &Session, args: &Args, load: Duration, seed: u64) -> String {
        let Timings { prefill_tokens, prefill, decode_tokens, decode, .. } = self.timings;
        let rate = |rate: Option<f64>| rate.map_or("not measured".into(), |rate| format!("{rate:.1} tok/s"));
        let end = match self.finish {
            _ if self.interrupted => "stopped by Ctrl-C".into(),
            None => "nobody reads on".into(),
            Some(Finish::MaxTokens) => format!("reached --max-tokens {}", args.max_tokens),
            Some(Finish::EndOfGeneration(id)) => format!("the model ended its text (token {id})"),
            Some(Finish::StopId(id)) => format!("met stop token {id}"),
            Some(Finish::StopText) => "met a --stop text".into(),
            Some(Finish::ContextFull) => format!("filled the context of {} positions", session.positions()),
            Some(other) => format!("{other:?}"),
        };
        let how = if args.sampling.greedy { "greedy".into() } else { format!("seed {seed}") };
        let memory = peak_memory_bytes().map_or("not measured".into(), |bytes| HumanBytes(bytes).to_string());
        format!(
            "{} | load {} | prefill {prefill_tokens} tokens in {}, {} | decode {decode_tokens} tokens in {}, {} | \
             peak memory {memory} | {how} | {end}",
            session.device(),
            terminal::short(load),
            terminal::short(prefill),
            rate(self.timings.prefill_per_second()),
            terminal::short(decode),
            rate(self.timings.decode_per_second()),
        )
    }

    /// Everything for machines.
    fn json(&self, session: &Session, args: &Args, load: Duration, seed: u64, prompt: &[u32]) -> serde_json::Value {
        let model = match args.synthetic {
            None => args.model.model.display().to_string(),
            Some(_) => format!("synthetic {}", session.model().config().architecture),
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": model,
            "device": session.device(),
            "greedy": args.sampling.greedy,
            "seed": seed,
            "prompt_ids": prompt,
            "ids": self.ids,
            "text": self.text,
            "finish": self.finish.map(|finish| format!("{finish:?}")),
            "interrupted": self.interrupted,
            "load_seconds": load.as_secs_f64(),
            "prefill_tokens": self.timings.prefill_tokens,
            "prefill_seconds": self.timings.prefill.as_secs_f64(),
            "prefill_tokens_per_second": self.timings.prefill_per_second(),
            "decode_tokens": self.timings.decode_tokens,
            "decode_seconds": self.timings.decode.as_secs_f64(),
            "decode_tokens_per_second": self.timings.decode_per_second(),
            "drafted_tokens": self.usage.drafted,
            "accepted_tokens": self.usage.accepted,
            "peak_memory_bytes": peak_memory_bytes(),
            "huge_page_bytes": huge_page_bytes(),
            "gpu": self.counters.map(|[all, tokens]| report::counters_json(all, tokens, self.ids.len())),
            "shaders": args.profile.then(|| report::profile_json(&session.shader_times())),
        })
    }
}

/// A seed that differs from run to run.
fn new_seed() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Microseconds of this hour: short enough to type again.
    (time.as_micros() % 3_600_000_000) as u64
}
