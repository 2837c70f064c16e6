//! The numbers that tell one ternary transformer from another. Architectures differ by this data, not by code.

use crate::backend::{Activation, Heads, Rope, RopePairs};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value, quoted};

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

/// Larger than any size of a model.
const LARGEST_SIZE: u64 = 1 << 24;
/// More layers than any model has. With sizes of at most [`LARGEST_SIZE`], a layer has up to 7 · 2^48 weights, and so
/// many layers less than 2^63.
const MOST_LAYERS: u64 = 1 << 12;
/// A larger head than any model has: the table of its frequencies is made before a tensor is looked at, so it must not
/// be large because a key says so.
const LARGEST_HEAD: u64 = 1 << 14;
/// What rotary frequencies may be divided by. Beyond this, position times frequency would leave the range of numbers.
const STRETCHES: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

impl Config {
    /// Reads the keys of a GGUF file (`<architecture>.block_count` and so on). `vocabulary` is the number of rows of
    /// the embedding tensor. The choices that the file does not state are returned as decisions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an architecture or scaling this version cannot run, [`Error::Model`] for missing or
    /// impossible values; both name the key.
    pub fn from_gguf(metadata: &Metadata, vocabulary: usize) -> Result<(Self, Vec<Decision>)> {
        let (architecture, family) = Family::of(metadata)?;
        let keys = Keys { metadata, architecture };
        if !(1..=LARGEST_SIZE).contains(&(vocabulary as u64)) {
            return Err(Error::Model(format!("a vocabulary of {vocabulary}; it must be 1 to {LARGEST_SIZE}")));
        }

        let width = keys.size("embedding_length")?;
        let heads = keys.size("attention.head_count")?;
        let kv_heads = keys.size_or("attention.head_count_kv", heads)?;
        if heads % kv_heads != 0 {
            return Err(Error::Model(format!(
                "{heads} query heads (\"{}\") cannot share {kv_heads} key heads (\"{}\")",
                keys.name("attention.head_count"),
                keys.name("attention.head_count_kv")
            )));
        }
        let head_dim = keys.size_or("attention.key_length", width / heads)?;
        let value_dim = keys.size_or("attention.value_length", head_dim)?;
        if head_dim == 0 || head_dim % 2 != 0 || head_dim as u64 > LARGEST_HEAD || value_dim != head_dim {
            return Err(Error::Unsupported(format!(
                "heads of {head_dim} key and {value_dim} value features; they must be equal, even and at most \
                 {LARGEST_HEAD} (\"{}\" and \"{}\", or \"{}\" {width} / \"{}\" {heads})",
                keys.name("attention.key_length"),
                keys.name("attention.value_length"),
                keys.name("embedding_length"),
                keys.name("attention.head_count")
            )));
        }
        if heads as u64 * head_dim as u64 > LARGEST_SIZE {
            return Err(Error::Model(format!(
                "{heads} heads (\"{}\") of {head_dim} features are larger than any model",
                keys.name("attention.head_count")
            )));
        }
        let (activation, why) = family.activation(vocabulary, width);
        let config = Self {
            architecture: architecture.into(),
            layers: keys.layers()?,
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

    /// Refuses an architecture that this version cannot run.
    pub(super) fn check_architecture(metadata: &Metadata) -> Result<()> {
        Family::of(metadata).map(|_| ())
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
    /// The file's architecture and its family.
    fn of(metadata: &Metadata) -> Result<(&str, Self)> {
        const KEY: &str = "general.architecture";
        let missing = || Error::Model(format!("the key \"{KEY}\" is missing"));
        let architecture = metadata.string(KEY)?.ok_or_else(missing)?;
        let family = match architecture {
            "bitnet-b1.58" | "bitnet-25" => Family::BitNet,
            "bitnet" => Family::OldBitNet,
            "llama" => Family::Llama,
            other => {
                return Err(Error::Unsupported(format!(
                    "the architecture {}; this version runs bitnet-b1.58, bitnet-25, bitnet and llama",
                    quoted(other)
                )));
            }
        };
        Ok((architecture, family))
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

    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| Error::Model(format!("the key \"{}\" is missing", self.name(key))))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    fn layers(&self) -> Result<usize> {
        match self.size("block_count")? {
            layers if layers as u64 <= MOST_LAYERS => Ok(layers),
            layers => Err(Error::Model(format!(
                "the key \"{}\" is {layers}; it must be 1 to {MOST_LAYERS}",
                self.name("block_count")
            ))),
        }
    }

    fn epsilon(&self) -> Result<f32> {
        let name = self.name("attention.layer_norm_rms_epsilon");
        match self.metadata.float(&name)? {
            // Of the f32, because the smallest f64 become 0 there, and a norm would divide by it.
            Some(epsilon) if epsilon as f32 > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
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
            return Err(Error::Model(format!(
                "the key \"{}\" is {theta}; it must be larger than 1 and finite",
                self.name("rope.freq_base")
            )));
        }
        let stretch = self.linear_scaling()?;
        Ok(Rope::new(pairs, theta, dims, stretch))
    }

    /// The factor by which positions are stretched; 1 without scaling. A factor without a type is linear, as in
    /// llama.cpp.
    fn linear_scaling(&self) -> Result<f64> {
        let kind_name = self.name("rope.scaling.type");
        let mut name = self.name("rope.scaling.factor");
        let mut factor = self.metadata.float(&name)?;
        if factor.is_none() {
            name = self.name("rope.scale_linear"); // as files of 2023 have it
            factor = self.metadata.float(&name)?;
        }
        match (self.metadata.string(&kind_name)?.unwrap_or("linear"), factor) {
            ("none", _) | ("linear", None) => Ok(1.0),
            ("linear", Some(factor)) => check_stretch(factor, &format!("the key \"{name}\"")),
            (other, _) => {
                let other = quoted(other);
                Err(Error::Unsupported(format!("the key \"{kind_name}\" is {other}; known are none and linear")))
            }
        }
    }
}

/// A factor that rotary frequencies are divided by; `place` says where it stands in the file.
pub(super) fn check_stretch(factor: f64, place: &str) -> Result<f64> {
    if STRETCHES.contains(&factor) {
        return Ok(factor);
    }
    let (least, most) = (STRETCHES.start(), STRETCHES.end());
    Err(Error::Model(format!("{place} divides rotary frequencies by {factor}; it must be {least} to {most}")))
}
