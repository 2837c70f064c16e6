//! What Hugging Face checkpoints call the tensors of each role: one table, with the names that older models have for
//! the same thing. Where a usual name means another part in an architecture, its row has its own.

use crate::format::safetensors::Checkpoint;
use crate::model::{Part, Role};

/// Names within `layers.N.`, without the ending; of several, a checkpoint has one.
const PARTS: [(Part, &[&str]); 31] = [
    (Part::AttentionNorm, &["input_layernorm"]),
    (Part::QueryInputNorm, &["self_attn.q_proj.rms_norm"]),
    (Part::KeyInputNorm, &["self_attn.k_proj.rms_norm"]),
    (Part::ValueInputNorm, &["self_attn.v_proj.rms_norm"]),
    (Part::AttentionOutputInputNorm, &["self_attn.o_proj.rms_norm"]),
    (Part::GateInputNorm, &["mlp.gate_proj.rms_norm"]),
    (Part::UpInputNorm, &["mlp.up_proj.rms_norm"]),
    (Part::DownInputNorm, &["mlp.down_proj.rms_norm"]),
    // Hunyuan's names come second.
    (Part::QueryHeadNorm, &["self_attn.q_norm", "self_attn.query_layernorm"]),
    (Part::KeyHeadNorm, &["self_attn.k_norm", "self_attn.key_layernorm"]),
    (Part::Query, &["self_attn.q_proj"]),
    (Part::Key, &["self_attn.k_proj"]),
    (Part::Value, &["self_attn.v_proj"]),
    // 1bitLLM's name comes second.
    (Part::AttentionSubNorm, &["self_attn.attn_sub_norm", "self_attn.inner_attn_ln"]),
    (Part::AttentionOutput, &["self_attn.o_proj"]),
    (Part::AttentionPostNorm, &["post_attention_layernorm"]),
    (Part::FfnNorm, &["post_attention_layernorm"]),
    (Part::FfnPostNorm, &["post_feedforward_layernorm"]),
    (Part::Gate, &["mlp.gate_proj"]),
    (Part::Up, &["mlp.up_proj"]),
    (Part::FfnSubNorm, &["mlp.ffn_sub_norm", "mlp.ffn_layernorm"]),
    (Part::Down, &["mlp.down_proj"]),
    (Part::DeltaQkv, &["linear_attn.in_proj_qkv"]),
    (Part::DeltaGate, &["linear_attn.in_proj_z"]),
    (Part::DeltaAlpha, &["linear_attn.in_proj_a"]),
    (Part::DeltaBeta, &["linear_attn.in_proj_b"]),
    (Part::DeltaConvolution, &["linear_attn.conv1d"]),
    (Part::DeltaBias, &["linear_attn.dt_bias"]),
    (Part::DeltaRate, &["linear_attn.A_log"]),
    (Part::DeltaNorm, &["linear_attn.norm"]),
    (Part::DeltaOutput, &["linear_attn.out_proj"]),
];

/// Endings of tensors that older checkpoints hold and no forward pass needs: they follow from the config.
pub(super) const IGNORED_ENDINGS: [&str; 1] = [".self_attn.rotary_emb.inv_freq"];

/// What stands before the names of the network: a language model's, a bare network's, the text part of a larger model's, in two ways.
const PREFIXES: [&str; 4] = ["model.", "", "language_model.model.", TEXT_PART];

/// The text part of a larger model, whose head stands outside of it.
const TEXT_PART: &str = "model.language_model.";

/// The prefix of a checkpoint: the one under which there is an embedding. That of language models where there is none,
/// so that the missing tensor is called by its usual name.
pub(super) fn prefix(checkpoint: &Checkpoint) -> &'static str {
    let has_embedding = |prefix: &&&str| checkpoint.tensor(&format!("{prefix}embed_tokens.weight")).is_some();
    PREFIXES.iter().find(has_embedding).copied().unwrap_or(PREFIXES[0])
}

/// The ending of a role's tensor.
pub(super) fn ending(role: Role) -> &'static str {
    match role {
        Role::Layer(_, Part::DeltaBias | Part::DeltaRate) => "",
        _ => ".weight",
    }
}

/// The possible names of a role's tensor, without their ending (`.weight`), the usual one first. `own` are the names that
/// the architecture has instead.
pub(super) fn stems(role: Role, prefix: &str, own: &[(Part, &str)]) -> Vec<String> {
    match role {
        Role::Embedding => vec![format!("{prefix}embed_tokens")],
        Role::OutputNorm => vec![format!("{prefix}norm")],
        Role::Head => {
            let outer = if prefix == TEXT_PART { "" } else { prefix.strip_suffix("model.").unwrap_or(prefix) };
            vec![format!("{outer}lm_head")]
        }
        Role::Layer(layer, part) => {
            let own = own.iter().find(|(p, _)| *p == part).map(|(_, name)| *name);
            let usual = PARTS.iter().find(|(p, _)| *p == part).map_or(&[][..], |(_, names)| names);
            let names = own.as_ref().map_or(usual, std::slice::from_ref);
            names.iter().map(|name| format!("{prefix}layers.{layer}.{name}")).collect()
        }
        // Frequencies follow from the config.
        Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => Vec::new(),
    }
}
