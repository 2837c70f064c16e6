//! Fields of `config.json` that say another network than the one which would be computed are refused by name; and so is a
//! directory whose config lost what it said of the weights.

use serde_json::{Value as Json, json};
use sterna::backend::Numerics;
use sterna::model::Model;

use crate::directory::Directory;

#[track_caller]
fn refused(directory: &Directory, says: &[&str]) {
    let error = Model::open(&directory.path).expect_err("it is refused").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
    assert!(error.len() < 1500 && !error.contains(char::is_control), "{error:?}");
}

fn with(name: &str, field: &str, value: &Json) -> Directory {
    let directory = Directory::golden(name);
    directory.config(|config| config[field] = value.clone());
    directory
}

/// Of a llama with heads of 64 features and a context of 256: fields, values that are neutral, values that are not.
fn fields() -> Vec<(&'static str, Json, Json)> {
    vec![
        ("sliding_window", json!([256, 4096, 0]), json!([4, 255, "x"])),
        ("use_sliding_window", json!([false]), json!([true])),
        (
            "layer_types",
            json!([["full_attention", "full_attention"]]),
            json!([["full_attention", "sliding_attention"]]),
        ),
        ("is_causal", json!([true]), json!([false])),
        ("use_bidirectional_attention", json!([false]), json!([true])),
        ("attention_bias", json!([false]), json!([true])),
        ("mlp_bias", json!([false]), json!([true])),
        ("qkv_bias", json!([false]), json!([true])),
        ("attn_logit_softcapping", json!([]), json!([50.0])),
        ("final_logit_softcapping", json!([]), json!([30.0])),
        ("logits_soft_cap", json!([]), json!([30.0])),
        ("clip_qkv", json!([]), json!([8.0])),
        ("alibi", json!([false]), json!([true])),
        ("position_embedding_type", json!(["rope", "rotary"]), json!(["alibi", "absolute"])),
        ("use_parallel_residual", json!([false]), json!([true])),
        ("parallel_attn", json!([false]), json!([true])),
        ("partial_rotary_factor", json!([1.0]), json!([0.5])),
        ("rotary_pct", json!([1]), json!([0.25])),
        ("rope_interleave", json!([false]), json!([true])),
        ("no_rope_layers", json!([]), json!([[1, 0]])),
        ("attention_multiplier", json!([1.0]), json!([0.5])),
        ("query_pre_attn_scalar", json!([64]), json!([256])),
        ("softmax_scale", json!([0.125]), json!([0.5])),
        ("logit_scale", json!([1.0]), json!([0.5])),
        ("logits_scaling", json!([1.0]), json!([8.0])),
        ("embedding_multiplier", json!([1.0]), json!([12.0])),
        ("residual_multiplier", json!([1]), json!([0.2])),
        ("scale_emb", json!([]), json!([12.0])),
        ("scale_depth", json!([]), json!([1.4])),
        ("num_experts", json!([0, 1, [1, 1]]), json!([8, [1, 8]])),
        ("num_local_experts", json!([1]), json!([8])),
        ("num_nextn_predict_layers", json!([0]), json!([1])),
        ("kv_lora_rank", json!([]), json!([512])),
        ("v_head_dim", json!([64]), json!([32])),
        ("use_qk_norm", json!([false]), json!([true])),
        ("norm_type", json!(["rms"]), json!(["layernorm"])),
        ("hidden_activation", json!(["silu", "swish"]), json!(["relu2", "tanh"])),
        ("is_encoder_decoder", json!([false]), json!([true])),
        (
            "rope_parameters",
            json!([{"rope_type": "default", "partial_rotary_factor": 1.0}]),
            json!([{"rope_type": "default", "partial_rotary_factor": 0.25}, {"mrope_section": [16, 8, 8]}]),
        ),
    ]
}

#[test]
fn a_field_that_says_another_network_is_refused_by_name_and_a_neutral_one_is_not() {
    for (field, neutral, others) in fields() {
        for value in neutral.as_array().unwrap().iter().chain([&Json::Null]) {
            if let Err(error) = Model::open(&with("llama-256", field, value).path) {
                panic!("{field} = {value}: {error}");
            }
        }
        for value in others.as_array().unwrap() {
            refused(&with("llama-256", field, value), &[field]);
        }
    }
}

#[test]
fn a_window_that_is_switched_off_is_none() {
    let directory = with("embedding-qwen3", "sliding_window", &json!(16));
    refused(&directory, &["sliding_window", "16"]);
    directory.config(|config| config["use_sliding_window"] = false.into());
    Model::open(&directory.path).unwrap();
}

#[test]
fn norms_of_heads_are_those_of_the_architecture() {
    refused(&with("embedding-qwen3", "use_qk_norm", &json!(false)), &["use_qk_norm", "true"]);
    Model::open(&with("embedding-qwen3", "use_qk_norm", &json!(true)).path).unwrap();
}

#[test]
fn packed_weights_whose_section_was_lost_are_refused() {
    for name in ["bitnet-256", "bitnet-128-silu", "llama-256"] {
        let directory = Directory::golden(name);
        for lost in [Json::Null, json!({"bits": 2, "group_size": 128})] {
            directory.config(|config| config["quantization_config"] = lost.clone());
            refused(&directory, &["packed trits", "quantization_config"]);
        }
    }
}

#[test]
fn latent_weights_whose_section_was_lost_are_refused() {
    refused(&with("bitnet-128-online", "quantization_config", &Json::Null), &["not ternary", "quantization_config"]);
}

/// Floats that are ternary already can be run without the section, but not as BitNet models are: that is told.
#[test]
fn a_bitnet_model_of_ternary_floats_without_its_section_is_told() {
    let directory = Directory::golden("bitnet-128-online");
    directory.tensors(|tensors| {
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.contains("_proj.weight")) {
            let values =
                tensor.bytes.chunks_exact(2).map(|pair| half::bf16::from_le_bytes([pair[0], pair[1]]).to_f32());
            let trits = values.flat_map(|value| half::bf16::from_f32(value.signum() * 0.5).to_le_bytes());
            tensor.bytes = trits.collect();
            assert!(!tensor.bytes.is_empty(), "{name}");
        }
    });
    let told = |model: &Model| model.decisions().iter().any(|decision| decision.reason.contains("was it lost?"));
    let whole = Model::open(&directory.path).unwrap();
    assert!(!told(&whole));
    assert_eq!(whole.config().numerics, Numerics::Int8Rows);
    directory.config(|config| config["quantization_config"] = Json::Null);
    let lost = Model::open(&directory.path).unwrap();
    assert!(told(&lost), "{:?}", lost.decisions());
}

/// The shapes of MLX's integers say what they are, and each is checked to be a trit.
#[test]
fn integers_whose_section_was_lost_are_told() {
    let directory = Directory::golden("qwen3-256-mlx");
    directory.config(|config| {
        config.as_object_mut().unwrap().retain(|name, _| !name.starts_with("quantization"));
    });
    let model = Model::open(&directory.path).unwrap();
    let told = model.decisions().iter().any(|decision| decision.reason.contains("says nothing"));
    assert!(told, "{:?}", model.decisions());
}
