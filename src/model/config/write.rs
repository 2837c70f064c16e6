//! A config as the keys of a GGUF file: what [`Config::from_gguf`](super::Config::from_gguf) reads, written.

use super::{Architecture, Config, Pooling, RopeKeys};
use crate::format::gguf::{Array, Value};

/// How activations are held, where the architecture's name says otherwise: `rows`, `groups` or `f32`. No other program
/// writes it.
pub(crate) const NUMERICS: &str = "sterna.activations";

impl Config {
    /// The keys of a GGUF file of this network, whose directory has that architecture; rotations as `rope` says.
    pub(in crate::model) fn gguf_keys(
        &self,
        architecture: &'static Architecture,
        rope: &RopeKeys,
    ) -> Vec<(String, Value)> {
        let architecture = architecture.in_gguf(self);
        let name = architecture.gguf_names[0];
        let size = |size: usize| Value::Unsigned(size as u64);
        let float = |value: f64| Value::Float(f64::from(value as f32)); // readers want f32
        let mut keys = vec![
            ("block_count", size(self.layers)),
            ("context_length", size(self.context)),
            ("embedding_length", size(self.width)),
            ("feed_forward_length", size(self.ffn_width)),
            ("attention.head_count", size(self.heads.heads)),
            ("attention.head_count_kv", size(self.heads.kv_heads)),
            ("attention.key_length", size(self.heads.head_dim)),
            ("attention.value_length", size(self.heads.head_dim)),
            ("attention.layer_norm_rms_epsilon", float(self.norm_epsilon.into())),
            ("vocab_size", size(self.vocabulary)),
            ("rope.dimension_count", size(2 * self.rope.frequencies.len())),
            ("rope.freq_base", float(rope.theta)),
        ];
        keys.extend(rope.scaling.iter().cloned());
        if architecture.says_factors {
            keys.extend([
                ("embedding_scale", float(self.factors.embedding.into())),
                ("residual_scale", float(self.factors.residual.into())),
                ("logit_scale", float(self.factors.logits.into())),
            ]);
        }
        if let Some(net) = &self.delta_net {
            keys.extend([
                ("ssm.conv_kernel", size(net.taps)),
                ("ssm.state_size", size(net.heads.head_dim)),
                ("ssm.group_count", size(net.heads.key_heads)),
                ("ssm.time_step_rank", size(net.heads.value_heads)),
                ("ssm.inner_size", size(net.heads.value_cols())),
                ("attention.recurrent_layers", Value::Array(Array::of_truths(&net.layers))),
            ]);
        }
        if !rope.sections.is_empty() {
            // Readers want four.
            let sections: Vec<i32> = rope.sections.iter().copied().chain([0]).take(4).collect();
            keys.push(("rope.dimension_sections", Value::Array(Array::of_integers(&sections))));
        }
        if let Some(windows) = &self.windows {
            keys.extend([
                ("attention.sliding_window", size(windows.positions)),
                ("attention.sliding_window_pattern", size(windows.pattern())),
                ("rope.freq_base_swa", float(base(&windows.rope.frequencies))),
            ]);
        }
        if self.pooling == Some(Pooling::LastToken) {
            keys.push(("pooling_type", Value::Unsigned(3)));
        }
        let within = keys.into_iter().map(|(key, value)| (format!("{name}.{key}"), value));
        let mut all = vec![("general.architecture".to_owned(), Value::String(name.into()))];
        all.extend(within);
        all.extend(self.hadamard.iter().flat_map(|hadamard| hadamard.gguf_keys(self)));
        if architecture.numerics(self.vocabulary, self.input_norms).0 != self.numerics {
            all.push((NUMERICS.into(), Value::String(self.numerics.name().into())));
        }
        all
    }
}

/// The base of plain frequencies, of which the second is `base^(-1 / pairs)`. A single pair turns alike with any base.
fn base(frequencies: &[f64]) -> f64 {
    match frequencies {
        [_, second, ..] => second.powf(-(frequencies.len() as f64)),
        _ => 10_000.0,
    }
}
