//! The command line of `validate`, and what its words mean to the library.

#[path = "../shared/kernels.rs"]
mod kernels;

use std::path::PathBuf;

use clap::Parser;
use sterna::cpu::{CpuOptions, KernelSet};
use sterna::format::encodings::I2sLayout;
use sterna::measure::validate::{Plan, Section};
use sterna::model::{Model, OpenOptions, SyntheticScales, SyntheticShape};

use crate::hub;
use crate::numbers::one_or_more;

/// The seed of weights and prompts: any will do, but figures should be of the same numbers.
const SEED: u64 = 1;

/// Proves that a ternary model on this machine meets its performance targets, with real forward passes and real clocks.
///
/// Without a file it runs random weights of the shape of BitNet b1.58 2B-4T: the real amount of work, text without meaning.
/// Exit status: 0 if all that was measured passes, 1 if a criterion fails, 2 if the run could not be made, 130 if it was
/// stopped by Ctrl-C.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// A GGUF file with a ternary model, a directory that holds one, or a directory in Hugging Face form; or
    /// hf:OWNER/REPO/FILE, see `generate --help`. The default is random weights of the shape of BitNet b1.58 2B-4T.
    #[arg(long, short, value_name = "PATH", value_parser = hub::parser())]
    pub model: Option<PathBuf>,

    /// How I2_S codes are arranged: 128, 64 or row4. See `generate --help`.
    #[arg(long, value_name = "LAYOUT", default_value = "128", requires = "model")]
    pub i2s_layout: I2sLayout,

    /// Shorter prompts, fewer tokens: about a minute.
    #[arg(long)]
    pub quick: bool,

    /// Measures only this; may be given several times, or with commas.
    #[arg(long, value_name = "cpu|gpu|cache|batch", value_delimiter = ',')]
    pub only: Vec<Only>,

    /// Runs of each measurement [default: 3].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub runs: Option<usize>,

    /// Threads of the CPU. The default is the environment variable STERNA_THREADS, or one for each physical core that this process
    /// may use, as its affinity and its quota allow.
    #[arg(long, short, value_name = "N", allow_negative_numbers = true, value_parser = one_or_more)]
    pub threads: Option<usize>,

    #[arg(long, value_name = "SET", help = kernels::help())]
    pub kernels: Option<KernelSet>,

    /// Writes everything that was measured to a file; or to stdout with "-", and then the table goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Draws tokens a second over prompt length and over batch size, with the limit of the memory.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Only {
    Cpu,
    Gpu,
    Cache,
    Batch,
}

impl Args {
    /// Opens or makes the model.
    pub fn open(&self) -> sterna::Result<Model> {
        match &self.model {
            Some(path) => {
                Model::open_with(path, &OpenOptions { i2s_layout: self.i2s_layout, ..OpenOptions::default() })
            }
            None => Ok(Model::synthetic(SyntheticShape::Bitnet2B, SEED)),
        }
    }

    /// What is measured.
    pub fn plan(&self) -> Plan {
        let mut plan = if self.quick { Plan::quick() } else { Plan::full() };
        plan.seed = SEED;
        plan.cpu = CpuOptions { threads: self.threads, kernels: self.kernels, ..CpuOptions::default() };
        plan.runs = self.runs.unwrap_or(plan.runs);
        if self.model.is_none() {
            let shape = SyntheticShape::Bitnet2B;
            plan.superblocks = Some(Model::synthetic_with(shape, SyntheticScales::Superblocks, SEED));
        }
        if !self.only.is_empty() {
            let section = |only: &Only| match only {
                Only::Cpu => Section::Cpu,
                Only::Gpu => Section::Gpu,
                Only::Cache => Section::Cache,
                Only::Batch => Section::Batch,
            };
            plan.sections = self.only.iter().map(section).collect();
        }
        plan
    }
}
