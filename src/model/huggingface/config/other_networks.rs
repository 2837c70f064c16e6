//! Fields of `config.json` that make another network of the same tensors: one table, with the values that say what is
//! computed anyway. Any other value is refused.

use serde_json::Value;

use super::Fields;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::model::config::{Architecture, Sizes, WindowKeys, activation_named};

/// Which values are neutral; null is as if the field were not there.
enum Neutral {
    /// False alone.
    Off,
    /// True alone.
    On,
    /// No value but null, or false.
    Null,
    /// 0, and false.
    Zero,
    /// 0 and 1: counts of which one is as good as none, and factors.
    AtMostOne,
    /// 1 alone.
    One,
    /// These texts.
    Texts(&'static [&'static str]),
    /// The features of a head.
    HeadDim,
    /// 0, or the inverse root of the features of a head.
    InverseRoot,
}

use Neutral::{AtMostOne, HeadDim, InverseRoot, Null, Off, On, One, Texts, Zero};

/// Fields and the values of them that are neutral.
static FIELDS: &[(&[&str], Neutral)] = &[
    // Vectors that are added to projections, which the checkpoint would hold.
    (&["attention_bias", "attention_out_bias", "mlp_bias", "qkv_bias", "use_qkv_bias", "use_bias"], Off),
    // What attention sees.
    (&["use_bidirectional_attention", "use_sliding_window", "use_cla", "attn_output_gate", "add_cross_attention"], Off),
    (&["is_causal"], On),
    (&["is_encoder_decoder"], Off),
    (&["attention_chunk_size", "attention_sinks"], Null),
    (&["num_kv_shared_layers", "index_topk"], Zero),
    (&["kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"], Null),
    (&["v_head_dim", "query_pre_attn_scalar"], HeadDim),
    // What scores and logits go through.
    (&["attn_logit_softcapping", "final_logit_softcapping", "attn_logit_softcap", "final_logit_softcap"], Null),
    (&["logit_softcapping", "logits_soft_cap", "router_logit_softcapping"], Null),
    (&["clip_qkv"], Null),
    (&["attn_temperature_tuning"], Zero),
    (&["attention_multiplier"], One),
    (&["softmax_scale", "attn_scale", "attention_scale"], InverseRoot),
    // Where tokens stand.
    (&["alibi", "use_alibi", "position_embedding_xdrope", "rope_interleave", "rope_interleaved"], Off),
    (&["use_rotary_pos_emb"], On),
    (&["position_embedding_type"], Texts(&["rope", "rotary"])),
    (&["partial_rotary_factor", "rotary_pct", "rotary_percent"], One),
    (&["no_rope_layers", "no_rope_layer_interval", "mrope_section"], Null),
    // How layers are put together.
    (&["use_parallel_residual", "parallel_attn", "parallel_attention", "parallel_residual", "swin_norm"], Off),
    (&["norm_type", "normalization"], Texts(&["rms", "rms_norm", "rmsnorm", "RMSNorm"])),
    (
        &["embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "lm_head_multiplier"],
        AtMostOne,
    ),
    (&["embedding_scale", "residual_scale", "scale_embedding", "mup_scale"], AtMostOne),
    (&["clamp_swiglu", "swiglu_limit", "activation_sparsity_pattern"], Null),
    (&["full_attention_interval"], AtMostOne),
    (&["num_nextn_predict_layers"], Zero),
    // Experts; Hunyuan's dense models say that they have one.
    (&["num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_topk"], AtMostOne),
    (&["num_shared_expert", "n_shared_experts", "num_shared_experts"], AtMostOne),
    (&["use_mixed_mlp_moe", "enable_moe_block"], Off),
];

/// Fields of factors that MiniCPM alone has.
const MINICPM: [&str; 3] = ["scale_emb", "scale_depth", "dim_model_base"];

/// Refuses what the architecture does not read and is not neutral.
pub(super) fn refuse(fields: Fields, architecture: &Architecture, sizes: &Sizes) -> Result<()> {
    let refused = |name: &str, value: &Value, why: &str| {
        let value = quoted(&value.to_string());
        Err(Error::Unsupported(format!("{} is {value}; this version knows {why}", fields.name(name))))
    };
    for (names, neutral) in FIELDS {
        for name in *names {
            let is_read = match *name {
                "query_pre_attn_scalar" => architecture.windows != WindowKeys::None,
                "full_attention_interval" | "partial_rotary_factor" | "attn_output_gate" => architecture.has_delta_net,
                _ => false,
            };
            if let Some(value) = fields.get(name).filter(|value| !is_read && !neutral.allows(value, sizes)) {
                return refused(name, value, &neutral.known(sizes));
            }
        }
    }
    windows(fields, architecture, sizes)?;
    if let Some(value) = fields.get("attn_output_gate").filter(|value| architecture.has_delta_net && **value != true) {
        return refused("attn_output_gate", value, "true for models of this type");
    }
    for name in MINICPM {
        if let Some(value) = fields.get(name).filter(|_| !architecture.says_factors) {
            return refused(name, value, "models of other architectures without");
        }
    }
    // Norms of heads: those of an architecture that has a field for them are read elsewhere.
    for name in ["use_qk_norm", "qk_norm", "qk_layernorm"] {
        let has = architecture.head_norms.is_some();
        let is_read = architecture.head_norms_field == Some(name);
        if let Some(value) = fields.get(name).filter(|value| !is_read && value.as_bool() != Some(has)) {
            return refused(name, value, &format!("{has} for models of this type"));
        }
    }
    // The field that other architectures have for the gate must not contradict the one that is read.
    for name in ["hidden_act", "hidden_activation"] {
        let (read, other) = (fields.get(architecture.activation_field), fields.get(name));
        let named = |value: &Value| value.as_str().and_then(activation_named);
        if let Some((read, other)) =
            read.zip(other).filter(|(read, other)| read != other && named(read) != named(other))
        {
            return refused(
                name,
                other,
                &format!("{} here, as {} says", read, fields.name(architecture.activation_field)),
            );
        }
        if let Some(other) = other.filter(|_| read.is_none()) {
            return refused(name, other, &format!("\"{}\" for this type", architecture.activation_field));
        }
    }
    Ok(())
}

/// Layers that see only the latest positions, where the architecture has none.
fn windows(fields: Fields, architecture: &Architecture, sizes: &Sizes) -> Result<()> {
    if architecture.windows != WindowKeys::None {
        return Ok(());
    }
    let kinds = fields.list("layer_types")?.filter(|_| !architecture.has_delta_net).map_or(&[][..], Vec::as_slice);
    if let Some(kind) = kinds.iter().find(|kind| *kind != "full_attention") {
        let (name, kind) = (fields.name("layer_types"), quoted(&kind.to_string()));
        return Err(Error::Unsupported(format!("{name} has {kind}; this version knows full_attention")));
    }
    let positions = fields.get("sliding_window").filter(|value| {
        let covers_all = value.as_f64().is_some_and(|positions| positions == 0.0 || positions >= sizes.context as f64);
        !covers_all && **value != Value::Bool(false)
    });
    // transformers has the switch beside it, and files leave the number where it is off.
    if let Some(positions) = positions.filter(|_| fields.get("use_sliding_window") != Some(&Value::Bool(false))) {
        let (name, positions) = (fields.name("sliding_window"), quoted(&positions.to_string()));
        return Err(Error::Unsupported(format!(
            "{name} is {positions}, and \"use_sliding_window\" is not false; this version knows layers that see all positions \
             in models of this type"
        )));
    }
    Ok(())
}

impl Neutral {
    /// Of a list, one value a layer, all must be neutral.
    fn allows(&self, value: &Value, sizes: &Sizes) -> bool {
        if let Value::Array(values) = value {
            return values.iter().all(|value| self.allows(value, sizes));
        }
        let number = value.as_bool().map(|is_on| f64::from(u8::from(is_on))).or_else(|| value.as_f64());
        let head_dim = sizes.heads.head_dim as f64;
        match self {
            Off => value == &Value::Bool(false),
            On => value == &Value::Bool(true),
            Null => value == &Value::Bool(false),
            Zero => number == Some(0.0),
            AtMostOne => number.is_some_and(|number| number == 0.0 || number == 1.0),
            One => number == Some(1.0),
            Texts(known) => value.as_str().is_some_and(|text| known.contains(&text)),
            HeadDim => number == Some(head_dim),
            InverseRoot => {
                let usual = 1.0 / head_dim.sqrt();
                number.is_some_and(|number| number == 0.0 || (number - usual).abs() <= 1e-5 * usual)
            }
        }
    }

    /// The values that are neutral, in words.
    fn known(&self, sizes: &Sizes) -> String {
        let head_dim = sizes.heads.head_dim;
        match self {
            Off | Null => "models without".into(),
            On => "true".into(),
            Zero => "0".into(),
            AtMostOne => "0 and 1".into(),
            One => "1".into(),
            Texts(known) => known.join(" and "),
            HeadDim => format!("the size of a head, here {head_dim}"),
            InverseRoot => format!("1 / √{head_dim}"),
        }
    }
}
