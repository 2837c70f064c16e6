//! How a model asks to be sampled: keys that begin with `general.sampling` in a GGUF file, `generation_config.json` in a directory.
//! They are advice, and untrusted: what is out of range is passed over with a warning, and the rest holds.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::file::read_short;
use crate::format::gguf::{Metadata, Value, quoted, within};
use crate::generate::Sampling;

/// What all keys begin with.
const PREFIX: &str = "general.sampling.";
/// The file of a directory.
const FILE: &str = "generation_config.json";
/// The longest accepted file, in bytes; published ones have less than one thousand.
const MAX_BYTES: usize = 1 << 20;
/// What keys or fields say of sampling that this version cannot do, with the values that ask for nothing.
const UNKNOWN_UNLESS: [(&str, f64); 2] = [("mirostat", 0.0), ("xtc_probability", 0.0)];

/// How a model asks to be sampled. None where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SamplingDefaults {
    /// [`Sampling::temperature`], 0 to 100.
    pub temperature: Option<f32>,
    /// [`Sampling::top_k`]; 0 means all.
    pub top_k: Option<usize>,
    /// [`Sampling::top_p`], above 0 and at most 1.
    pub top_p: Option<f32>,
    /// [`Sampling::min_p`], 0 to 1.
    pub min_p: Option<f32>,
    /// [`Sampling::repetition_penalty`], 0.01 to 100.
    pub repetition_penalty: Option<f32>,
    /// [`Sampling::repetition_window`].
    pub repetition_window: Option<usize>,
}

impl SamplingDefaults {
    /// The library's defaults where the model says nothing. A model that says something, and nothing of a repetition penalty,
    /// gets none: whoever chose the rest for it did so without one.
    pub fn sampling(&self) -> Sampling {
        let default = Sampling::default();
        let penalty = if *self == Self::default() { default.repetition_penalty } else { 1.0 };
        Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(penalty),
            repetition_window: self.repetition_window.unwrap_or(default.repetition_window),
            ..default
        }
    }

    /// Reads the keys of a GGUF file, or those that [`keys_of_directory`] made.
    pub(super) fn from_keys(metadata: &Metadata) -> (Self, Vec<Decision>) {
        let mut found = Self::default();
        let (mut taken, mut decisions) = (Vec::new(), Vec::new());
        for (key, value) in metadata.iter() {
            let Some(name) = key.strip_prefix(PREFIX) else { continue };
            match found.set(name, value) {
                Ok(Some(words)) => taken.push(words),
                Ok(None) => {}
                Err(why) => {
                    let choice = format!("{} is ignored", quoted(key));
                    decisions.push(Decision::new("sampling", choice, why).warned());
                }
            }
        }
        if !taken.is_empty() {
            let why = "what the model asks for; options of a generation come before it";
            decisions.insert(0, Decision::new("sampling", taken.join(", "), why));
        }
        (found, decisions)
    }

    /// Takes the value of a key; the result says what it means, none if it means nothing.
    fn set(&mut self, name: &str, value: &Value) -> Result<Option<String>, String> {
        let Some(number) = number(value) else {
            return Err(match name {
                "sequence" => "the order of the steps is always the same here".into(),
                _ => format!("it is {value}, and no number"),
            });
        };
        let within = |least: f64, most: f64, bounds: &str| match (least..=most).contains(&number) {
            true => Ok(number as f32),
            false => Err(format!("it is {value}, and must be {bounds}")),
        };
        // -1 stands for all.
        let count = |all: usize| match number {
            -1.0 => Ok(all),
            _ if number >= 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX) => Ok(number as usize),
            _ => Err(format!("it is {value}, and must be a whole number of 0 or more, or -1")),
        };
        match name {
            "temp" => self.temperature = Some(within(0.0, 100.0, "0 to 100")?),
            "top_k" => self.top_k = Some(count(0)?),
            "top_p" => self.top_p = Some(within(f64::from(f32::MIN_POSITIVE), 1.0, "above 0 and at most 1")?),
            "min_p" => self.min_p = Some(within(0.0, 1.0, "0 to 1")?),
            "penalty_repeat" => self.repetition_penalty = Some(within(0.01, 100.0, "0.01 to 100")?),
            "penalty_last_n" => self.repetition_window = Some(count(usize::MAX)?),
            _ if UNKNOWN_UNLESS.contains(&(name, number)) => return Ok(None),
            // What these two would do is asked for by the two above.
            "mirostat_tau" | "mirostat_eta" | "xtc_threshold" => return Ok(None),
            _ => return Err("this version has no such way to sample".into()),
        }
        let name = NAMES.iter().find(|(key, _)| *key == name).map_or(name, |(_, name)| name);
        Ok(Some(format!("{name} {}", number as f32))) // 0.6, not what f64 makes of it
    }
}

/// What keys are called for people.
const NAMES: [(&str, &str); 6] = [
    ("temp", "temperature"),
    ("top_k", "top-k"),
    ("top_p", "top-p"),
    ("min_p", "min-p"),
    ("penalty_repeat", "repetition penalty"),
    ("penalty_last_n", "repetition window"),
];

/// Numbers of any kind that a key may have.
fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::Float(number) => Some(number),
        Value::Unsigned(number) => Some(number as f64),
        Value::Signed(number) => Some(number as f64),
        _ => None,
    }
}

/// Keys of a GGUF file.
type Pairs = Vec<(String, Value)>;

/// The fields of `generation_config.json` that sampling has use for, whatever they hold.
#[derive(Default, Deserialize)]
struct Fields {
    do_sample: Option<Box<RawValue>>,
    temperature: Option<Box<RawValue>>,
    top_k: Option<Box<RawValue>>,
    top_p: Option<Box<RawValue>>,
    min_p: Option<Box<RawValue>>,
    repetition_penalty: Option<Box<RawValue>>,
}

/// What a directory says, as the keys that a GGUF file of the same model has, and what of it is passed over.
///
/// # Errors
/// If the file is there and cannot be read, or is not what it is called.
pub(super) fn keys_of_directory(directory: &Path) -> Result<(Pairs, Vec<Decision>)> {
    let path = directory.join(FILE);
    if !path.exists() {
        return Ok((Vec::new(), Vec::new()));
    }
    let bytes = read_short(&path, MAX_BYTES)?;
    let fields: Fields = serde_json::from_slice(&bytes).map_err(|error| {
        within(path.display(), Error::Malformed(format!("not as expected: {}", quoted(&error.to_string()))))
    })?;
    let (mut keys, mut decisions) = (Vec::new(), Vec::new());
    let mut take = |key: &str, field: &str, raw: Option<Box<RawValue>>| {
        let Some(raw) = raw else { return };
        match serde_json::from_str::<f64>(raw.get()) {
            // As GGUF files hold them: counts are integers, the rest f32.
            Ok(count) if key == "top_k" && count.fract() == 0.0 && count.abs() <= f64::from(i32::MAX) => {
                keys.push((format!("{PREFIX}{key}"), Value::Signed(count as i64)));
            }
            Ok(number) => keys.push((format!("{PREFIX}{key}"), Value::Float((number as f32).into()))),
            Err(_) => {
                let choice = format!("\"{field}\" of {FILE} is ignored");
                decisions.push(
                    Decision::new("sampling", choice, format!("it is {}, and no number", quoted(raw.get()))).warned(),
                );
            }
        }
    };
    // A model that asks not to be sampled takes the most likely token, whatever temperature stands there.
    let is_greedy = fields.do_sample.is_some_and(|raw| raw.get() == "false");
    let zero = || serde_json::value::to_raw_value(&0).ok();
    take("temp", "temperature", if is_greedy { zero() } else { fields.temperature });
    take("top_k", "top_k", fields.top_k);
    take("top_p", "top_p", fields.top_p);
    take("min_p", "min_p", fields.min_p);
    take("penalty_repeat", "repetition_penalty", fields.repetition_penalty);
    Ok((keys, decisions))
}
