//! What is asked for, as JSON: the names are those of `js/sterna.d.ts`.

use serde::Deserialize;
use serde_json::Value;
use sterna::backend::{CachePrecision, Numerics};
use sterna::chat::{Conversation, Message};
use sterna::model::OpenOptions;
use sterna::{Error, GenerateOptions, Model, Result, Sampling, SessionOptions};

/// How a model is loaded.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
pub struct LoadRequest {
    /// `cpu` or `webgpu`; none for a GPU that is no software, or else the CPU.
    pub device: Option<String>,
    /// Positions.
    pub context: Option<usize>,
    /// The number format of cached keys and values: `f16` or `f32`.
    pub cache: Option<String>,
    /// The kernels of the CPU by name, for tests.
    pub kernels: Option<String>,
    /// Whether inputs of linear layers are held in f32.
    pub precise: bool,
    /// Whether the CPU has a copy of a large head by which most tokens are ruled out. Memory is what is scarcest in a page.
    pub screening: bool,
}

impl LoadRequest {
    pub fn session_options(&self) -> Result<SessionOptions> {
        let cache = match self.cache.as_deref() {
            None => CachePrecision::default(),
            Some("f16") => CachePrecision::F16,
            Some("f32") => CachePrecision::F32,
            Some(other) => {
                return Err(Error::Input(format!("there is no cache \"{other}\"; it is \"f16\" or \"f32\"")));
            }
        };
        Ok(SessionOptions { context: self.context, cache, ..SessionOptions::default() })
    }

    pub fn open_options(&self) -> OpenOptions {
        let numerics = self.precise.then_some(Numerics::Float);
        OpenOptions { numerics, ..OpenOptions::default() }
    }
}

/// What is generated.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenerateRequest {
    /// A text to continue, or ids, or turns of a conversation; one of them.
    pub prompt: Option<String>,
    pub ids: Option<Vec<u32>>,
    pub messages: Option<Vec<Value>>,
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub ignore_end: bool,
}

impl GenerateRequest {
    pub fn options(&self, model: &Model) -> GenerateOptions {
        let asked = model.sampling_defaults().sampling();
        // Greedy without a penalty, unless one is asked for: as everywhere in this library.
        let base = if self.temperature == Some(0.0) { Sampling::greedy() } else { asked };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            seed: self.seed.unwrap_or(base.seed),
            ..base
        };
        let default = GenerateOptions::default();
        GenerateOptions {
            sampling,
            max_tokens: self.max_tokens.unwrap_or(default.max_tokens),
            stop: self.stop.clone(),
            ignore_end: self.ignore_end,
            ..default
        }
    }

    /// The conversation, if turns are given.
    pub fn conversation(&self) -> Result<Option<Conversation>> {
        let Some(messages) = &self.messages else { return Ok(None) };
        let messages = messages.iter().map(Message::from_json).collect::<Result<Vec<_>>>()?;
        Ok(Some(Conversation::of(messages)))
    }

    /// Refuses none of the three ways to say what is continued, and more than one.
    pub fn check(&self) -> Result<()> {
        match [self.prompt.is_some(), self.ids.is_some(), self.messages.is_some()].into_iter().filter(|is| *is).count()
        {
            1 => Ok(()),
            _ => Err(Error::Input("give a prompt, ids or messages: one of them".into())),
        }
    }
}

/// JSON that a caller wrote.
pub fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Input(format!("the options: {error}")))
}
