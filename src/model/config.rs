//! The numbers that tell one ternary transformer from another. Architectures differ by this data, not by code.

use crate::backend::{Activation, Heads, Rope, RopePairs};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value};

/// Everything the forward pass must know about a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`, for example `bitnet-b1.58`.
    pub architecture: String,
    /// Transformer layers.
    pub layers: usize,
    /// Features of the residual stream.
    pub width: usize,
    /// Features inside the feed-forward network.
    pub ffn_width: usize,
    /// How attention is cut into heads.
    pub heads: Heads,
    /// Rows of the embedding: token ids are below this.
    pub vocabulary: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Added to the mean square in every norm.
    pub norm_epsilon: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// The gate of the feed-forward network.
    pub activation: Activation,
    /// Whether attention outputs and gated products are normed before their projections (BitNet b1.58).
    pub sub_norms: bool,
}

/// Larger sizes than any model has; they keep products of two sizes within 64 bits.
const LARGEST_SIZE: u64 = 1 << 24;

impl Config {
    /// Reads the keys of a GGUF file (`<architecture>.block_count` and so on). `vocabulary` is the number of rows of
    /// the embedding tensor. The choices that the file does not state are returned as decisions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an architecture or scaling this version cannot run, [`Error::Model`] for missing or
    /// impossible values; both name the key.
    pub fn from_gguf(metadata: &Metadata, vocabulary: usize) -> Result<(Self, Vec<Decision>)> {
        let architecture = metadata
            .string("general.architecture")?
            .ok_or_else(|| Error::Model("the key \"general.architecture\" is missing".into()))?;
        let family = Family::of(architecture)?;
        let keys = Keys { metadata, architecture };

        let width = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let kv_heads = keys.size_or("attention.head_count_kv", heads)?;
        if heads % kv_heads != 0 {
            return Err(Error::Model(format!("{heads} query heads cannot share {kv_heads} key heads")));
        }
        let head_dim = keys.size_or("attention.key_length", width / heads)?;
        let value_dim = keys.size_or("attention.value_length", head_dim)?;
        if head_dim == 0 || head_dim % 2 != 0 || value_dim != head_dim {
            return Err(Error::Unsupported(format!(
                "heads of {head_dim} key and {value_dim} value features; they must be even and equal"
            )));
        }
        if heads * head_dim > LARGEST_SIZE as usize {
            return Err(Error::Model(format!("{heads} heads of {head_dim} features are larger than any model")));
        }
        let (activation, why) = family.activation(vocabulary, width);
        let config = Self {
            architecture: architecture.into(),
            layers: keys.size("block_count")?,
            width,
            ffn_width: keys.size("feed_forward_length")?,
            heads: Heads { heads, kv_heads, head_dim },
            vocabulary,
            context: keys.size("context_length")?,
            norm_epsilon: keys.epsilon()?,
            rope: keys.rope(head_dim, family.rope_pairs())?,
            activation,
            sub_norms: family == Family::BitNet || family == Family::OldBitNet,
        };
        let decisions = vec![
            Decision::new("activation", format!("{activation:?}"), why),
            Decision::new(
                "rotary pairs",
                format!("{:?}", config.rope.pairs),
                format!("files of architecture \"{architecture}\" order their query and key rows so"),
            ),
            Decision::new(
                "numerics",
                "int8 activations for each token, exact integer sums",
                format!("models of architecture \"{architecture}\" with ternary linear layers were trained with them"),
            ),
        ];
        Ok((config, decisions))
    }

    /// Trits in all linear layers.
    pub fn ternary_weights(&self) -> u64 {
        let (width, query) = (self.width as u64, self.heads.query_cols() as u64);
        let layer = width * self.heads.qkv_cols() as u64 + width * query + 3 * width * self.ffn_width as u64;
        layer * self.layers as u64
    }
}

/// Architectures that share a forward pass to the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// `bitnet-b1.58`, `bitnet-25`: Microsoft's 2B-4T and its fine-tunes.
    BitNet,
    /// `bitnet`: 1bitLLM's models, and some conversions of 2B-4T.
    OldBitNet,
    /// `llama` with BitLinear layers: Llama3-8B-1.58, Falcon3-1.58, Falcon-E.
    Llama,
}

impl Family {
    fn of(architecture: &str) -> Result<Self> {
        match architecture {
            "bitnet-b1.58" | "bitnet-25" => Ok(Family::BitNet),
            "bitnet" => Ok(Family::OldBitNet),
            "llama" => Ok(Family::Llama),
            other => Err(Error::Unsupported(format!(
                "the architecture \"{other}\"; this version runs bitnet-b1.58, bitnet-25, bitnet and llama"
            ))),
        }
    }

    fn rope_pairs(self) -> RopePairs {
        match self {
            Family::BitNet | Family::OldBitNet => RopePairs::Half,
            Family::Llama => RopePairs::Interleaved,
        }
    }

    /// GGUF has no key for it: the architecture decides, and the reason is told.
    fn activation(self, vocabulary: usize, width: usize) -> (Activation, &'static str) {
        match self {
            Family::BitNet => (Activation::SquaredRelu, "BitNet b1.58 2B-4T and its fine-tunes use squared ReLU"),
            Family::OldBitNet if vocabulary == 128_256 && width == 2560 => {
                (Activation::SquaredRelu, "the sizes are those of BitNet b1.58 2B-4T, which uses squared ReLU")
            }
            Family::OldBitNet => (Activation::Silu, "models of architecture \"bitnet\" other than 2B-4T use SiLU"),
            Family::Llama => (Activation::Silu, "llama models use SiLU"),
        }
    }
}

/// Reads keys that start with the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A size of at least 1. Arrays (one value a layer) are accepted if all values are the same.
    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let name = self.name(key);
        let value = match self.metadata.get(&name) {
            Some(Value::Array(array)) => {
                let mut values = array.integers().into_iter().flatten();
                let first = values.next().and_then(|v| u64::try_from(v).ok());
                if first.is_none() || values.any(|v| u64::try_from(v).ok() != first) {
                    return Err(Error::Unsupported(format!("the key \"{name}\" differs from layer to layer")));
                }
                first
            }
            _ => self.metadata.unsigned(&name)?,
        };
        match value {
            None => Ok(None),
            Some(size @ 1..=LARGEST_SIZE) => Ok(Some(size as usize)),
            Some(size) => Err(Error::Model(format!("the key \"{name}\" is {size}; it must be 1 to {LARGEST_SIZE}"))),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| Error::Model(format!("the key \"{}\" is missing", self.name(key))))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    fn epsilon(&self) -> Result<f32> {
        let name = self.name("attention.layer_norm_rms_epsilon");
        match self.metadata.float(&name)? {
            Some(epsilon) if epsilon > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
            Some(epsilon) => Err(Error::Model(format!("the key \"{name}\" is {epsilon}; it must be between 0 and 1"))),
            None => Err(Error::Model(format!("the key \"{name}\" is missing"))),
        }
    }

    fn rope(&self, head_dim: usize, pairs: RopePairs) -> Result<Rope> {
        let dims = self.size_or("rope.dimension_count", head_dim)?;
        if dims % 2 != 0 || dims > head_dim {
            return Err(Error::Model(format!(
                "the key \"{}\" is {dims}; it must be even and at most the head's {head_dim} features",
                self.name("rope.dimension_count")
            )));
        }
        let theta = self.metadata.float(&self.name("rope.freq_base"))?.unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(Error::Model(format!("the key \"{}\" is {theta}", self.name("rope.freq_base"))));
        }
        let stretch = self.linear_scaling()?;
        let frequencies = (0..dims / 2).map(|i| theta.powf(-2.0 * i as f64 / dims as f64) / stretch).collect();
        Ok(Rope { pairs, frequencies })
    }

    /// The factor by which positions are stretched; 1 without scaling.
    fn linear_scaling(&self) -> Result<f64> {
        let kind = self.metadata.string(&self.name("rope.scaling.type"))?.unwrap_or("none");
        let name = self.name("rope.scaling.factor");
        let factor = self.metadata.float(&name)?;
        match (kind, factor) {
            ("none", _) | ("linear", None) => Ok(1.0),
            ("linear", Some(factor)) if factor.is_finite() && factor > 0.0 => Ok(factor),
            ("linear", Some(factor)) => Err(Error::Model(format!("the key \"{name}\" is {factor}"))),
            (other, _) => Err(Error::Unsupported(format!("rotary scaling of type \"{other}\"; none and linear are"))),
        }
    }
}
