//! What a validation measures, and how much of it.

use crate::cpu::CpuOptions;
use crate::error::{Error, Result};
use crate::gpu::Adapter;
use crate::interrupt::Interrupt;
use crate::measure::validate::Targets;
use crate::model::Model;

/// A part of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Section {
    /// AC5.1: speed, latency and memory on the CPU.
    Cpu,
    /// AC5.2: a GPU against the CPU.
    Gpu,
    /// AC5.3: the cache of keys and values.
    Cache,
    /// AC5.4: several sequences at once.
    Batch,
}

/// What is measured, and against which targets.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The parts, all by default.
    pub sections: Vec<Section>,
    /// How the CPU is used.
    pub cpu: CpuOptions,
    /// The GPUs; all that there are if none are named. On software only correctness is checked.
    pub gpus: Option<Vec<Adapter>>,
    /// A second model with scales for each 256 columns, for the criterion of those, if the model itself has none.
    pub superblocks: Option<Model>,
    /// Lengths of the prompts of a single sequence.
    pub prompts: Vec<usize>,
    /// Sequences of the batches, beside one.
    pub batches: Vec<usize>,
    /// Tokens of the longest prompt of a batch.
    pub batch_prompt: usize,
    /// Tokens made after each prompt; at least two.
    pub tokens: usize,
    /// Runs of each workload, after one that warms up.
    pub runs: usize,
    /// The length of the prompt with and without a cache.
    pub cache_prompt: usize,
    /// Tokens made after it; at least two. Without a cache, each costs a whole prompt.
    pub cache_tokens: usize,
    /// Layers of the model that are run for the cache; all if none. The ratio hardly depends on how many they are.
    pub cache_layers: Option<usize>,
    /// Whether the CPU's bandwidth is measured beside its speeds, which have their roof there: up to three times, some seconds each.
    pub bandwidth: bool,
    /// Set by another thread, it ends the step that is computed, and with it the validation.
    pub interrupt: Interrupt,
    /// The seed of the prompts.
    pub seed: u64,
    /// The targets.
    pub targets: Targets,
}

impl Plan {
    /// Prompts of 128 to 1024 tokens, batches of 2 to 16, three runs of each: some minutes for a 2B model.
    pub fn full() -> Self {
        Self {
            sections: vec![Section::Cpu, Section::Gpu, Section::Cache, Section::Batch],
            cpu: CpuOptions::default(),
            gpus: None,
            superblocks: None,
            prompts: vec![128, 256, 512, 1024],
            batches: vec![2, 4, 8, 16],
            batch_prompt: 32,
            tokens: 32,
            runs: 3,
            cache_prompt: 1024,
            cache_tokens: 4,
            cache_layers: None,
            bandwidth: true,
            interrupt: Interrupt::new(),
            seed: 1,
            targets: Targets::default(),
        }
    }

    /// The same criteria with fewer prompts, batches and tokens: about a minute for a 2B model.
    pub fn quick() -> Self {
        Self {
            prompts: vec![128],
            batches: vec![2, 4, 16],
            batch_prompt: 16,
            tokens: 12,
            cache_tokens: 3,
            cache_layers: Some(2),
            ..Self::full()
        }
    }

    pub(super) fn has(&self, section: Section) -> bool {
        self.sections.contains(&section)
    }

    /// # Errors
    /// [`Error::Input`] naming what cannot be measured.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Input(format!("a plan of {what}: there is nothing to measure")));
        match self {
            Plan { sections, .. } if sections.is_empty() => wrong("no sections"),
            Plan { prompts, .. } if prompts.is_empty() || prompts.contains(&0) => wrong("no prompts, or empty ones"),
            Plan { runs: 0, .. } => wrong("no runs"),
            Plan { tokens: 0 | 1, .. } | Plan { cache_tokens: 0 | 1, .. } => wrong("fewer than two tokens"),
            Plan { batch_prompt: 0, .. } | Plan { cache_prompt: 0, .. } => wrong("empty prompts"),
            Plan { batches, .. } if batches.iter().any(|&b| b < 2) => wrong("batches of fewer than two"),
            _ => Ok(()),
        }
    }
}
