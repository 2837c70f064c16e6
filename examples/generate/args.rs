//! The command line of `generate`, and what its words mean to the library.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use sterna::backend::CachePrecision;
use sterna::generate::{GenerateOptions, Sampling, SessionOptions};
use sterna::model::{Model, SyntheticShape};

use crate::device::DeviceArgs;
use crate::model::ModelArgs;

/// The seed of synthetic weights and prompts: any will do, but timings should be of the same numbers.
const SYNTHETIC_SEED: u64 = 1;

/// Continues a prompt with a ternary (1.58-bit) language model and streams the text to stdout.
///
/// By default it samples (temperature 0.7, top-k 40, repetition penalty 1.1 over 64 tokens) with a new seed each time;
/// the seed stands in the summary on stderr, and --seed repeats it. Ctrl-C stops after the current token.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,

    /// Instead of a file: seeded random weights of a published shape (2b: BitNet b1.58 2B-4T, 0.7b: 1bitLLM large, bonsai: Ternary Bonsai 1.7B), to
    /// measure the speed of this machine. The ids made mean nothing.
    #[arg(long, value_name = "SHAPE", conflicts_with_all = ["model", "prompt", "prompt_file", "stop"])]
    pub synthetic: Option<Shape>,

    /// The text to continue.
    #[arg(long, value_name = "TEXT", default_value = "Once upon a time")]
    pub prompt: String,

    /// Reads the prompt from a file, or from stdin with "-".
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,

    /// The length of the random prompt of --synthetic.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "synthetic")]
    pub prompt_tokens: usize,

    /// The most tokens to make.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 256)]
    pub max_tokens: usize,

    /// Takes the most likely token each time; the sampling options are ignored.
    #[arg(long)]
    pub greedy: bool,

    /// Divides the logits before a token is drawn: below 1 safer, above 1 wilder, 0 takes the most likely one.
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value_t = Sampling::default().temperature)]
    pub temperature: f32,

    /// Draws from the K most likely tokens; 0 means all.
    #[arg(long, value_name = "K", default_value_t = Sampling::default().top_k)]
    pub top_k: usize,

    /// Draws from the fewest tokens whose probabilities reach P together.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().top_p)]
    pub top_p: f32,

    /// Draws from tokens at least P times as likely as the most likely one.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().min_p)]
    pub min_p: f32,

    /// Makes recent tokens less likely; 1 does nothing.
    #[arg(long, value_name = "R", allow_negative_numbers = true, default_value_t = Sampling::default().repetition_penalty)]
    pub repetition_penalty: f32,

    /// How many of the latest tokens count as recent.
    #[arg(long, value_name = "N", default_value_t = Sampling::default().repetition_window)]
    pub repetition_window: usize,

    /// Makes every token that was made less likely, once; −2 to 2, as in OpenAI's API.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().presence_penalty)]
    pub presence_penalty: f32,

    /// Makes every token that was made less likely, once for each time; −2 to 2, as in OpenAI's API.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().frequency_penalty)]
    pub frequency_penalty: f32,

    /// Adds B to the logit of a token; -inf rules it out. May be given several times.
    #[arg(long, value_name = "ID=B", value_parser = bias, allow_hyphen_values = true)]
    pub logit_bias: Vec<(u32, f32)>,

    /// Starts the random stream: the same seed gives the same text. The default is a new one each time.
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,

    /// Ends the text before this string. May be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,

    /// Goes on past the model's end-of-text tokens.
    #[arg(long)]
    pub ignore_end: bool,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Times every shader of the GPU by its own clock, and prints a table. Tokens come slower meanwhile.
    #[arg(long)]
    pub profile: bool,

    /// Positions to make room for, prompt and answer together. The default is what the model was trained for, at most 4096.
    #[arg(long, value_name = "N")]
    pub context: Option<usize>,

    /// The number format of cached keys and values.
    #[arg(long, default_value = "f16")]
    pub cache: Cache,

    /// Writes ids, text and timings to a file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Shape {
    #[value(name = "2b")]
    Bitnet2B,
    #[value(name = "0.7b")]
    Bitnet700M,
    #[value(name = "bonsai")]
    Bonsai1_7B,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Cache {
    F16,
    F32,
}

impl Args {
    /// Opens or makes the model.
    pub fn open(&self) -> anyhow::Result<Model> {
        let shape = match self.synthetic {
            None => return self.model.open(),
            Some(Shape::Bitnet2B) => SyntheticShape::Bitnet2B,
            Some(Shape::Bitnet700M) => SyntheticShape::Bitnet700M,
            Some(Shape::Bonsai1_7B) => SyntheticShape::Bonsai1_7B,
        };
        let model = Model::synthetic(shape, SYNTHETIC_SEED);
        Ok(match self.model.numerics() {
            Some(numerics) => model.with_numerics(numerics),
            None => model,
        })
    }

    /// The prompt's text; none for synthetic models.
    pub fn prompt_text(&self) -> anyhow::Result<Option<String>> {
        let mut text = self.prompt.clone();
        match &self.prompt_file {
            _ if self.synthetic.is_some() => return Ok(None),
            None => {}
            Some(path) if path.as_os_str() == "-" => {
                text.clear();
                std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
            }
            Some(path) => {
                text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the prompt from {}", path.display()))?;
            }
        }
        Ok(Some(text))
    }

    /// Token ids of the prompt: the text's, or ids spread over the vocabulary of a synthetic model.
    pub fn prompt_ids(&self, model: &Model, text: Option<&str>) -> anyhow::Result<Vec<u32>> {
        match text {
            Some(text) => Ok(model.tokenizer()?.encode_prompt(text)?),
            None => {
                let vocabulary = model.config().vocabulary as u64;
                let spread = |place: u64| (place * 48_271 + SYNTHETIC_SEED) % vocabulary;
                Ok((0..self.prompt_tokens as u64).map(|place| spread(place) as u32).collect())
            }
        }
    }

    /// The sizes of the session.
    pub fn session_options(&self) -> SessionOptions {
        let cache = match self.cache {
            Cache::F16 => CachePrecision::F16,
            Cache::F32 => CachePrecision::F32,
        };
        SessionOptions { context: self.context, cache, ..SessionOptions::default() }
    }

    /// How to continue the prompt.
    pub fn generate_options(&self, seed: u64) -> GenerateOptions {
        let sampling = if self.greedy {
            Sampling::greedy()
        } else {
            Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                repetition_window: self.repetition_window,
                presence_penalty: self.presence_penalty,
                frequency_penalty: self.frequency_penalty,
                logit_bias: self.logit_bias.clone(),
                seed,
            }
        };
        let (stop, ignore_end) = (self.stop.clone(), self.ignore_end);
        let max_tokens = self.max_tokens;
        GenerateOptions { sampling, max_tokens, stop, ignore_end, ..GenerateOptions::default() }
    }
}

/// A token and what is added to its logit.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| Some((id.trim().parse().ok()?, bias.trim().parse().ok()?)));
    pair.ok_or_else(|| "a bias is a token id and a number, such as 17=-1.5".into())
}
