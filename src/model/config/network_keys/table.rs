//! The table of keys that change the network, by their part of it. Source: `LLM_KV_NAMES` of llama.cpp, `src/llama-arch.cpp`,
//! and what its readers do where a key is missing.

use super::NetworkKey;
use super::Neutral::{self, Never, Number, Text};
use crate::backend::RopePairs;

/// What is switched off where it is 0 or false.
const ZERO: Neutral = Number(|value, _| value == 0.0);
/// A count of which one is as good as none, and a factor, which files also leave at 0.
const AT_MOST_ONE: Neutral = Number(|value, _| value == 0.0 || value == 1.0);

/// What is as long as a head, or as the residual stream is wide.
const HEAD_DIM: Neutral = Number(|value, config| is_usual(value, config.heads.head_dim as f64));
const WIDTH: Neutral = Number(|value, config| is_usual(value, config.width as f64));

const ONE_NETWORK: &str = "one feed-forward network a layer, without experts";

const fn key(name: &'static str, neutral: Neutral, computed: &'static str) -> NetworkKey {
    NetworkKey { name, neutral, computed }
}

/// Equal, as far as an f32 tells; 0 stands for what is usual.
fn is_usual(value: f64, usual: f64) -> bool {
    value == 0.0 || (value - usual).abs() <= 1e-5 * usual.abs()
}

pub(super) static NETWORK_KEYS: &[NetworkKey] = &[
    key(
        "attention.scale",
        Number(|value, config| is_usual(value, 1.0 / (config.heads.head_dim as f64).sqrt())),
        "scores divided by the square root of a head's features",
    ),
    key("attention.causal", Number(|value, _| value == 1.0), "causal attention"),
    key("attention.clamp_kqv", ZERO, "queries, keys and values that are not clamped"),
    key("attention.max_alibi_bias", ZERO, "rotary positions, without ALiBi"),
    key("attention.relative_buckets_count", ZERO, "rotary positions, without relative buckets"),
    key("attn_logit_softcapping", ZERO, "scores of attention without a soft cap"),
    key("final_logit_softcapping", ZERO, "logits without a soft cap"),
    key("router_logit_softcapping", ZERO, "a network without a router"),
    key(
        "attention.sliding_window",
        Number(|value, config| value == 0.0 || value >= config.context as f64),
        "layers that see all positions",
    ),
    key("attention.sliding_window_pattern", ZERO, "layers that see all positions"),
    key("attention.recurrent_layers", ZERO, "layers of attention"),
    key("attention.shared_kv_layers", ZERO, "keys and values of each layer's own"),
    key("attention.output_scale", AT_MOST_ONE, "outputs of attention as they are"),
    key("attention.value_scale", AT_MOST_ONE, "values of attention as they are"),
    key("attention.temperature_scale", ZERO, "scores that no position scales"),
    key("attention.temperature_length", ZERO, "scores that no position scales"),
    key(
        "attention.layer_norm_epsilon",
        Number(|value, config| is_usual(value, config.norm_epsilon.into())),
        "norms of the root mean square, with the epsilon of \"attention.layer_norm_rms_epsilon\"",
    ),
    key("attention.group_norm_epsilon", ZERO, "norms without groups"),
    key("attention.group_norm_groups", AT_MOST_ONE, "norms without groups"),
    key("attention.key_length_swa", HEAD_DIM, "heads of one size in all layers"),
    key("attention.value_length_swa", HEAD_DIM, "heads of one size in all layers"),
    key("attention.key_length_mla", ZERO, "attention without latent keys and values"),
    key("attention.value_length_mla", ZERO, "attention without latent keys and values"),
    key("attention.q_lora_rank", ZERO, "queries of one matrix"),
    key("attention.kv_lora_rank", ZERO, "keys and values of one matrix each"),
    key("attention.decay_lora_rank", ZERO, "attention without decay"),
    key("attention.iclr_lora_rank", ZERO, "attention without decay"),
    key("attention.value_residual_mix_lora_rank", ZERO, "values of the layer's own"),
    key("attention.gate_lora_rank", ZERO, "outputs of attention without a gate"),
    key("attention.output_lora_rank", ZERO, "outputs of attention of one matrix"),
    key("attention.output_group_count", AT_MOST_ONE, "outputs of attention of one matrix"),
    key("attention.indexer.", ZERO, "attention to all positions"),
    key("attention.compress_", ZERO, "caches that are not compressed"),
    key("use_parallel_residual", ZERO, "attention first, then the feed-forward network of its result"),
    key("norm_before_residual", ZERO, "what layers add, added to what they were given"),
    key("swin_norm", ZERO, "norms before attention and feed-forward network"),
    key("rescale_every_n_layers", ZERO, "a residual stream that is not rescaled"),
    key("embedding_scale", AT_MOST_ONE, "embeddings as they are"),
    key("residual_scale", AT_MOST_ONE, "what layers add as it is"),
    key("logit_scale", AT_MOST_ONE, "logits as they are"),
    // Converters write one expert for networks that have no others.
    key("expert_feed_forward_length", Number(|value, config| is_usual(value, config.ffn_width as f64)), ONE_NETWORK),
    key("expert_", AT_MOST_ONE, ONE_NETWORK),
    key("experts_per_group", AT_MOST_ONE, ONE_NETWORK),
    key("moe_", AT_MOST_ONE, ONE_NETWORK),
    key("interleave_moe_layer_step", AT_MOST_ONE, ONE_NETWORK),
    key("leading_dense_block_count", Number(|value, config| is_usual(value, config.layers as f64)), ONE_NETWORK),
    key("swiglu_clamp_", ZERO, "gated products that are not clamped"),
    key("activation_sparsity_scale", ZERO, "gates that are not made sparse"),
    key("nextn_predict_layers", ZERO, "every layer, none of which predicts further tokens"),
    key("n_deepstack_layers", ZERO, "text alone"),
    key("deepstack_mapping", Never, "text alone"),
    key("full_attention_interval", AT_MOST_ONE, "attention in every layer"),
    key("hash_layer_count", ZERO, ONE_NETWORK),
    key("hyper_connection.", ZERO, "one residual stream"),
    key("altup.", ZERO, "one residual stream"),
    key("embedding_length_per_layer_input", ZERO, "embeddings before the first layer alone"),
    key("embedding_length_out", WIDTH, "features of one width throughout"),
    key("features_length", WIDTH, "features of one width throughout"),
    key("decoder_block_count", ZERO, "a decoder alone"),
    key("decoder_start_token_id", Never, "a decoder alone"),
    key("classifier.", Never, "logits of tokens, not of classes"),
    key("dense_", ZERO, "vectors without further matrices"),
    key("target_", Never, "a network of its own, not one that drafts for another"),
    key("time_mix_extra_dim", ZERO, "attention, no recurrence"),
    key("time_decay_extra_dim", ZERO, "attention, no recurrence"),
    key("token_shift_count", ZERO, "attention, no recurrence"),
    key("ssm.", ZERO, "attention, no recurrence"),
    key("kda.", ZERO, "attention, no recurrence"),
    key("wkv.", ZERO, "attention, no recurrence"),
    key("shortconv.", ZERO, "attention, no convolution"),
    key("posnet.", ZERO, "text alone"),
    key("convnext.", ZERO, "text alone"),
    key("vision.", Never, "text alone"),
    key("rope.dimension_sections", ZERO, "one position for all rotary pairs"),
    key(
        "rope.dimension_count_swa",
        Number(|value, config| is_usual(value, 2.0 * config.rope.frequencies.len() as f64)),
        "as many rotary pairs in every layer",
    ),
    key("rope.freq_base_swa", Never, "the rotations of \"rope.freq_base\" in every layer"),
    key("rope.scaling.alpha", AT_MOST_ONE, "the base of \"rope.freq_base\" as it is"),
    key("rope.scaling.yarn_log_multiplier", ZERO, "the magnitude of YaRN's paper"),
    key("rope.scaling.yarn_attn_factor", Number(|value, _| value == 1.0), "the magnitude of YaRN's paper"),
    key(
        "tensor_data_layout",
        Text(|layout, config| match config.rope.pairs {
            RopePairs::Interleaved => layout == "Meta AI original pth",
            RopePairs::Half => layout == "reference",
        }),
        "the order of query and key rows that converters give this architecture",
    ),
];
