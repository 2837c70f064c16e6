//! The keys of a GGUF file that start with its architecture's name, read with their limits.

use crate::backend::{Activation, Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value, quoted};
use crate::model::config::network_keys::HIDDEN_ACTIVATION;
use crate::model::config::{Factors, LARGEST_SIZE, Numbers, Pooling, Windows};

/// Reads keys that start with the architecture's name.
pub(super) struct Keys<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) architecture: &'a str,
}

impl Keys<'_> {
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A size of at least 1. Arrays (one value a layer) are accepted if all values are the same.
    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let name = self.name(key);
        let value = match self.metadata.get(&name) {
            Some(Value::Array(array)) => {
                let integers = array.integers().map(|values| values.map(|v| u64::try_from(v).ok()));
                let Some(Some(first)) = integers.and_then(|mut values| values.next()) else {
                    return Err(Error::Model(format!("the key \"{name}\" must hold sizes, but holds {array}")));
                };
                if array.integers().into_iter().flatten().any(|v| u64::try_from(v) != Ok(first)) {
                    return Err(Error::Unsupported(format!("the key \"{name}\" differs from layer to layer")));
                }
                Some(first)
            }
            _ => self.metadata.unsigned(&name)?,
        };
        match value {
            None => Ok(None),
            Some(size @ 1..=LARGEST_SIZE) => Ok(Some(size as usize)),
            Some(size) => Err(Error::Model(format!("the key \"{name}\" is {size}; it must be 1 to {LARGEST_SIZE}"))),
        }
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// The gate of the feed-forward network, where the file says it.
    pub(super) fn activation(&self) -> Result<Option<Activation>> {
        let name = self.name(HIDDEN_ACTIVATION);
        let Some(text) = self.metadata.string(&name)? else { return Ok(None) };
        let unknown = || {
            let text = quoted(text);
            Error::Unsupported(format!("the key \"{name}\" is {text}; known are silu, relu2 and gelu_pytorch_tanh"))
        };
        activation_named(text).map(Some).ok_or_else(unknown)
    }

    /// Gemma's layers that see only the latest positions; its files leave out what all of them share.
    pub(super) fn windows(&self, head_dim: usize, layers: usize) -> Result<Option<Windows>> {
        let Some(positions) = self.optional_size("attention.sliding_window")? else { return Ok(None) };
        let global_every = self.size_or("attention.sliding_window_pattern", 6)?;
        let theta = self.theta("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let rope = Rope::new(RopePairs::Half, theta, head_dim, 1.0);
        Ok(Some(Windows { positions, layers: Windows::by_pattern(global_every, layers), rope }))
    }

    /// The factors around the layers, with those that the architecture's models share where keys are missing; none where
    /// its files do not know them.
    pub(super) fn factors(&self, usual: Option<Factors>) -> Result<Factors> {
        let Some(usual) = usual else { return Ok(Factors::default()) };
        let read = |key, usual| Ok::<_, Error>(self.factor(key)?.map_or(usual, |factor| factor as f32));
        Ok(Factors {
            embedding: read("embedding_scale", usual.embedding)?,
            residual: read("residual_scale", usual.residual)?,
            logits: read("logit_scale", usual.logits)?,
        })
    }

    /// How an embedding model makes one vector of a text (`LLAMA_POOLING_TYPE_…` of llama.cpp).
    pub(super) fn pooling(&self, is_embedding: bool) -> Result<Option<Pooling>> {
        let name = self.name("pooling_type");
        match self.metadata.unsigned(&name)? {
            None if is_embedding => Ok(Some(Pooling::LastToken)),
            None | Some(0) => Ok(None),
            Some(3) => Ok(Some(Pooling::LastToken)),
            Some(other) => Err(Error::Unsupported(format!(
                "the key \"{name}\" is {other}; this version knows 0 (none) and 3 (the last token)"
            ))),
        }
    }

    /// A positive factor between the extremes of [`FACTORS`].
    pub(super) fn factor(&self, key: &str) -> Result<Option<f64>> {
        let name = self.name(key);
        match self.metadata.float(&name)? {
            Some(factor) => check_factor(factor, &format!("the key \"{name}\"")).map(Some),
            None => Ok(None),
        }
    }
}

impl Numbers for Keys<'_> {
    fn find_size(&self, name: &str) -> Result<Option<usize>> {
        self.optional_size(name)
    }

    fn find_float(&self, name: &str) -> Result<Option<f64>> {
        self.metadata.float(&self.name(name))
    }

    fn place(&self, name: &str) -> String {
        format!("the key \"{}\"", self.name(name))
    }

    fn label(&self, name: &str) -> String {
        format!("\"{}\"", self.name(name))
    }
}

/// What a factor of a model may be. Beyond this, products would leave the range of numbers.
const FACTORS: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// A factor that something is multiplied or divided with; `place` says where it stands in the file.
pub(in crate::model) fn check_factor(factor: f64, place: &str) -> Result<f64> {
    if FACTORS.contains(&factor) {
        return Ok(factor);
    }
    let (least, most) = (FACTORS.start(), FACTORS.end());
    Err(Error::Model(format!("{place} is the factor {factor}; it must be {least} to {most}")))
}

/// The gate that transformers calls so. Its `gelu` is another curve than the tanh form.
pub(in crate::model) fn activation_named(name: &str) -> Option<Activation> {
    match name {
        "silu" | "swish" => Some(Activation::Silu),
        "relu2" => Some(Activation::SquaredRelu),
        "gelu_pytorch_tanh" | "gelu_new" => Some(Activation::Gelu),
        _ => None,
    }
}
