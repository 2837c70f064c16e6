//! Keys of GGUF files that say what network a file holds, beyond those that are read: one table of all that llama.cpp
//! knows, with the values that say what is computed here anyway. Any other value is refused: the network would be another
//! one, and its text fluent and wrong. What stands in no table is told.

mod table;

use super::architectures::ARCHITECTURES;
use super::{Architecture, Config, WindowKeys};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value, quoted};
use table::NETWORK_KEYS;

/// Keys that are read, whatever the architecture.
const READ: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    HIDDEN_ACTIVATION,
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_ext_factor",
    // Of how many positions a model was tuned for, and of the embedding's rows, which the tensor itself says.
    "rope.scaling.finetuned",
    VOCABULARY,
];

/// The gate of the feed-forward network, by the names that transformers has for them.
pub(super) const HIDDEN_ACTIVATION: &str = "hidden_activation";

/// Rows of the embedding, or tokens of the tokenizer: programs differ.
const VOCABULARY: &str = "vocab_size";

/// Keys that are read where some layers see only the latest positions.
const READ_WITH_WINDOWS: &[&str] =
    &["attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"];

/// Keys that are read where some layers are recurrent.
const READ_WITH_DELTA_NET: &[&str] = &[
    "attention.recurrent_layers",
    "full_attention_interval",
    "nextn_predict_layers",
    "rope.dimension_sections",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
];

/// Keys that are read where there are experts.
const READ_WITH_EXPERTS: &[&str] = &[
    "expert_count",
    "expert_feed_forward_length",
    "expert_shared_count",
    "expert_used_count",
    "expert_weights_norm",
    "leading_dense_block_count",
    "swiglu_clamp_exp",
];

/// Keys that are read where there are factors around the layers.
const READ_WITH_FACTORS: &[&str] = &["embedding_scale", "logit_scale", "residual_scale"];

/// A key that changes the network, unless its value is neutral: then it says what is computed anyway.
struct NetworkKey {
    /// Without the architecture's name; all keys that begin so, if it ends with a dot.
    name: &'static str,
    neutral: Neutral,
    /// What is computed, for the error.
    computed: &'static str,
}

/// Which values are neutral. Of a list, all values must be; true counts as 1.
enum Neutral {
    Number(fn(f64, &Config) -> bool),
    Text(fn(&str, &Config) -> bool),
    Never,
}

impl NetworkKey {
    fn find(name: &str) -> Option<&'static Self> {
        let is_prefix = |key: &&Self| key.name.ends_with(['.', '_']) && name.starts_with(key.name);
        let exact = NETWORK_KEYS.iter().find(|key| key.name == name);
        exact.or_else(|| NETWORK_KEYS.iter().find(is_prefix))
    }

    fn is_neutral(&self, value: &Value, config: &Config) -> bool {
        let number = match (&self.neutral, value) {
            (Neutral::Text(is_neutral), Value::String(text)) => return is_neutral(text, config),
            (Neutral::Number(is_neutral), Value::Array(array)) => {
                return array.floats().is_some_and(|mut values| values.all(|value| is_neutral(value, config)));
            }
            (_, &Value::Bool(is_on)) => f64::from(u8::from(is_on)),
            (_, &Value::Unsigned(number)) => number as f64,
            (_, &Value::Signed(number)) => number as f64,
            (_, &Value::Float(number)) => number,
            (_, Value::String(_) | Value::Array(_)) => return false,
        };
        matches!(&self.neutral, Neutral::Number(is_neutral) if is_neutral(number, config))
    }
}

impl Architecture {
    /// Whether the network follows from the key.
    fn reads(&self, key: &str) -> bool {
        READ.contains(&key)
            || self.windows != WindowKeys::None && READ_WITH_WINDOWS.contains(&key)
            || self.has_delta_net && READ_WITH_DELTA_NET.contains(&key)
            || self.has_experts && READ_WITH_EXPERTS.contains(&key)
            || self.factors.is_some() && READ_WITH_FACTORS.contains(&key)
    }
}

/// A key without the architecture's name, if it begins with that.
fn own<'a>(key: &'a str, architecture: &str) -> Option<&'a str> {
    key.strip_prefix(architecture)?.strip_prefix('.')
}

/// Refuses keys that say another network than the one which is computed.
pub(super) fn check(metadata: &Metadata, architecture: &Architecture, config: &Config) -> Result<()> {
    let name = &config.architecture;
    let refuse = |key: &str, value: &Value, computed: &str| {
        let key = quoted(key);
        Err(Error::Unsupported(format!("the key {key} is {value}; of a {name} model this version computes {computed}")))
    };
    let kind = metadata.get("general.type");
    if let Some(value) = kind.filter(|value| !matches!(value, Value::String(kind) if kind == "model")) {
        return refuse("general.type", value, "all of it, and needs a file of type \"model\"");
    }
    // A pattern of windows that are as long as the context means nothing.
    let has_windows = metadata.get(&format!("{name}.attention.sliding_window")).is_some();
    let is_idle = |key: &str| has_windows && key == "attention.sliding_window_pattern";
    for (key, value) in metadata.iter() {
        let Some(within) = own(key, name).filter(|within| !architecture.reads(within) && !is_idle(within)) else {
            continue;
        };
        if let Some(known) = NetworkKey::find(within).filter(|known| !known.is_neutral(value, config)) {
            return refuse(key, value, known.computed);
        }
    }
    Ok(())
}

/// What keys say that nothing is made of: those that no table knows, those of other architectures, and a vocabulary that is
/// not the embedding's.
pub(in crate::model) fn unread(metadata: &Metadata, config: &Config) -> Result<Vec<Decision>> {
    let (name, architecture) = Architecture::of_gguf(metadata)?;
    let is_network_key = |key: &str| architecture.reads(key) || NetworkKey::find(key).is_some();
    let others = || ARCHITECTURES.iter().flat_map(|row| row.gguf_names).filter(|other| **other != name);
    let is_unknown = |key: &&str| own(key, name).is_some_and(|within| !is_network_key(within));
    let is_foreign =
        |key: &&str| own(key, name).is_none() && others().any(|other| own(key, other).is_some_and(&is_network_key));
    let keys = || metadata.iter().map(|(key, _)| key);
    let mut decisions = Vec::new();
    let mut tell = |keys: Vec<&str>, why: String| {
        if !keys.is_empty() {
            decisions.push(Decision::new("keys", format!("not used: {}", list(&keys)), why));
        }
    };
    let why = format!("this version does not know what they say of a {name} model");
    tell(keys().filter(is_unknown).collect(), why);
    let why = format!("they are another architecture's, and \"general.architecture\" is {}", quoted(name));
    tell(keys().filter(is_foreign).collect(), why);
    let (usual, _) = (architecture.activation)(config.vocabulary, config.width);
    if config.activation != usual {
        let key = quoted(&format!("{name}.{HIDDEN_ACTIVATION}"));
        let choice = format!("{key} is obeyed: {:?}", config.activation);
        decisions.push(Decision::new("keys", choice, format!("{name} models of these sizes usually have {usual:?}")));
    }
    let key = format!("{name}.{VOCABULARY}");
    if let Some(value) = metadata.get(&key).filter(|value| **value != Value::Unsigned(config.vocabulary as u64)) {
        let choice = format!("{} rows, as the embedding has", config.vocabulary);
        decisions.push(Decision::new("vocabulary", choice, format!("the key {} is {value}", quoted(&key))));
    }
    Ok(decisions)
}

/// The first of many keys.
fn list(keys: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = keys.iter().take(SHOWN).map(|key| quoted(key)).collect();
    let more = if keys.len() > SHOWN { format!(" and {} more", keys.len() - SHOWN) } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_the_tables_once() {
        for (place, known) in NETWORK_KEYS.iter().enumerate() {
            assert!(NETWORK_KEYS[..place].iter().all(|other| other.name != known.name), "{}", known.name);
            assert!(!READ.contains(&known.name), "{} is read", known.name);
        }
        for conditional in
            READ_WITH_WINDOWS.iter().chain(READ_WITH_DELTA_NET).chain(READ_WITH_EXPERTS).chain(READ_WITH_FACTORS)
        {
            assert!(NetworkKey::find(conditional).is_some(), "{conditional} is ignored where it is not read");
        }
    }
}
