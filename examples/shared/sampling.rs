//! How tokens are drawn: by the command line, else by what the model brings, else by the library's defaults.

use clap::Args;
use sterna::generate::{PromptLookup, Sampling};
use sterna::model::Model;

/// The options of sampling; each that is not given is the model's, or the library's.
#[derive(Args)]
pub struct SamplingArgs {
    /// Takes the most likely token each time; the sampling options are ignored.
    #[arg(long)]
    pub greedy: bool,

    /// Divides the logits before a token is drawn: below 1 safer, above 1 wilder, 0 takes the most likely one [default: the
    /// model's, or 0.7].
    #[arg(long, visible_alias = "temp", value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,

    /// Draws from the K most likely tokens; 0 means all [default: the model's, or 40].
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = or_all::<0>)]
    top_k: Option<usize>,

    /// Draws from the fewest tokens whose probabilities reach P together; 1 means all [default: the model's, or 1].
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,

    /// Draws from tokens at least P times as likely as the most likely one [default: the model's, or 0].
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,

    /// Makes recent tokens less likely; 1 does nothing [default: the model's, or 1.1; 1 if the model says how to sample
    /// without it].
    #[arg(long, visible_alias = "repeat-penalty", value_name = "R", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,

    /// How many of the latest tokens count as recent; -1 means all [default: the model's, or 64].
    #[arg(long, visible_alias = "repeat-last-n", value_name = "N", allow_negative_numbers = true, value_parser = or_all::<{ usize::MAX }>)]
    repetition_window: Option<usize>,

    /// Makes every token that was made less likely, once; −2 to 2, as in OpenAI's API.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().presence_penalty)]
    presence_penalty: f32,

    /// Makes every token that was made less likely, once for each time; −2 to 2, as in OpenAI's API.
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value_t = Sampling::default().frequency_penalty)]
    frequency_penalty: f32,

    /// Adds B to the logit of a token; -inf rules it out. May be given several times.
    #[arg(long, value_name = "ID=B", value_parser = bias, allow_hyphen_values = true)]
    logit_bias: Vec<(u32, f32)>,

    /// Makes one token a step. Else what followed the last three tokens before is drafted, and taken as far as it is what is drawn:
    /// the tokens are the same ones, sooner where a text is written anew with small changes.
    #[arg(long)]
    no_lookup: bool,

    /// Starts the random stream: the same seed gives the same text. The default, and -1, is a new one each time.
    #[arg(long, short = 's', value_name = "SEED", allow_negative_numbers = true, value_parser = seed)]
    seed: Option<Seed>,
}

/// What --seed says.
#[derive(Clone, Copy)]
enum Seed {
    New,
    Given(u64),
}

impl SamplingArgs {
    /// The seed that was given.
    pub fn seed(&self) -> Option<u64> {
        match self.seed? {
            Seed::New => None,
            Seed::Given(seed) => Some(seed),
        }
    }

    /// Whether tokens are drafted.
    pub fn lookup(&self) -> PromptLookup {
        if self.no_lookup { PromptLookup::Never } else { PromptLookup::WhereFaster }
    }

    /// How to draw from what this model says.
    pub fn sampling(&self, model: &Model, seed: u64) -> Sampling {
        if self.greedy {
            return Sampling::greedy();
        }
        let default = model.sampling_defaults().sampling();
        Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            repetition_window: self.repetition_window.unwrap_or(default.repetition_window),
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            seed,
        }
    }
}

/// A count, or a negative number for all, which `ALL` stands for.
fn or_all<const ALL: usize>(text: &str) -> Result<usize, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(ALL),
        Ok(number) if number >= 0 => Ok(number as usize),
        _ => Err("it must be a whole number of 0 or more, or -1 for all".into()),
    }
}

fn seed(text: &str) -> Result<Seed, String> {
    match (text, text.parse()) {
        ("-1", _) => Ok(Seed::New),
        (_, Ok(seed)) => Ok(Seed::Given(seed)),
        _ => Err("a seed is a whole number of 0 or more; -1 is a new one each time".into()),
    }
}

/// A token and what is added to its logit.
fn bias(text: &str) -> Result<(u32, f32), String> {
    let pair = text.split_once('=').and_then(|(id, bias)| Some((id.trim().parse().ok()?, bias.trim().parse().ok()?)));
    pair.ok_or_else(|| "a bias is a token id and a number, such as 17=-1.5".into())
}
