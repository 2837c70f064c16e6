//! What verbs are told besides tensors: which rows a step has, how heads are cut, turned and cached, and in which number
//! formats.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// One row of a step: one token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The cache slot of the row's sequence.
    pub sequence: u32,
    /// The token's place in its sequence, from 0. All earlier places are in the cache or in earlier rows of the step.
    pub position: u32,
    /// Whether the logits after this token are wanted.
    pub wants_logits: bool,
}

/// How the heads of one attention layer are cut from a row of `qkv`: `[heads | kv_heads | kv_heads] * head_dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`. Query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features in a head; even.
    pub head_dim: usize,
}

impl Heads {
    /// Features of all query heads together.
    pub fn query_cols(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of all key heads (or all value heads) together.
    pub fn kv_cols(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Columns of a stacked query, key and value row.
    pub fn qkv_cols(&self) -> usize {
        self.query_cols() + 2 * self.kv_cols()
    }
}

/// Which two features of a head a rotation turns together (rotary position embedding, arXiv 2104.09864).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RopePairs {
    /// `(i, i + dims/2)`: NeoX order; Hugging Face checkpoints and the `bitnet` architectures.
    Half,
    /// `(2i, 2i+1)`: GGUF files of architecture `llama`, whose query and key rows were permuted for it.
    Interleaved,
}

/// Rotary position embedding: the angle of pair `i` at position `p` is `p * frequencies[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which features form a pair.
    pub pairs: RopePairs,
    /// Radians a position, one for each pair: `theta^(-2i / dims)`, with any scaling already applied. At most
    /// `head_dim / 2`; features beyond the last pair are not turned.
    pub frequencies: Vec<f64>,
    /// What cosines and sines are multiplied with: 1, except where a scaling such as YaRN demands more.
    pub magnitude: f64,
}

impl Rope {
    /// The frequencies `theta^(-2i / dims) / stretch` for the first `dims` features of a head; `dims` is even.
    pub fn new(pairs: RopePairs, theta: f64, dims: usize, stretch: f64) -> Self {
        let frequencies = (0..dims / 2).map(|i| theta.powf(-2.0 * i as f64 / dims as f64) / stretch).collect();
        Self { pairs, frequencies, magnitude: 1.0 }
    }
}

/// How the inputs of ternary linear layers are held: what a model was trained with, or what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Numerics {
    /// int8 with one scale for each row (token): what BitNet b1.58 models were trained with (arXiv 2402.17764).
    Int8Rows,
    /// int8 with one scale for each 128 columns of a row: for models that were trained with float activations. Sums within
    /// a group are exact integers.
    Int8Groups,
    /// f32: slower, and as those models were trained.
    Float,
}

impl Numerics {
    /// The word that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Numerics::Int8Rows => "rows",
            Numerics::Int8Groups => "groups",
            Numerics::Float => "f32",
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Numerics::Int8Rows => "int8 activations, one scale for each token, exact integer sums",
            Numerics::Int8Groups => "int8 activations, one scale for each 128 columns, exact integer sums within them",
            Numerics::Float => "f32 activations",
        })
    }
}

impl FromStr for Numerics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "rows" => Ok(Numerics::Int8Rows),
            "groups" => Ok(Numerics::Int8Groups),
            "f32" => Ok(Numerics::Float),
            _ => Err(Error::Input(format!("{text:?} is no form of activations; there are rows, groups and f32"))),
        }
    }
}

/// The gate of a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)²`: BitNet b1.58 2B-4T.
    SquaredRelu,
    /// `x / (1 + e^-x)`: the older BitNet models and the llama family.
    Silu,
    /// `x/2 * (1 + tanh(√(2/π) * (x + 0.044715 x³)))`: the Gemma family (arXiv 1606.08415).
    Gelu,
}

/// The number format of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CachePrecision {
    /// IEEE half precision: half the memory and traffic.
    #[default]
    F16,
    /// Single precision: for comparing with a float reference.
    F32,
}

/// What one layer's cache must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Sequences that can be held at once.
    pub slots: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features in a head.
    pub head_dim: usize,
    /// The number format of the entries.
    pub precision: CachePrecision,
    /// How many positions a row sees, its own the last of them; none where it sees all.
    pub window: Option<usize>,
}

/// Why the key or the value of a head is not in a cache: it is held as NaN in every feature, so that nothing that reads it is a
/// number, and whoever finds that reads here what was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A feature lies beyond the largest number of the format.
    TooLarge,
    /// All features are so small that the format keeps fewer bits of them than bfloat16 would.
    TooSmall,
}

impl Misfit {
    /// The smallest magnitude that is rounded to infinity in f16: half a step above 65504.
    const BEYOND_F16: f32 = 65520.0;
    /// The largest magnitude of a head whose features have 8 bits in f16, where all steps are 2^-24 below 2^-14.
    const SMALLEST_F16: f32 = 1.0 / 65536.0;

    /// Whether a head whose largest magnitude this is has no place in f16. What is no number keeps being none by itself.
    pub(crate) fn of(absmax: f32) -> Option<Self> {
        match absmax {
            _ if (Self::BEYOND_F16..f32::INFINITY).contains(&absmax) => Some(Self::TooLarge),
            _ if absmax > 0.0 && absmax < Self::SMALLEST_F16 => Some(Self::TooSmall),
            _ => None,
        }
    }

    /// What stands for the features in f16: a NaN that no arithmetic makes.
    pub(crate) fn f16_bits(self) -> u16 {
        match self {
            Misfit::TooLarge => 0x7e01,
            Misfit::TooSmall => 0x7e02,
        }
    }

    /// What the features were, as they are read from a cache.
    pub(crate) fn read(feature: f32) -> Option<Self> {
        // f16 has the upper 10 bits of the 23 that tell one NaN of f32 from another.
        [Self::TooLarge, Self::TooSmall]
            .into_iter()
            .find(|misfit| feature.is_nan() && feature.to_bits() >> 13 & 0x3ff == u32::from(misfit.f16_bits()) & 0x3ff)
    }
}

impl CachePrecision {
    /// Bytes of a key's or a value's feature.
    pub fn bytes(self) -> usize {
        match self {
            CachePrecision::F16 => 2,
            CachePrecision::F32 => 4,
        }
    }
}

impl CacheShape {
    /// The first position that a row at `position` sees.
    pub fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Bytes of the keys and values together; `None` where that overflows.
    pub fn bytes(&self) -> Option<usize> {
        [self.slots, self.positions, self.kv_heads, self.head_dim, 2, self.precision.bytes()]
            .into_iter()
            .try_fold(1usize, |product, factor| product.checked_mul(factor))
    }
}

/// When heads are normed: it matters, because the two features of a pair have different gains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadNormOrder {
    /// Norm, then rotation: Qwen3, Gemma 3.
    BeforeRope,
    /// Rotation, then norm: Hunyuan.
    AfterRope,
}
