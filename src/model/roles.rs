//! What a tensor is for. Containers spell tensor names differently; here they become one enum, with the shape that
//! the config demands of each.

use crate::model::Config;

/// The place of a weight tensor in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Token embeddings, `[vocabulary, width]`.
    Embedding,
    /// The gain of the last norm, `[width]`.
    OutputNorm,
    /// The language-model head, `[vocabulary, width]`; absent where it is tied to the embeddings.
    Head,
    /// Divisors of the rotary frequencies, `[rope pairs]`; optional.
    RopeFactors,
    /// Divisors of the rotary frequencies of sessions of short sequences, `[rope pairs]`; optional (LongRoPE).
    ShortRopeFactors,
    /// Divisors of the rotary frequencies of sessions of long sequences, `[rope pairs]`; optional (LongRoPE).
    LongRopeFactors,
    /// A tensor of one layer.
    Layer(usize, Part),
}

/// The place of a weight tensor in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Gain of the norm before attention, `[width]`.
    AttentionNorm,
    /// Gain of the norm before the query projection alone, `[width]`; BitNet embedding models, as all `…InputNorm`.
    QueryInputNorm,
    /// Query projection, `[heads * head_dim, width]`.
    Query,
    /// Gain of the norm before the key projection alone, `[width]`.
    KeyInputNorm,
    /// Key projection, `[kv_heads * head_dim, width]`.
    Key,
    /// Gain of the norm before the value projection alone, `[width]`.
    ValueInputNorm,
    /// Value projection, `[kv_heads * head_dim, width]`.
    Value,
    /// Gain of the norm of each query head, `[head_dim]`; Qwen3, Gemma 3, Hunyuan.
    QueryHeadNorm,
    /// Gain of the norm of each key head, `[head_dim]`.
    KeyHeadNorm,
    /// Gain of the norm over all heads' outputs, `[heads * head_dim]`; BitNet b1.58.
    AttentionSubNorm,
    /// The same in BitNet embedding models.
    AttentionOutputInputNorm,
    /// Output projection of attention, `[width, heads * head_dim]`.
    AttentionOutput,
    /// Gain of the norm of what attention adds, `[width]`; Gemma 3.
    AttentionPostNorm,
    /// Gain of the norm before the feed-forward network, `[width]`.
    FfnNorm,
    /// Gain of the norm before the gate projection alone, `[width]`.
    GateInputNorm,
    /// Gate projection, `[ffn_width, width]`.
    Gate,
    /// Gain of the norm before the up projection alone, `[width]`.
    UpInputNorm,
    /// Up projection, `[ffn_width, width]`.
    Up,
    /// Gain of the norm over the gated product, `[ffn_width]`; BitNet b1.58.
    FfnSubNorm,
    /// The same in BitNet embedding models.
    DownInputNorm,
    /// Down projection, `[width, ffn_width]`.
    Down,
    /// Gain of the norm of what the feed-forward network adds, `[width]`; Gemma 3.
    FfnPostNorm,
}

impl Part {
    /// Every part with its GGUF name, in the order of the forward pass.
    pub const ALL: &'static [(Part, &'static str)] = &[
        (Part::AttentionNorm, "attn_norm"),
        (Part::QueryInputNorm, "attn_q_norm_in"),
        (Part::Query, "attn_q"),
        (Part::KeyInputNorm, "attn_k_norm_in"),
        (Part::Key, "attn_k"),
        (Part::ValueInputNorm, "attn_v_norm_in"),
        (Part::Value, "attn_v"),
        (Part::QueryHeadNorm, "attn_q_norm"),
        (Part::KeyHeadNorm, "attn_k_norm"),
        (Part::AttentionSubNorm, "attn_sub_norm"),
        (Part::AttentionOutputInputNorm, "attn_output_norm_in"),
        (Part::AttentionOutput, "attn_output"),
        (Part::AttentionPostNorm, "post_attention_norm"),
        (Part::FfnNorm, "ffn_norm"),
        (Part::GateInputNorm, "ffn_gate_norm_in"),
        (Part::Gate, "ffn_gate"),
        (Part::UpInputNorm, "ffn_up_norm_in"),
        (Part::Up, "ffn_up"),
        (Part::FfnSubNorm, "ffn_sub_norm"),
        (Part::DownInputNorm, "ffn_down_norm_in"),
        (Part::Down, "ffn_down"),
        (Part::FfnPostNorm, "post_ffw_norm"),
    ];

    /// Whether it is the weights of a linear layer, and so ternary; every other part is the gain of a norm.
    pub fn is_linear(self) -> bool {
        use Part::*;
        matches!(self, Query | Key | Value | AttentionOutput | Gate | Up | Down)
    }

    /// Whether it is the gain of a norm before a single linear layer.
    pub fn is_input_norm(self) -> bool {
        use Part::*;
        matches!(
            self,
            QueryInputNorm
                | KeyInputNorm
                | ValueInputNorm
                | AttentionOutputInputNorm
                | GateInputNorm
                | UpInputNorm
                | DownInputNorm
        )
    }

    /// Whether a network of this kind has the part.
    pub fn belongs_to(self, config: &Config) -> bool {
        use Part::*;
        match self {
            AttentionSubNorm | FfnSubNorm => config.sub_norms,
            QueryHeadNorm | KeyHeadNorm => config.head_norms.is_some(),
            AttentionPostNorm | FfnPostNorm => config.post_norms,
            AttentionNorm | Query | Key | Value | AttentionOutput | FfnNorm | Gate | Up | Down => true,
            QueryInputNorm
            | KeyInputNorm
            | ValueInputNorm
            | AttentionOutputInputNorm
            | GateInputNorm
            | UpInputNorm
            | DownInputNorm => config.input_norms,
        }
    }
}

impl Role {
    /// Whether it is a linear layer, and so ternary.
    pub fn is_linear(self) -> bool {
        matches!(self, Role::Layer(_, part) if part.is_linear())
    }

    /// Whether its weights can be trits: a linear layer's, and where a model is ternary throughout, embeddings and head.
    pub fn may_be_ternary(self) -> bool {
        self.is_linear() || matches!(self, Role::Embedding | Role::Head)
    }

    /// The tensor's name in a GGUF file, without the ending (`.weight`).
    pub fn gguf_stem(self) -> String {
        match self {
            Role::Embedding => "token_embd".into(),
            Role::OutputNorm => "output_norm".into(),
            Role::Head => "output".into(),
            Role::RopeFactors => "rope_freqs".into(),
            Role::ShortRopeFactors => "rope_factors_short".into(),
            Role::LongRopeFactors => "rope_factors_long".into(),
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
            "rope_factors_short" => return Some(Role::ShortRopeFactors),
            "rope_factors_long" => return Some(Role::LongRopeFactors),
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
            Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => (1, config.rope.frequencies.len()),
            Role::Layer(_, part) => match part {
                Part::AttentionNorm
                | Part::QueryInputNorm
                | Part::KeyInputNorm
                | Part::ValueInputNorm
                | Part::AttentionPostNorm
                | Part::FfnNorm
                | Part::GateInputNorm
                | Part::UpInputNorm
                | Part::FfnPostNorm => (1, width),
                Part::QueryHeadNorm | Part::KeyHeadNorm => (1, config.heads.head_dim),
                Part::Query => (query, width),
                Part::Key | Part::Value => (kv, width),
                Part::AttentionSubNorm | Part::AttentionOutputInputNorm => (1, query),
                Part::AttentionOutput => (width, query),
                Part::Gate | Part::Up => (ffn_width, width),
                Part::FfnSubNorm | Part::DownInputNorm => (1, ffn_width),
                Part::Down => (width, ffn_width),
            },
        }
    }
}
