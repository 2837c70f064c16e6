//! Proof that a model on this machine meets its performance targets: real weights, a real forward pass, real clocks.
//!
//! [`validate`] runs the criteria AC5.1 (CPU), AC5.2 (GPU), AC5.3 (cache of keys and values) and AC5.4 (batches) on any model
//! and returns them as data. Nothing is estimated: what cannot be measured says why, and a figure is only believed beside the
//! counts of the kernels that ran for it, a second clock, and logits that equal those of plainer kernels.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use sterna::Model;
//! use sterna::measure::validate::{Plan, Targets, validate};
//!
//! let model = Model::open("model.gguf")?;
//! let targets = Targets { cpu_tokens_per_second: 12.0, ..Targets::default() };
//! let plan = Plan { targets, ..Plan::quick() };
//! let report = validate(&model, &plan, &mut |progress| {
//!     eprintln!("{} {}/{}", progress.what, progress.done, progress.all);
//!     ControlFlow::Continue(())
//! })?;
//! for criterion in &report.criteria {
//!     println!("{} {}: {:?}", criterion.id, criterion.what, criterion.verdict);
//! }
//! assert!(report.passes());
//! # Ok::<(), sterna::Error>(())
//! ```

mod batch;
mod cache;
mod cpu;
mod criterion;
mod equal;
mod gpu;
mod plan;
mod report;

use std::ops::ControlFlow;

pub use criterion::{Criterion, LOGITS_TOLERANCE, ROUNDING_TOLERANCE, Target, Targets, Verdict};
pub use plan::{Plan, Section};
pub use report::{GpuFacts, Report, ScaleSpan};

pub(crate) use criterion::Evidence;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generate::{Prompt, Session, SessionOptions};
use crate::gpu::Adapter;
use crate::measure::run::{Measurement, Run, Workload};
use crate::measure::{Bandwidth, Machine};
use crate::model::Model;

/// What is being done.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// In words.
    pub what: &'a str,
    /// Parts of it that are done.
    pub done: usize,
    /// All its parts.
    pub all: usize,
}

/// Measures a model. `progress` is told what is being done, between single tokens; where it breaks, what was found so far is
/// returned.
///
/// # Errors
/// [`Error::Input`] for an impossible plan, and those of [`Session::new`] on the CPU. A GPU that fails is a verdict.
pub fn validate(
    model: &Model,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    plan.check()?;
    let gpus = match &plan.gpus {
        _ if !plan.has(Section::Gpu) => Vec::new(),
        Some(gpus) => gpus.clone(),
        None => Adapter::all(),
    };
    let report = Report {
        machine: Machine::detect(),
        config: model.config().clone(),
        scales: ScaleSpan::of(model)?,
        decisions: model.decisions().to_vec(),
        seed: plan.seed,
        cpu_bandwidth: None,
        huge_page_bytes: None,
        gpus: gpus.iter().map(GpuFacts::of).collect(),
        measurements: Vec::new(),
        criteria: Vec::new(),
        stopped: false,
    };
    let mut validation = Validation { model, plan, progress, report, cpu_figures: Vec::new() };
    match validation.run(&gpus) {
        Ok(()) => {}
        Err(Halt::Stopped) => validation.report.stopped = true,
        Err(Halt::Failed(error)) => return Err(error),
    }
    Ok(validation.report)
}

/// A validation under way.
struct Validation<'a> {
    model: &'a Model,
    plan: &'a Plan,
    progress: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    report: Report,
    cpu_figures: Vec<Measurement>, // of the model itself, one sequence
}

/// Why a validation does not go on.
enum Halt {
    /// The caller has had enough.
    Stopped,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => Self::Stopped,
            error => Self::Failed(error),
        }
    }
}

type Outcome<T> = std::result::Result<T, Halt>;

impl Validation<'_> {
    fn run(&mut self, gpus: &[Adapter]) -> Outcome<()> {
        let cpu = Device::cpu_with(self.plan.cpu.clone());
        self.measure_bandwidth()?;
        if self.plan.has(Section::Cpu) {
            self.cpu(&cpu)?;
            self.measure_bandwidth()?;
        }
        if self.plan.has(Section::Cache) {
            self.cache(&cpu)?;
        }
        if self.plan.has(Section::Batch) {
            self.batch(&cpu)?;
        }
        if self.plan.has(Section::Gpu) {
            self.gpus(&cpu, gpus)?;
        }
        self.measure_bandwidth()
    }

    fn measure_bandwidth(&mut self) -> Outcome<()> {
        if !self.plan.bandwidth {
            return Ok(());
        }
        self.tell("read bandwidth", 0, 1)?;
        let threads = crate::cpu::Cpu::new(&self.plan.cpu)?.threads();
        let measured = Bandwidth::measure(threads)?;
        // Several times: other programs only ever take from it.
        let faster = |(known, _): &(Bandwidth, usize)| known.median < measured.median;
        if self.report.cpu_bandwidth.as_ref().is_none_or(faster) {
            self.report.cpu_bandwidth = Some((measured, threads));
        }
        Ok(())
    }

    /// Says what is being done, and asks whether to go on.
    fn tell(&mut self, what: &str, done: usize, all: usize) -> Outcome<()> {
        match (self.progress)(Progress { what, done, all }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Halt::Stopped),
        }
    }

    fn load(&mut self, model: &Model, device: &Device, options: &SessionOptions) -> Outcome<Session> {
        self.tell("loading", 0, model.config().layers)?;
        let options = SessionOptions { interrupt: self.plan.interrupt.clone(), ..options.clone() };
        Ok(Session::with_progress(model, device, &options, &mut |done, all| {
            (self.progress)(Progress { what: "loading", done, all })
        })?)
    }

    /// One run, told as `what`.
    fn run_once(&mut self, session: &mut Session, prompts: &[Prompt], what: &str) -> Outcome<Run> {
        let all = prompts.iter().map(|prompt| prompt.options.max_tokens).max().unwrap_or(0);
        self.tell(what, 0, all)?;
        let mut done = 0;
        let run = Run::measure(session, prompts, &mut || {
            done += 1;
            (self.progress)(Progress { what, done, all })
        })?;
        run.ok_or(Halt::Stopped)
    }

    /// The planned number of runs of one workload.
    fn measure(&mut self, session: &mut Session, workload: Workload) -> Outcome<Measurement> {
        let config = session.model().config().clone();
        let prompts = workload.prompts(self.plan.seed, config.vocabulary);
        let mut runs = Vec::new();
        for run in 1..=self.plan.runs {
            let Workload { prompt, batch, .. } = workload;
            let plural = if batch == 1 { "" } else { "s" };
            let what = format!("{prompt} tokens, {batch} sequence{plural}, run {run} of {}", self.plan.runs);
            runs.push(self.run_once(session, &prompts, &what)?);
        }
        let (device, model) = (session.device().to_owned(), ScaleSpan::of(session.model())?.to_string());
        Ok(Measurement::new(device, model, workload, runs, &config))
    }

    /// A short run whose figures are forgotten: threads wake up, pages are touched, shaders are compiled.
    fn warm_up(&mut self, session: &mut Session) -> Outcome<()> {
        let workload = Workload { prompt: self.plan.batch_prompt, batch: 1, tokens: 2 };
        let prompts = workload.prompts(self.plan.seed, session.model().config().vocabulary);
        self.run_once(session, &prompts, "warming up").map(drop)
    }

    fn add(&mut self, criterion: Criterion) {
        self.report.criteria.push(criterion);
    }

    /// Room for one sequence of so many tokens; an error in words where the model has none.
    fn context(&self, positions: usize) -> std::result::Result<SessionOptions, String> {
        let context = self.model.config().context;
        if positions > context {
            return Err(format!("the model has {context} positions, and {positions} are needed"));
        }
        Ok(SessionOptions { context: Some(positions), ..SessionOptions::default() })
    }
}
