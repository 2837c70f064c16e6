//! What a tensor is for. Containers spell tensor names differently; here they become one enum, with the shape that
//! the config demands of each.

use crate::model::Config;

/// The place of a weight tensor in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embeddings, `[vocabulary, width]`.
    Embedding,
    /// The gain of the last norm, `[width]`.
    OutputNorm,
    /// The language-model head, `[vocabulary, width]`; absent where it is tied to the embeddings.
    Head,
    /// Divisors of the rotary frequencies, `[rope pairs]`; optional.
    RopeFactors,
    /// A tensor of one layer.
    Layer(usize, Part),
}

/// The place of a weight tensor in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Gain of the norm before attention, `[width]`.
    AttentionNorm,
    /// Query projection, `[heads * head_dim, width]`.
    Query,
    /// Key projection, `[kv_heads * head_dim, width]`.
    Key,
    /// Value projection, `[kv_heads * head_dim, width]`.
    Value,
    /// Gain of the norm over all heads' outputs, `[heads * head_dim]`; BitNet b1.58.
    AttentionSubNorm,
    /// Output projection of attention, `[width, heads * head_dim]`.
    AttentionOutput,
    /// Gain of the norm before the feed-forward network, `[width]`.
    FfnNorm,
    /// Gate projection, `[ffn_width, width]`.
    Gate,
    /// Up projection, `[ffn_width, width]`.
    Up,
    /// Gain of the norm over the gated product, `[ffn_width]`; BitNet b1.58.
    FfnSubNorm,
    /// Down projection, `[width, ffn_width]`.
    Down,
}

impl Part {
    /// Every part with its GGUF name, in the order of the forward pass.
    pub const ALL: [(Part, &'static str); 11] = [
        (Part::AttentionNorm, "attn_norm"),
        (Part::Query, "attn_q"),
        (Part::Key, "attn_k"),
        (Part::Value, "attn_v"),
        (Part::AttentionSubNorm, "attn_sub_norm"),
        (Part::AttentionOutput, "attn_output"),
        (Part::FfnNorm, "ffn_norm"),
        (Part::Gate, "ffn_gate"),
        (Part::Up, "ffn_up"),
        (Part::FfnSubNorm, "ffn_sub_norm"),
        (Part::Down, "ffn_down"),
    ];

    /// Whether it is the gain of a norm.
    pub fn is_norm(self) -> bool {
        use Part::*;
        matches!(self, AttentionNorm | AttentionSubNorm | FfnNorm | FfnSubNorm)
    }

    /// Whether it is a sub-norm, which only the BitNet b1.58 family has.
    pub fn is_sub_norm(self) -> bool {
        matches!(self, Part::AttentionSubNorm | Part::FfnSubNorm)
    }
}

impl Role {
    /// Whether it is a linear layer, and so ternary.
    pub fn is_linear(self) -> bool {
        matches!(self, Role::Layer(_, part) if !part.is_norm())
    }

    /// The tensor's name in a GGUF file, without the ending (`.weight`).
    pub fn gguf_stem(self) -> String {
        match self {
            Role::Embedding => "token_embd".into(),
            Role::OutputNorm => "output_norm".into(),
            Role::Head => "output".into(),
            Role::RopeFactors => "rope_freqs".into(),
            Role::Layer(layer, part) => {
                let name = Part::ALL.iter().find(|(p, _)| *p == part).expect("ALL lists every part").1;
                format!("blk.{layer}.{name}")
            }
        }
    }

    /// The tensor's name in a GGUF file.
    pub fn gguf_name(self) -> String {
        self.gguf_stem() + ".weight"
    }

    /// The role of a GGUF tensor name without its ending; `None` if the name means nothing to this version. Names and
    /// roles are one to one: `blk.01.attn_q` is no layer, because nobody would look for it under that name.
    pub fn from_gguf_stem(stem: &str) -> Option<Role> {
        match stem {
            "token_embd" => return Some(Role::Embedding),
            "output_norm" => return Some(Role::OutputNorm),
            "output" => return Some(Role::Head),
            "rope_freqs" => return Some(Role::RopeFactors),
            _ => {}
        }
        let (layer, name) = stem.strip_prefix("blk.")?.split_once('.')?;
        let part = Part::ALL.iter().find(|(_, n)| *n == name)?.0;
        let role = Role::Layer(layer.parse().ok()?, part);
        (role.gguf_stem() == stem).then_some(role)
    }

    /// `(rows, cols)` that the config demands; vectors have one row.
    pub fn shape(self, config: &Config) -> (usize, usize) {
        let Config { width, ffn_width, vocabulary, .. } = *config;
        let (query, kv) = (config.heads.query_cols(), config.heads.kv_cols());
        match self {
            Role::Embedding | Role::Head => (vocabulary, width),
            Role::OutputNorm => (1, width),
            Role::RopeFactors => (1, config.rope.frequencies.len()),
            Role::Layer(_, part) => match part {
                Part::AttentionNorm | Part::FfnNorm => (1, width),
                Part::Query => (query, width),
                Part::Key | Part::Value => (kv, width),
                Part::AttentionSubNorm => (1, query),
                Part::AttentionOutput => (width, query),
                Part::Gate | Part::Up => (ffn_width, width),
                Part::FfnSubNorm => (1, ffn_width),
                Part::Down => (width, ffn_width),
            },
        }
    }
}
