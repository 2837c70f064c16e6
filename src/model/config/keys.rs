//! The keys of a GGUF file that start with its architecture's name, read with their limits.

use crate::backend::{Heads, Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value};
use crate::model::config::{Factors, Family, LARGEST_HEAD, LARGEST_SIZE, MOST_LAYERS, Pooling, Windows};

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

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| Error::Model(format!("the key \"{}\" is missing", self.name(key))))
    }

    pub(super) fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    pub(super) fn layers(&self) -> Result<usize> {
        match self.size("block_count")? {
            layers if layers as u64 <= MOST_LAYERS => Ok(layers),
            layers => Err(Error::Model(format!(
                "the key \"{}\" is {layers}; it must be 1 to {MOST_LAYERS}",
                self.name("block_count")
            ))),
        }
    }

    pub(super) fn epsilon(&self) -> Result<f32> {
        let name = self.name("attention.layer_norm_rms_epsilon");
        match self.metadata.float(&name)? {
            // Of the f32, because the smallest f64 become 0 there, and a norm would divide by it.
            Some(epsilon) if epsilon as f32 > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
            Some(epsilon) => Err(Error::Model(format!("the key \"{name}\" is {epsilon}; it must be between 0 and 1"))),
            None => Err(Error::Model(format!("the key \"{name}\" is missing"))),
        }
    }

    /// How attention is cut into heads.
    pub(super) fn heads(&self) -> Result<Heads> {
        let width = self.size("embedding_length")?;
        let heads = self.size("attention.head_count")?;
        let kv_heads = self.size_or("attention.head_count_kv", heads)?;
        if heads % kv_heads != 0 {
            return Err(Error::Model(format!(
                "{heads} query heads (\"{}\") cannot share {kv_heads} key heads (\"{}\")",
                self.name("attention.head_count"),
                self.name("attention.head_count_kv")
            )));
        }
        let head_dim = self.size_or("attention.key_length", width / heads)?;
        let value_dim = self.size_or("attention.value_length", head_dim)?;
        if head_dim == 0 || head_dim % 2 != 0 || head_dim as u64 > LARGEST_HEAD || value_dim != head_dim {
            return Err(Error::Unsupported(format!(
                "heads of {head_dim} key and {value_dim} value features; they must be equal, even and at most \
                 {LARGEST_HEAD} (\"{}\" and \"{}\", or \"{}\" {width} / \"{}\" {heads})",
                self.name("attention.key_length"),
                self.name("attention.value_length"),
                self.name("embedding_length"),
                self.name("attention.head_count")
            )));
        }
        if heads as u64 * head_dim as u64 > LARGEST_SIZE {
            return Err(Error::Model(format!(
                "{heads} heads (\"{}\") of {head_dim} features are larger than any model",
                self.name("attention.head_count")
            )));
        }
        Ok(Heads { heads, kv_heads, head_dim })
    }

    /// Gemma's layers that see only the latest positions; its files leave out what all of them share.
    pub(super) fn windows(&self, head_dim: usize) -> Result<Option<Windows>> {
        let Some(positions) = self.optional_size("attention.sliding_window")? else { return Ok(None) };
        let global_every = self.size_or("attention.sliding_window_pattern", 6)?;
        let theta = self.theta("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let rope = Rope::new(RopePairs::Half, theta, head_dim, 1.0);
        Ok(Some(Windows { positions, global_every, rope }))
    }

    /// The factors around the layers. Where keys are missing, those that the family's models share.
    pub(super) fn factors(&self, family: Family, layers: usize, width: usize) -> Result<Factors> {
        let (embedding, residual, logits) = match family {
            Family::Gemma3 => ((width as f64).sqrt(), 1.0, 1.0),
            Family::MiniCpm => (12.0, 1.4 / (layers as f64).sqrt(), width as f64 / 256.0),
            _ => return Ok(Factors::default()),
        };
        let read = |key, default| Ok::<_, Error>(self.factor(key)?.unwrap_or(default) as f32);
        Ok(Factors {
            embedding: read("embedding_scale", embedding)?,
            residual: read("residual_scale", residual)?,
            logits: read("logit_scale", logits)?,
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
