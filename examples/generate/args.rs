//! The command line of `generate`, and what its words mean to the library.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use sterna::backend::CachePrecision;
use sterna::generate::{GenerateOptions, PromptLookup, SessionOptions};
use sterna::model::{Model, SyntheticShape};

use crate::device::DeviceArgs;
use crate::model::ModelArgs;
use crate::numbers::one_or_more;
use crate::sampling::SamplingArgs;
use crate::text;

/// The seed of synthetic weights and prompts: any will do, but timings should be of the same numbers.
const SYNTHETIC_SEED: u64 = 1;

/// Continues a prompt with a ternary (1.58-bit) language model and streams the text to stdout.
///
/// By default it samples as the model's file asks, or else with temperature 0.7, top-k 40 and a repetition penalty of 1.1 over 64
/// tokens, with a new seed each time; the seed stands in the summary on stderr, and --seed repeats it. Ctrl-C stops after the
/// current token.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,

    /// Instead of a file: seeded random weights of a published shape (2b: BitNet b1.58 2B-4T, 0.7b: 1bitLLM large, bonsai: Ternary
    /// Bonsai 1.7B, bonsai-27b: Ternary-Bonsai-27B, bonsai-2-27b: the same in a rotated basis, bonsai-27b-cut: a small cut of it), to
    /// measure the speed of this machine. The ids made mean nothing.
    #[arg(long, value_name = "SHAPE", conflicts_with_all = ["model", "prompt", "prompt_file", "stop"])]
    pub synthetic: Option<Shape>,

    /// The text to continue.
    #[arg(long, short, value_name = "TEXT", default_value = "Once upon a time", allow_hyphen_values = true)]
    pub prompt: String,

    /// Reads the prompt from a file, or from stdin with "-".
    #[arg(long, short = 'f', visible_alias = "file", value_name = "FILE", conflicts_with = "prompt")]
    pub prompt_file: Option<PathBuf>,

    /// Takes \n, \t, \r, \", \', \\ and \xHH in --prompt and --stop for what they stand for.
    #[arg(long, short)]
    pub escape: bool,

    /// Prints what is made, without the prompt.
    #[arg(long, visible_alias = "no-display-prompt")]
    pub no_echo: bool,

    /// The length of the random prompt of --synthetic.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "synthetic", allow_negative_numbers = true, value_parser = one_or_more)]
    pub prompt_tokens: usize,

    /// The most tokens to make; -1 means as many as the context has room for.
    #[arg(
        long, short = 'n', visible_aliases = ["n-predict", "predict"], value_name = "N", default_value = "256",
        allow_negative_numbers = true, value_parser = or_all
    )]
    pub max_tokens: usize,

    #[command(flatten)]
    pub sampling: SamplingArgs,

    /// Ends the text before this string. May be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,

    /// Goes on past the model's end-of-text tokens.
    #[arg(long)]
    pub ignore_end: bool,

    #[command(flatten)]
    pub device: DeviceArgs,

    /// Times every shader of the GPU by its own clock, and prints a table. Tokens come slower meanwhile.
    #[arg(long)]
    pub profile: bool,

    /// Positions to make room for, prompt and answer together; 0 means all that the model was trained for. The default is that,
    /// but at most 4096.
    #[arg(long, short, visible_alias = "ctx-size", value_name = "N", allow_negative_numbers = true, value_parser = or_none)]
    pub context: Option<usize>,

    /// The number format of cached keys and values.
    #[arg(long, default_value = "f16")]
    pub cache: Cache,

    /// Writes ids, text and timings to a file; or to stdout with "-", and then the text for people goes to stderr.
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
    #[value(name = "bonsai-27b")]
    Bonsai27B,
    #[value(name = "bonsai-2-27b")]
    Bonsai2_27B,
    #[value(name = "bonsai-27b-cut")]
    Bonsai27BCut,
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
            Some(Shape::Bonsai27B) => SyntheticShape::Bonsai27B,
            Some(Shape::Bonsai2_27B) => SyntheticShape::Bonsai2_27B,
            Some(Shape::Bonsai27BCut) => SyntheticShape::Bonsai27BCut,
        };
        let model = Model::synthetic(shape, SYNTHETIC_SEED);
        Ok(match self.model.numerics() {
            Some(numerics) => model.with_numerics(numerics),
            None => model,
        })
    }

    /// The prompt's text; none for synthetic models.
    pub fn prompt_text(&self) -> anyhow::Result<Option<String>> {
        match &self.prompt_file {
            _ if self.synthetic.is_some() => Ok(None),
            Some(path) => text::read(path).context("the prompt").map(Some),
            None => Ok(Some(self.unescaped(&self.prompt))),
        }
    }

    /// What a text of the command line stands for.
    fn unescaped(&self, text: &str) -> String {
        if self.escape { unescape(text) } else { text.to_owned() }
    }

    /// Token ids of the prompt: the text's, or ids spread over the vocabulary of a synthetic model.
    pub fn prompt_ids(&self, model: &Model, text: Option<&str>) -> anyhow::Result<Vec<u32>> {
        match text {
            Some(text) => {
                let ids = model.tokenizer()?.encode_prompt(text)?;
                self.check_length(ids.len(), model.config().context)?;
                Ok(ids)
            }
            None => {
                let vocabulary = model.config().vocabulary as u64;
                let spread = |place: u64| (place * 48_271 + SYNTHETIC_SEED) % vocabulary;
                Ok((0..self.prompt_tokens as u64).map(|place| spread(place) as u32).collect())
            }
        }
    }

    /// Whether a prompt fits, said so that it can be mended: before the model is loaded.
    fn check_length(&self, tokens: usize, most: usize) -> anyhow::Result<()> {
        let positions = self.positions(most);
        match () {
            () if tokens <= positions => Ok(()),
            () if tokens > most => {
                let set = self.context.filter(|&set| (1..most).contains(&set));
                let set = set.map_or(String::new(), |set| format!(", --context {set} even less"));
                bail!("the prompt is {tokens} tokens, and the model takes at most {most}{set}: shorten the prompt")
            }
            () if self.context.is_some() => bail!(
                "the prompt is {tokens} tokens, and --context {positions} is less: shorten the prompt, or raise --context (the \
                 model takes up to {most})"
            ),
            () => bail!(
                "the prompt is {tokens} tokens, and there is room for {positions} unless more is asked for: --context {} would do \
                 (the model takes up to {most})",
                tokens.saturating_add(256).min(most)
            ),
        }
    }

    /// Positions of the session, of a model that takes at most so many.
    fn positions(&self, most: usize) -> usize {
        match self.context {
            Some(0) => most,
            Some(positions) => positions,
            None => most.min(4096),
        }
    }

    /// The sizes of the session.
    pub fn session_options(&self, model: &Model) -> SessionOptions {
        let cache = match self.cache {
            Cache::F16 => CachePrecision::F16,
            Cache::F32 => CachePrecision::F32,
        };
        let context = Some(self.positions(model.config().context));
        SessionOptions { context, cache, ..SessionOptions::default() }
    }

    /// How to continue the prompt.
    pub fn generate_options(&self, model: &Model, seed: u64) -> GenerateOptions {
        let sampling = self.sampling.sampling(model, seed);
        let stop = self.stop.iter().map(|text| self.unescaped(text)).collect();
        let ignore_end = self.ignore_end;
        let max_tokens = self.max_tokens;
        // Random weights repeat themselves, which is no measure of a machine.
        let lookup = if self.synthetic.is_some() { PromptLookup::Never } else { self.sampling.lookup() };
        GenerateOptions { sampling, max_tokens, stop, ignore_end, lookup, ..GenerateOptions::default() }
    }
}

/// A count of tokens, or -1 for as many as fit.
fn or_all(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(usize::MAX),
        Ok(number) if number >= 0 => Ok(number as usize),
        _ => Err("it must be a whole number of 0 or more, or -1 for as many as fit".into()),
    }
}

/// Positions, or 0 for all.
fn or_none(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "it must be a whole number of 1 or more, or 0 for all that the model was trained for".into())
}

/// A text with what its escapes stand for. What is no escape stays as it is.
fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.strip_prefix('x').and_then(|digits| digits.get(..2));
        let (byte, length) = match (after.bytes().next(), hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (Some(b'x'), Some(byte)) => (byte, 3),
            (Some(b'n'), _) => (b'\n', 1),
            (Some(b't'), _) => (b'\t', 1),
            (Some(b'r'), _) => (b'\r', 1),
            (Some(byte @ (b'\\' | b'"' | b'\'')), _) => (byte, 1),
            _ => (b'\\', 0),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}
