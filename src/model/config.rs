//! The numbers that tell one ternary transformer from another. Architectures differ by this data, not by code.

mod architectures;
mod delta_net;
mod experts;
mod hadamard;
mod keys;
mod network_keys;
mod rope;
mod sizes;
mod stretch;
mod write;

pub(super) use architectures::{Architecture, InputNorms, WindowKeys};
pub use delta_net::DeltaNet;
pub use experts::Mixture;
pub use hadamard::Hadamard;
pub(super) use keys::{activation_named, check_factor};
pub(super) use network_keys::unread;
pub use rope::{LongRope, Windows};
pub(super) use rope::{RopeKeys, Yarn, check_theta, divide};
pub(super) use sizes::{JSON, LARGEST_SIZE, Numbers, Sizes};
pub use stretch::RopeScaling;
pub(crate) use write::NUMERICS;

use crate::backend::{Activation, HeadNormOrder, Heads, Numerics, RecurrentShape, Rope};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Gguf, Metadata};
use crate::model::config::keys::Keys;
use crate::model::{Part, Role};

/// Everything the forward pass must know about a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// `general.architecture` of a GGUF file, for example `bitnet-b1.58`.
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
    /// Frequencies that take the place of [`Config::rope`]'s in sessions of long sequences.
    pub long_rope: Option<LongRope>,
    /// Layers that see only the latest positions.
    pub windows: Option<Windows>,
    /// Whether weights are in a rotated basis, and in which.
    pub hadamard: Option<Hadamard>,
    /// Layers that are recurrent in the place of attention.
    pub delta_net: Option<DeltaNet>,
    /// Whether outputs of attention are multiplied with the sigmoid of gates, which the query projection makes too (Qwen3.5).
    pub attention_gate: bool,
    /// Experts in the place of one feed-forward network.
    pub mixture: Option<Mixture>,
    /// The gate of the feed-forward network.
    pub activation: Activation,
    /// How the inputs of linear layers are held.
    pub numerics: Numerics,
    /// Whether attention outputs and gated products are normed before their projections (BitNet b1.58).
    pub sub_norms: bool,
    /// Whether each query and key head is normed by itself, and when.
    pub head_norms: Option<HeadNormOrder>,
    /// Whether every linear layer has a norm of its own before it (BitNet embedding models).
    pub input_norms: bool,
    /// Whether the outputs of attention and of the feed-forward network are normed before they are added (Gemma).
    pub post_norms: bool,
    /// Factors around the layers.
    pub factors: Factors,
    /// How the model makes one vector of a text; none for models that generate text.
    pub pooling: Option<Pooling>,
}

/// Factors of the maximal update parametrisation (arXiv 2404.06395, MiniCPM); all 1 in most models.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Factors {
    /// Embeddings are multiplied with it.
    pub embedding: f32,
    /// What attention and the feed-forward network add is multiplied with it.
    pub residual: f32,
    /// Logits are divided by it.
    pub logits: f32,
}

impl Default for Factors {
    fn default() -> Self {
        Self { embedding: 1.0, residual: 1.0, logits: 1.0 }
    }
}

/// How an embedding model makes one vector of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The normed features of the last token.
    LastToken,
}

impl Config {
    /// Reads the keys of a GGUF file (`<architecture>.block_count` and so on). `vocabulary` is the number of rows of
    /// the embedding tensor; which tensors there are decides what no key says. The choices that the file does not state
    /// are returned as decisions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an architecture or scaling this version cannot run, [`Error::Model`] for missing or
    /// impossible values; both name the key.
    pub fn from_gguf(gguf: &Gguf, vocabulary: usize) -> Result<(Self, Vec<Decision>)> {
        let has = |part| gguf.tensor(&Role::Layer(0, part).gguf_name()).is_some();
        Self::from_keys(gguf.metadata(), vocabulary, has(Part::QueryInputNorm))
    }

    /// [`Config::from_gguf`], told whether there are norms before the query projections.
    pub(crate) fn from_keys(
        metadata: &Metadata,
        vocabulary: usize,
        input_norms: bool,
    ) -> Result<(Self, Vec<Decision>)> {
        let (name, architecture) = Architecture::of_gguf(metadata)?;
        let keys = Keys { metadata, architecture: name };
        if !(1..=LARGEST_SIZE).contains(&(vocabulary as u64)) {
            return Err(Error::Model(format!("a vocabulary of {vocabulary}; it must be 1 to {LARGEST_SIZE}")));
        }
        if architecture.input_norms == InputNorms::Needed && !input_norms {
            return Err(Error::Unsupported(format!(
                "a {name} model without \"{}\"; this version runs BitNet embedding models of that architecture",
                Role::Layer(0, Part::QueryInputNorm).gguf_name()
            )));
        }

        let Sizes { layers: blocks, width, ffn_width, heads, context, norm_epsilon } =
            Sizes::read(&keys, &sizes::GGUF)?;
        let layers = blocks - if architecture.has_delta_net { keys.drafters(blocks)? } else { 0 };
        let (activation, why) = match keys.activation()? {
            Some(activation) => (activation, "the key \"hidden_activation\" of the architecture says so"),
            None => (architecture.activation)(vocabulary, width),
        };
        let (numerics, numerics_why) = match metadata.string(write::NUMERICS)? {
            Some(text) => match text.parse() {
                Ok(numerics) => (numerics, "the file was converted from one that says so"),
                Err(error) => return Err(Error::Model(format!("the key \"{}\": {error}", write::NUMERICS))),
            },
            None => architecture.numerics(vocabulary, input_norms),
        };
        let rope = keys.rope(heads.head_dim, architecture.gguf_pairs)?;
        let (windows, rope) = match architecture.windows {
            WindowKeys::None => (None, rope),
            WindowKeys::Pattern => (keys.windows(heads.head_dim, layers)?, rope),
            WindowKeys::List => {
                let (windows, rope) = keys.listed_windows(layers, rope)?;
                (Some(windows), rope)
            }
        };
        let mut config = Self {
            architecture: name.into(),
            layers,
            width,
            ffn_width,
            heads,
            vocabulary,
            context,
            norm_epsilon,
            rope,
            long_rope: None, // its factors are tensors
            hadamard: None,  // its lists name tensors, which follow from the rest
            delta_net: if architecture.has_delta_net { keys.delta_net(blocks, layers)? } else { None },
            attention_gate: architecture.has_delta_net,
            windows,
            mixture: if architecture.has_experts { Some(keys.mixture(layers)?) } else { None },
            activation,
            numerics,
            sub_norms: architecture.sub_norms,
            head_norms: architecture.head_norms,
            input_norms,
            post_norms: architecture.post_norms,
            factors: keys.factors(architecture.factors.map(|usual| usual(layers, width)))?,
            pooling: keys.pooling(input_norms)?,
        };
        config.hadamard = Hadamard::read(metadata, architecture, &config, &Role::gguf_name)?;
        network_keys::check(metadata, architecture, &config)?;
        let mut decisions = vec![
            Decision::new("activation", format!("{activation:?}"), why),
            Decision::new(
                "rotary pairs",
                format!("{:?}", config.rope.pairs),
                format!("files of architecture \"{name}\" order their query and key rows so"),
            ),
            Decision::new("numerics", numerics.to_string(), numerics_why),
        ];
        decisions.extend(config.hadamard.as_ref().map(Hadamard::decision));
        if config.pooling.is_some() {
            let why = "a norm before every linear layer is what BitNet embedding models have";
            decisions.push(Decision::new("output", "a vector for each text, of its last token", why));
        }
        Ok((config, decisions))
    }

    /// Refuses an architecture that this version cannot run.
    pub(super) fn check_architecture(metadata: &Metadata) -> Result<()> {
        Architecture::of_gguf(metadata).map(|_| ())
    }

    /// The rotations of a session with room for so many positions in a sequence.
    pub fn rope_for(&self, positions: usize) -> Rope {
        match &self.long_rope {
            Some(long) if positions > long.beyond => {
                Rope { frequencies: long.frequencies.clone(), ..self.rope.clone() }
            }
            _ => self.rope.clone(),
        }
    }

    /// Whether a layer is recurrent in the place of attention.
    pub fn is_recurrent(&self, layer: usize) -> bool {
        self.delta_net.as_ref().is_some_and(|net| net.layers.get(layer) == Some(&true))
    }

    /// Bytes of the states of all recurrent layers, of one sequence: the same at every position.
    pub fn state_bytes(&self) -> u64 {
        let Some(net) = &self.delta_net else { return 0 };
        let shape = RecurrentShape { slots: 1, taps: net.taps, heads: net.heads };
        let layers = (0..self.layers).filter(|&layer| self.is_recurrent(layer)).count();
        4 * (layers * (shape.earlier() + shape.memories())) as u64
    }

    /// Trits in all linear layers.
    pub fn ternary_weights(&self) -> u64 {
        let in_layer = |layer: usize| {
            let parts = Part::ALL.iter().filter(|(part, _)| part.is_linear() && part.is_in(self, layer));
            parts
                .map(|(part, _)| Role::Layer(layer, *part).shape(self))
                .map(|(rows, cols)| (rows as u64).saturating_mul(cols as u64))
                .fold(0, u64::saturating_add)
        };
        (0..self.layers).map(in_layer).fold(0, u64::saturating_add)
    }

    /// Trits that one row meets: all but those of experts that it does not use.
    pub fn ternary_weights_used(&self) -> u64 {
        let Some(mixture) = &self.mixture else { return self.ternary_weights() };
        let of_experts = |layer: usize| {
            let parts = Part::ALL.iter().filter(|(part, _)| part.is_of_experts());
            let shapes = parts.map(|(part, _)| Role::Layer(layer, *part).shape(self));
            shapes.map(|(rows, cols)| (rows as u64).saturating_mul(cols as u64)).fold(0, u64::saturating_add)
        };
        let idle = (mixture.shape.count - mixture.shape.used) as u64;
        let in_all = (0..self.layers).map(of_experts).fold(0, u64::saturating_add);
        self.ternary_weights().saturating_sub(in_all / mixture.shape.count as u64 * idle)
    }

    /// Blocks of a file that draft for the network and are no layers of it: they come behind them.
    pub(super) fn drafters(metadata: &Metadata) -> Result<usize> {
        let (name, architecture) = Architecture::of_gguf(metadata)?;
        let keys = Keys { metadata, architecture: name };
        match keys.optional_size("block_count")? {
            Some(blocks) if architecture.has_delta_net => keys.drafters(blocks),
            _ => Ok(0),
        }
    }
}

/// Positions up to which a model of two sets of rotary factors uses those of short sequences.
pub(super) fn original_context(metadata: &Metadata, config: &Config) -> Result<usize> {
    let keys = Keys { metadata, architecture: &config.architecture };
    keys.size_or("rope.scaling.original_context_length", config.context)
}

/// Whether the keys say that rotations have factors for short sequences and for long ones.
pub(super) fn says_long_rope(metadata: &Metadata, config: &Config) -> Result<bool> {
    let keys = Keys { metadata, architecture: &config.architecture };
    Ok(metadata.string(&keys.name("rope.scaling.type"))? == Some("longrope"))
}
