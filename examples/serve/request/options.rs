//! How to continue a prompt, as a request says it: OpenAI's fields, and those that other servers added.

use std::collections::BTreeMap;

use sterna::generate::{GenerateOptions, Reuse, Sampling};
use sterna::model::SamplingDefaults;

use super::fields::{Fields, ids, short};
use super::refused::refuse_common;
use crate::app::Served;
use crate::http::error::ApiError;
use crate::http::keys::Caller;
use crate::http::random;

/// Texts that end an answer: how many, and how long in bytes.
const STOPS: usize = 16;
const LONGEST_STOP: usize = 256;
/// Tokens whose logits are changed.
const BIASES: usize = 1024;
/// Answers to one prompt.
const ANSWERS: usize = 16;

/// What both kinds of requests for text say.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its `max_tokens` is set for each prompt, and its seed for each answer.
    pub generate: GenerateOptions,
    /// The most tokens, if the request says so.
    pub max_tokens: Option<usize>,
    pub min_tokens: usize,
    /// Whether tokens that are no text are left out of it.
    pub skips_special: bool,
    /// Answers to each prompt.
    pub n: usize,
    pub seed: u64,
    pub stream: bool,
    pub includes_usage: bool,
    pub continuous_usage: bool,
}

impl Options {
    /// `most` is what -1 stands for.
    pub fn read(fields: &Fields<'_>, served: &Served, caller: Caller, most: usize) -> Result<Self, ApiError> {
        refuse_common(fields)?;
        let seed = fields.integer("seed", i64::MIN..=i64::MAX)?;
        // -1 is a new one each time, as llama.cpp has it.
        let seed = seed.filter(|&seed| seed != -1).map_or_else(random::seed, |seed| seed as u64);
        let stop = stops(fields)?;
        let skips_special = fields.boolean("skip_special_tokens")?.unwrap_or(true);
        if !skips_special && !stop.is_empty() {
            let message = "skip_special_tokens: false does not go with stop: a text cannot end within what is no text";
            return Err(ApiError::unsupported("skip_special_tokens", message));
        }
        let stop_ids = ids(fields.parsed("stop_token_ids", "a list of token ids")?.unwrap_or_default());
        served.check_ids(&stop_ids, "stop_token_ids")?;
        let generate = GenerateOptions {
            sampling: sampling(fields, served.model.sampling_defaults(), served.model.config().vocabulary)?,
            stop,
            stop_ids,
            ignore_end: fields.boolean("ignore_eos")?.unwrap_or(false),
            reuse: reuse(fields, caller)?,
            lookup: served.lookup,
            ..GenerateOptions::default()
        };
        let stream_options: Option<BTreeMap<String, serde_json::Value>> =
            fields.parsed("stream_options", "an object")?;
        let asks = |name: &str| stream_options.as_ref().is_some_and(|options| options.get(name) == Some(&true.into()));
        let continuous_usage = asks("continuous_usage_stats");
        Ok(Self {
            generate,
            max_tokens: max_tokens(fields, most)?,
            min_tokens: fields.count("min_tokens", 0..=usize::MAX)?.unwrap_or(0),
            skips_special,
            n: fields.count("n", 1..=ANSWERS.min(served.slots))?.unwrap_or(1),
            seed,
            stream: fields.boolean("stream")?.unwrap_or(false),
            includes_usage: asks("include_usage") || continuous_usage,
            continuous_usage,
        })
    }
}

impl Options {
    /// Whether they go with an answer that has a form: it ends where it is whole, and nowhere else.
    pub fn check_form(&self) -> Result<(), ApiError> {
        let fields = [("ignore_eos", self.generate.ignore_end), ("min_tokens", self.min_tokens > 0)];
        match fields.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => {
                let message = format!("{name} does not go with an answer of a form: it ends where it is whole");
                Err(ApiError::unsupported(name, message))
            }
            None => Ok(()),
        }
    }
}

/// With whom it shares what is cached of prompts.
fn reuse(fields: &Fields<'_>, caller: Caller) -> Result<Reuse, ApiError> {
    let salt = fields.text("cache_salt")?;
    Ok(match fields.boolean("cache_prompt")? {
        Some(false) => Reuse::Never,
        None | Some(true) => caller.reuse(salt.as_deref()),
    })
}

/// The smallest number that any of its names has.
fn max_tokens(fields: &Fields<'_>, most: usize) -> Result<Option<usize>, ApiError> {
    let mut least = None;
    for name in ["max_completion_tokens", "max_tokens", "n_predict"] {
        let number = fields.integer(name, -1..=i64::MAX)?;
        if let Some(number) = number.map(|number| usize::try_from(number).unwrap_or(most)) {
            least = Some(least.map_or(number, |least: usize| least.min(number)));
        }
    }
    Ok(least)
}

fn sampling(fields: &Fields<'_>, model: &SamplingDefaults, vocabulary: usize) -> Result<Sampling, ApiError> {
    // What is not said is as the model asks, or else as OpenAI has it.
    let float = |name: &str, bounds: (f64, f64), default: f32| -> Result<f32, ApiError> {
        Ok(fields.number(name, bounds.0..=bounds.1)?.map_or(default, |number| number as f32))
    };
    let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?.map(|k| usize::try_from(k).unwrap_or(0));
    let window = fields.integer("repeat_last_n", -1..=i64::from(u32::MAX))?;
    let window = window.map(|window| usize::try_from(window).unwrap_or(usize::MAX));
    let penalty = match fields.has("repetition_penalty") {
        true => "repetition_penalty",
        false => "repeat_penalty",
    };
    let least_positive = f64::from(f32::MIN_POSITIVE);
    Ok(Sampling {
        temperature: float("temperature", (0.0, 100.0), model.temperature.unwrap_or(1.0))?,
        top_k: top_k.or(model.top_k).unwrap_or(0),
        top_p: top_p(fields)?.unwrap_or(model.top_p.unwrap_or(1.0)).max(least_positive as f32),
        min_p: float("min_p", (0.0, 1.0), model.min_p.unwrap_or(0.0))?,
        repetition_penalty: float(penalty, (0.01, 100.0), model.repetition_penalty.unwrap_or(1.0))?,
        repetition_window: window.or(model.repetition_window).unwrap_or(Sampling::default().repetition_window),
        presence_penalty: float("presence_penalty", (-2.0, 2.0), 0.0)?,
        frequency_penalty: float("frequency_penalty", (-2.0, 2.0), 0.0)?,
        logit_bias: logit_bias(fields, vocabulary)?,
        seed: 0,
    })
}

/// Above 0: nothing is drawn from no tokens.
fn top_p(fields: &Fields<'_>) -> Result<Option<f32>, ApiError> {
    match fields.number("top_p", 0.0..=1.0)? {
        Some(0.0) => Err(ApiError::of("top_p", "top_p is 0; it must be above 0 and at most 1")),
        number => Ok(number.map(|number| number as f32)),
    }
}

fn logit_bias(fields: &Fields<'_>, vocabulary: usize) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let Some(map) = fields.parsed::<BTreeMap<String, f32>>(NAME, "an object of token ids and numbers")? else {
        return Ok(Vec::new());
    };
    if map.len() > BIASES {
        return Err(ApiError::of(NAME, format!("logit_bias has {} entries; there may be {BIASES}", map.len())));
    }
    let entry = |(id, bias): (String, f32)| {
        let token = id.parse().ok().filter(|&token: &u32| (token as usize) < vocabulary);
        let Some(token) = token else {
            let message = format!("logit_bias has \"{}\", which is no token id of this model", short(&id));
            return Err(ApiError::of(NAME, message));
        };
        match bias {
            // By this much, OpenAI's interface rules a token out.
            -100.0 => Ok((token, f32::NEG_INFINITY)),
            bias if (-100.0..=100.0).contains(&bias) => Ok((token, bias)),
            _ => Err(ApiError::of(NAME, format!("logit_bias of token {token} is {bias}; it must be -100 to 100"))),
        }
    };
    map.into_iter().map(entry).collect()
}

/// A text, or several.
fn stops(fields: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    const NAME: &str = "stop";
    let stops = match fields.raw(NAME) {
        None => Vec::new(),
        Some(text) if text.starts_with('"') => fields.text(NAME)?.into_iter().collect(),
        Some(_) => fields.parsed::<Vec<String>>(NAME, "a string or a list of strings")?.unwrap_or_default(),
    };
    if stops.len() > STOPS {
        return Err(ApiError::of(NAME, format!("stop has {} texts; there may be {STOPS}", stops.len())));
    }
    if stops.iter().any(|stop| stop.len() > LONGEST_STOP) {
        return Err(ApiError::of(NAME, format!("a text of stop is longer than {LONGEST_STOP} bytes")));
    }
    // An empty text would end every answer before it begins; clients send it for none.
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}
