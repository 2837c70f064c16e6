//! What can be asked of a session, of a step and of a generation, with defaults that suit small and large models.

use std::time::Duration;

use crate::backend::CachePrecision;
use crate::error::{Error, Result};
use crate::generate::Sampling;
use crate::interrupt::Interrupt;
use crate::model::Config;
use crate::transformer::Capacity;

/// The sizes of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Positions of each sequence. `None`: what the model was trained for, but at most 4096.
    pub context: Option<usize>,
    /// Sequences held at once: each has a slot of the caches, with room for the whole context. Default 1.
    pub sequences: usize,
    /// Sequences that may wait for a slot; `usize::MAX` for any number. `None`: four for each slot, at least 32.
    pub queue: Option<usize>,
    /// The number format of cached keys and values. Default f16.
    pub cache: CachePrecision,
    /// The most rows (tokens) computed in one step; at least one for each sequence. `None`: what keeps the device busy, 128 on
    /// a CPU and 512 on a GPU, or fewer where activations would take more than the weights.
    pub chunk: Option<usize>,
    /// Set by another thread, it ends the step that the session computes. Default: one that nobody else has.
    pub interrupt: Interrupt,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            context: None,
            sequences: 1,
            queue: None,
            cache: CachePrecision::default(),
            chunk: None,
            interrupt: Interrupt::new(),
        }
    }
}

/// The context of a session that asks for none: enough to chat, and 315 MB of cache for a 2B model.
const DEFAULT_CONTEXT: usize = 4096;
/// Rows that one run of the head computes: when every position's logits are wanted, 8 MB of them for a vocabulary of 128256.
const SELECTED_ROWS: usize = 16;
/// Bytes of a step's activations that a session takes by itself even where the weights take less: with more, its steps are
/// shorter. No model that was trained comes near: those of a 2B model are 17 MB in steps of 128 rows.
const ACTIVATION_BYTES: u64 = 32 << 20;
/// Sequences that may wait, for each slot, and at least.
const QUEUE: (usize, usize) = (4, 32);

impl SessionOptions {
    /// Checks the sizes against a model. `device_chunk` is the chunk that suits the device, and `weight_bytes` what the model's
    /// weights take.
    pub(crate) fn capacity(&self, config: &Config, device_chunk: usize, weight_bytes: u64) -> Result<Capacity> {
        let affordable = ACTIVATION_BYTES.max(weight_bytes) / Capacity::row_bytes(config);
        let chunk = self.chunk.unwrap_or(device_chunk.min(usize::try_from(affordable).unwrap_or(usize::MAX)).max(1));
        let positions = self.context.unwrap_or(config.context.min(DEFAULT_CONTEXT));
        for (what, value, largest) in [
            ("context", positions, config.context),
            ("number of sequences", self.sequences, 1 << 16),
            ("chunk", chunk, 1 << 14),
        ] {
            if value == 0 || value > largest {
                return Err(Error::Input(format!("a {what} of {value}; this model and version take 1 to {largest}")));
            }
        }
        let rows = chunk.max(self.sequences);
        let selected = self.sequences.max(SELECTED_ROWS).min(rows);
        Ok(Capacity { rows, selected, sequences: self.sequences, positions, cache: self.cache })
    }

    /// How many sequences may wait.
    pub(crate) fn queue(&self) -> usize {
        self.queue.unwrap_or_else(|| self.sequences.saturating_mul(QUEUE.0).max(QUEUE.1))
    }
}

/// How much one step may compute. Every sequence that makes tokens has one row in every step, or some where tokens are
/// [drafted](PromptLookup); the rest of the rows goes to prompts, so that a long prompt is read in pieces between which the others go on (Sarathi, arXiv 2308.16369).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepBudget {
    /// The most rows; at least one for each sequence is granted. `None`: the session's [chunk](SessionOptions::chunk).
    pub rows: Option<usize>,
    /// For how long sequences that make tokens may be kept waiting by prompts: what is read of those in one step is cut to that
    /// time, by the speed of the steps before. `None`: as long as the rows take. Default 200 ms.
    pub longest_stall: Option<Duration>,
    /// Read all prompts that have a slot before any sequence goes on: for measuring, where all are to make their tokens side by
    /// side. Default false.
    pub prompts_first: bool,
}

impl Default for StepBudget {
    fn default() -> Self {
        Self { longest_stall: Some(Duration::from_millis(200)), ..Self::whole_chunks() }
    }
}

impl StepBudget {
    /// As many rows as a step has room for, however long they take: for programs that nobody waits for.
    pub fn whole_chunks() -> Self {
        Self { rows: None, longest_stall: None, prompts_first: false }
    }

    /// The same, with all prompts read first: for measuring.
    pub fn side_by_side() -> Self {
        Self { prompts_first: true, ..Self::whole_chunks() }
    }
}

/// A prompt, with options of its own.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, the beginning-of-sequence token included if one is wanted.
    pub ids: Vec<u32>,
    /// How to continue it.
    pub options: GenerateOptions,
}

/// How to continue a prompt.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// The most tokens to make. Default 256.
    pub max_tokens: usize,
    /// Texts that end the generation. They are not part of the output.
    pub stop: Vec<String>,
    /// Token ids that end the generation besides the model's own end-of-generation tokens.
    pub stop_ids: Vec<u32>,
    /// Go on past the model's end-of-generation tokens: for measuring. Default false.
    pub ignore_end: bool,
    /// Tell the log-probability of each token, and of this many of the most likely ones beside it, at most
    /// [`MOST_CANDIDATES`](crate::backend::MOST_CANDIDATES). Default none.
    pub logprobs: Option<usize>,
    /// With whom the sequence shares what is cached. Default: all.
    pub reuse: Reuse,
    /// Whether tokens are drafted from what the sequence holds. Default: where that is faster.
    pub lookup: PromptLookup,
}

/// Whether tokens are drafted: where the last three stood before, what followed there is computed beside the last one, and taken as
/// far as it is what is drawn. The tokens are those that come without drafts; a step may make several. Models with recurrent layers
/// (`qwen35`) draft nothing, whatever this is: what a rejected draft leaves in their state cannot be taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptLookup {
    /// A step makes one token.
    Never,
    /// As much as is likely to be taken often enough, by what became of the drafts before, for what more rows of a step cost on the CPU
    /// that was measured; a step of several sequences becomes half as long again for it at most, by the same figures. Not on GPUs, of which none was measured yet.
    #[default]
    WhereFaster,
    /// Whatever is likely, as far as a step has room: for tests.
    Always,
}

/// With whom a sequence shares what is cached: what it finds of its prompt, and who finds what it leaves. That makes prompts
/// faster which begin alike, and so tells those who share how others' prompts begin. With recurrent layers (`qwen35`) a prompt finds
/// something only where it begins with all that was computed of another, or with what the snapshot of its prompt covers, as the next turn of a
/// conversation does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// With nobody: it takes as long as if it were the first, and none that comes after it is faster for it.
    Never,
    /// With all others that do not keep apart.
    #[default]
    Shared,
    /// With those of the same number alone, such as one that stands for a user.
    Within(u64),
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            max_tokens: 256,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignore_end: false,
            logprobs: None,
            reuse: Reuse::Shared,
            lookup: PromptLookup::default(),
        }
    }
}

impl GenerateOptions {
    /// The most likely token each time.
    pub fn greedy() -> Self {
        Self { sampling: Sampling::greedy(), ..Self::default() }
    }
}
