//! What can be asked of a session and of a generation, with defaults that suit small and large models.

use crate::backend::CachePrecision;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::transformer::Capacity;

/// The sizes of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Positions of each sequence. `None`: what the model was trained for, but at most 4096.
    pub context: Option<usize>,
    /// Sequences held at once. Default 1.
    pub sequences: usize,
    /// The number format of cached keys and values. Default f16.
    pub cache: CachePrecision,
    /// The most rows (tokens) computed in one step. `None`: what keeps the device busy, 128 on a CPU and 512 on a GPU.
    pub chunk: Option<usize>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { context: None, sequences: 1, cache: CachePrecision::default(), chunk: None }
    }
}

/// The context of a session that asks for none: enough to chat, and 315 MB of cache for a 2B model.
const DEFAULT_CONTEXT: usize = 4096;
/// Rows whose logits are kept at once when every position's are wanted: 8 MB for a vocabulary of 128256.
const SELECTED_ROWS: usize = 16;

impl SessionOptions {
    /// Checks the sizes against a model. `device_chunk` is the chunk that suits the device.
    pub(crate) fn capacity(&self, config: &Config, device_chunk: usize) -> Result<Capacity> {
        let chunk = self.chunk.unwrap_or(device_chunk);
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
        let selected = self.sequences.max(SELECTED_ROWS).min(chunk);
        Ok(Capacity { rows: chunk, selected, sequences: self.sequences, positions, cache: self.cache })
    }
}

/// A prompt of a batch, with options of its own.
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
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: Sampling::default(),
            max_tokens: 256,
            stop: Vec::new(),
            stop_ids: Vec::new(),
            ignore_end: false,
        }
    }
}

impl GenerateOptions {
    /// The most likely token each time.
    pub fn greedy() -> Self {
        Self { sampling: Sampling::greedy(), ..Self::default() }
    }
}

/// How the next token is drawn from the logits. The steps run in this order: repetition penalty, top-k, top-p, min-p,
/// temperature, draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits before the draw; 0 takes the most likely token. Default 0.7.
    pub temperature: f32,
    /// Keeps the `k` most likely tokens; 0 keeps all. Default 40.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens whose probabilities reach this sum; 1 keeps all. Default 1.
    /// (Nucleus sampling, arXiv 1904.09751.)
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all. Default 0. (arXiv 2407.01082.)
    pub min_p: f32,
    /// Makes tokens of the last `repetition_window` less likely: positive logits are divided by it, negative ones
    /// multiplied. 1 does nothing. Default 1.1. (CTRL, arXiv 1909.05858.)
    pub repetition_penalty: f32,
    /// How many of the latest tokens, prompt included, the penalty looks at. Default 64.
    pub repetition_window: usize,
    /// Starts the random stream: the same seed gives the same tokens on every run and with any number of threads.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: 40,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.1,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl Sampling {
    /// The most likely token each time, without a penalty.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, repetition_penalty: 1.0, ..Self::default() }
    }

    /// Whether the most likely token is taken as it is, so that no logits need to leave the device.
    pub(crate) fn takes_best(&self) -> bool {
        self.temperature == 0.0 && (self.repetition_penalty == 1.0 || self.repetition_window == 0)
    }

    /// # Errors
    /// [`Error::Input`] naming the first value that is out of range.
    pub(crate) fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top-p", self.top_p, f32::MIN_POSITIVE, 1.0),
            ("min-p", self.min_p, 0.0, 1.0),
            ("repetition penalty", self.repetition_penalty, 0.01, 100.0),
        ];
        for (what, value, least, most) in checks {
            if !(least..=most).contains(&value) {
                return Err(Error::Input(format!("a {what} of {value}; it must lie between {least} and {most}")));
            }
        }
        Ok(())
    }
}
