//! What a tensor is for. Containers spell tensor names differently; here they become one enum, with the shape that
//! the config demands of each.

use crate::backend::DeltaHeads;
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
    /// Query projection, `[heads * head_dim, width]`; with gates, `[heads * 2 * head_dim, width]`: each head's queries, then its gates.
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
    /// Gain of the norm of what attention adds, `[width]`; Gemma 3. Qwen3.5, which has no [`Part::FfnNorm`], calls so the gain of the norm
    /// before the feed-forward network.
    AttentionPostNorm,
    /// Queries, keys and values of a gated delta net, `[heads.qkv_cols(), width]`; Qwen3.5, as all `Delta…`.
    DeltaQkv,
    /// Gates of the outputs, `[heads.value_cols(), width]`.
    DeltaGate,
    /// Time steps of the value heads, floats `[value_heads, width]`.
    DeltaAlpha,
    /// How much each value head writes, floats `[value_heads, width]`.
    DeltaBeta,
    /// Weights of the convolution, floats `[heads.qkv_cols(), taps]`; the last of a channel is that of the row itself.
    DeltaConvolution,
    /// Added to the time steps, `[value_heads]`.
    DeltaBias,
    /// How fast memories fade, `[value_heads]`: −exp(A_log), so none is above 0.
    DeltaRate,
    /// Gain of the norm of each head's outputs, `[head_dim]`.
    DeltaNorm,
    /// Output projection, `[width, heads.value_cols()]`.
    DeltaOutput,
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
    /// Scores of the experts, floats `[experts, width]`; Maple, as all `…Experts`.
    Router,
    /// Gate projections, one expert behind the other, `[experts * their ffn_width, width]`.
    GateExperts,
    /// Up projections, `[experts * their ffn_width, width]`.
    UpExperts,
    /// Down projections, `[experts * width, their ffn_width]`.
    DownExperts,
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
        (Part::DeltaQkv, "attn_qkv"),
        (Part::DeltaGate, "attn_gate"),
        (Part::DeltaAlpha, "ssm_alpha"),
        (Part::DeltaBeta, "ssm_beta"),
        (Part::DeltaConvolution, "ssm_conv1d"),
        (Part::DeltaBias, "ssm_dt"),
        (Part::DeltaRate, "ssm_a"),
        (Part::DeltaNorm, "ssm_norm"),
        (Part::DeltaOutput, "ssm_out"),
        (Part::AttentionPostNorm, "post_attention_norm"),
        (Part::FfnNorm, "ffn_norm"),
        (Part::GateInputNorm, "ffn_gate_norm_in"),
        (Part::Gate, "ffn_gate"),
        (Part::UpInputNorm, "ffn_up_norm_in"),
        (Part::Up, "ffn_up"),
        (Part::FfnSubNorm, "ffn_sub_norm"),
        (Part::DownInputNorm, "ffn_down_norm_in"),
        (Part::Down, "ffn_down"),
        (Part::Router, "ffn_gate_inp"),
        (Part::GateExperts, "ffn_gate_exps"),
        (Part::UpExperts, "ffn_up_exps"),
        (Part::DownExperts, "ffn_down_exps"),
        (Part::FfnPostNorm, "post_ffw_norm"),
    ];

    /// Whether it is the weights of a linear layer, and so ternary.
    pub fn is_linear(self) -> bool {
        use Part::*;
        let mixes = matches!(self, Query | Key | Value | AttentionOutput | DeltaQkv | DeltaGate | DeltaOutput);
        mixes || matches!(self, Gate | Up | Down) || self.is_of_experts()
    }

    /// Whether it is the weights of all experts of a layer, one behind the other.
    pub fn is_of_experts(self) -> bool {
        matches!(self, Part::GateExperts | Part::UpExperts | Part::DownExperts)
    }

    /// Whether it is a matrix of floats, which products take as they are.
    pub fn is_dense(self) -> bool {
        matches!(self, Part::DeltaAlpha | Part::DeltaBeta | Part::Router)
    }

    /// Whether it is the gain of a norm.
    pub fn is_gain(self) -> bool {
        use Part::*;
        !self.is_linear() && !self.is_dense() && !matches!(self, DeltaConvolution | DeltaBias | DeltaRate)
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

    /// Whether a network of this kind has the part in some layer.
    pub fn belongs_to(self, config: &Config) -> bool {
        (0..config.layers).any(|layer| self.is_in(config, layer))
    }

    /// Whether a network of this kind has the part in this layer.
    pub fn is_in(self, config: &Config, layer: usize) -> bool {
        use Part::*;
        let is_recurrent = config.is_recurrent(layer);
        match self {
            AttentionSubNorm | FfnSubNorm => config.sub_norms,
            QueryHeadNorm | KeyHeadNorm => config.head_norms.is_some() && !is_recurrent,
            AttentionPostNorm => config.post_norms || config.delta_net.is_some(),
            FfnPostNorm => config.post_norms,
            FfnNorm => config.delta_net.is_none(),
            AttentionNorm => true,
            Gate | Up | Down => config.mixture.is_none(),
            Router | GateExperts | UpExperts | DownExperts => config.mixture.is_some(),
            Query | Key | Value | AttentionOutput => !is_recurrent,
            DeltaQkv | DeltaGate | DeltaAlpha | DeltaBeta | DeltaConvolution | DeltaBias | DeltaRate | DeltaNorm
            | DeltaOutput => is_recurrent,
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

    /// Whether it is the gain of a norm.
    pub fn is_gain(self) -> bool {
        match self {
            Role::OutputNorm => true,
            Role::Layer(_, part) => part.is_gain(),
            _ => false,
        }
    }

    /// Whether it is a matrix of floats in a layer, which products take as they are.
    pub fn is_dense(self) -> bool {
        matches!(self, Role::Layer(_, part) if part.is_dense())
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
        let ending = match self {
            Role::Layer(_, Part::DeltaBias) => ".bias",
            Role::Layer(_, Part::DeltaRate) => "",
            _ => ".weight",
        };
        self.gguf_stem() + ending
    }

    /// The role of a GGUF tensor name; `None` if the name means nothing to this version.
    pub fn from_gguf_name(name: &str) -> Option<Role> {
        let stems = [".weight", ".bias", ""].into_iter().filter_map(|ending| name.strip_suffix(ending));
        stems.filter_map(Role::from_gguf_stem).find(|role| role.gguf_name() == name)
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

    /// Matrices that lie one behind the other in the tensor: experts have as many.
    pub fn matrices(self, config: &Config) -> usize {
        match (self, &config.mixture) {
            (Role::Layer(_, part), Some(mixture)) if part.is_of_experts() => mixture.shape.count,
            _ => 1,
        }
    }

    /// `(rows, cols)` that the config demands; vectors have one row, and matrices of experts are stacked by rows.
    pub fn shape(self, config: &Config) -> (usize, usize) {
        let Config { width, ffn_width, vocabulary, .. } = *config;
        let (query, kv) = (config.heads.query_cols(), config.heads.kv_cols());
        // Of networks without recurrent layers nobody asks for the shapes of their parts.
        let none = DeltaHeads { key_heads: 0, value_heads: 0, head_dim: 0 };
        let (delta, taps) = config.delta_net.as_ref().map_or((none, 0), |net| (net.heads, net.taps));
        let mixture = config.mixture.as_ref();
        let (experts, inner) = mixture.map_or((0, 0), |mixture| (mixture.shape.count, mixture.ffn_width));
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
                Part::Query if config.attention_gate => (2 * query, width),
                Part::Query => (query, width),
                Part::DeltaQkv => (delta.qkv_cols(), width),
                Part::DeltaGate => (delta.value_cols(), width),
                Part::DeltaAlpha | Part::DeltaBeta => (delta.value_heads, width),
                Part::DeltaConvolution => (delta.qkv_cols(), taps),
                Part::DeltaBias | Part::DeltaRate => (1, delta.value_heads),
                Part::DeltaNorm => (1, delta.head_dim),
                Part::DeltaOutput => (width, delta.value_cols()),
                Part::Key | Part::Value => (kv, width),
                Part::Router => (experts, width),
                Part::GateExperts | Part::UpExperts => (experts * inner, width),
                Part::DownExperts => (experts * width, inner),
                Part::AttentionSubNorm | Part::AttentionOutputInputNorm => (1, query),
                Part::AttentionOutput => (width, query),
                Part::Gate | Part::Up => (ffn_width, width),
                Part::FfnSubNorm | Part::DownInputNorm => (1, ffn_width),
                Part::Down => (width, ffn_width),
            },
        }
    }
}
