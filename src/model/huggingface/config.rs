//! `config.json` as a [`Config`]: which family the model is of, its sizes, and how its weights become trits.

mod quantization;
mod rope;
mod windows;

use super::fields::{ConfigFile, Fields};
use crate::backend::{Activation, HeadNormOrder, Heads, RopePairs};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::format::safetensors::Checkpoint;
use crate::model::config::{Config, Factors, LARGEST_HEAD, LARGEST_SIZE, MOST_LAYERS, Pooling, RopeKeys, check_factor};
use crate::model::huggingface::names;
use crate::model::{Part, Role};

pub(super) use quantization::WeightRule;
use rope::Rotations;

/// What a directory is, before its tensors are looked for.
pub(super) struct Description {
    pub(super) config: Config,
    pub(super) rule: WeightRule,
    pub(super) ties_head: bool,
    /// Whether norms, but not those before single linear layers, are stored as their gains less one.
    pub(super) gains_less_one: bool,
    pub(super) rope_keys: RopeKeys,
    pub(super) decisions: Vec<Decision>,
}

/// Families of models, by what their `model_type` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    BitNet,
    Llama,
    Qwen3,
    MiniCpm,
    Hunyuan,
    Gemma3,
}

/// Every `model_type` that runs.
const FAMILIES: [(&str, Family); 6] = [
    ("bitnet", Family::BitNet),
    ("llama", Family::Llama),
    ("qwen3", Family::Qwen3),
    ("minicpm", Family::MiniCpm),
    ("hunyuan_v1_dense", Family::Hunyuan),
    ("gemma3_text", Family::Gemma3),
];

impl Description {
    /// # Errors
    /// [`Error::Unsupported`] for what this version cannot run, [`Error::Model`] for missing or impossible values; both name
    /// the field.
    pub(super) fn read(file: &ConfigFile, checkpoint: &Checkpoint) -> Result<Self> {
        let fields = file.fields();
        let (model_type, family) = family(fields)?;
        refuse_other_networks(fields, family)?;
        // The choice between two names of one thing, and between two code bases of one network.
        let has = |role: Role| {
            let prefix = names::prefix(checkpoint);
            names::stems(role, prefix, family == Family::Gemma3)
                .iter()
                .any(|stem| checkpoint.tensor(&format!("{stem}.weight")).is_some())
        };
        let sub_norms = family == Family::BitNet || has(Role::Layer(0, Part::AttentionSubNorm));
        let may_have_input_norms = matches!(family, Family::Qwen3 | Family::Gemma3);
        let rule = WeightRule::read(fields, is_1bitllm(fields)?, may_have_input_norms)?;
        if family == Family::Gemma3 && !rule.input_norms {
            return Err(Error::Unsupported(format!(
                "a {model_type} model without {}; this version runs BitNet embedding models of that type",
                fields.name("quantization_config.use_rms_norm")
            )));
        }

        let width = fields.required_size("hidden_size")?;
        let layers = layers(fields)?;
        let heads = heads(fields, width)?;
        let context = fields.required_size("max_position_embeddings")?;
        let parameters = match family {
            Family::Gemma3 => windows::parameters(fields, "full_attention")?,
            _ => rope::parameters(fields)?,
        };
        let Rotations { rope, long_rope, keys: rope_keys } =
            rope::read(fields, parameters, heads.head_dim, context, default_theta(family))?;
        let (activation, activation_why) = activation(fields, family)?;
        let (numerics, numerics_why) = rule.numerics();
        let config = Config {
            architecture: model_type.to_owned(),
            layers,
            width,
            ffn_width: fields.required_size("intermediate_size")?,
            heads,
            vocabulary: fields.required_size("vocab_size")?,
            context,
            norm_epsilon: epsilon(fields)?,
            rope,
            long_rope,
            windows: if family == Family::Gemma3 { windows::read(fields, layers, heads.head_dim)? } else { None },
            activation,
            numerics,
            sub_norms,
            head_norms: head_norms(fields, family)?,
            input_norms: rule.input_norms,
            post_norms: family == Family::Gemma3,
            factors: factors(fields, family, layers, width)?,
            pooling: rule.input_norms.then_some(Pooling::LastToken),
        };
        let (ties_head, head_why) = match fields.boolean("tie_word_embeddings")? {
            Some(false) if config.pooling.is_some() && !has(Role::Head) => {
                (true, "the checkpoint has no lm_head, and vectors of texts need none")
            }
            Some(ties) => (ties, "config.json has tie_word_embeddings"),
            None if has(Role::Head) => (false, "config.json does not say, and the checkpoint has lm_head"),
            None => (true, "config.json does not say, and the checkpoint has no lm_head"),
        };
        let head = if ties_head { "tied to the embedding" } else { "its own matrix" };
        let mut decisions = vec![
            Decision::new("activation", format!("{activation:?}"), activation_why),
            Decision::new("rotary pairs", format!("{:?}", RopePairs::Half), "checkpoints in this form have them so"),
            Decision::new("numerics", numerics.to_string(), numerics_why),
            Decision::new("head", head, head_why),
        ];
        let gains_less_one = family == Family::Gemma3;
        if gains_less_one {
            let choice = "one is added to the gains, but not to those before linear layers";
            decisions.push(Decision::new("norms", choice, format!("checkpoints of {model_type} hold gains less one")));
        }
        Ok(Self { config, rule, ties_head, gains_less_one, rope_keys, decisions })
    }
}

fn family<'a>(fields: Fields<'a>) -> Result<(&'a str, Family)> {
    let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
    if is_1bitllm(fields)? {
        return Ok((model_type, Family::BitNet)); // 1bitLLM's own code calls its models llama
    }
    match FAMILIES.iter().find(|(name, _)| *name == model_type) {
        Some((_, family)) => Ok((model_type, *family)),
        None => {
            let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            Err(Error::Unsupported(format!(
                "the model type {}; this version runs {} in this form, and more as GGUF files",
                quoted(model_type),
                known.join(", ")
            )))
        }
    }
}

/// 1bitLLM's models come with code of their own, and say so by the name of its class.
fn is_1bitllm(fields: Fields) -> Result<bool> {
    let classes = fields.list("architectures")?.map_or(&[][..], Vec::as_slice);
    Ok(classes.iter().any(|class| class == "BitnetForCausalLM"))
}

/// Fields that make another network of the same tensors.
fn refuse_other_networks(fields: Fields, family: Family) -> Result<()> {
    for name in ["use_sliding_window", "attention_bias", "mlp_bias", "use_cla", "use_bidirectional_attention"] {
        if fields.boolean(name)? == Some(true) {
            return Err(Error::Unsupported(format!(
                "{} is true; this version knows models without",
                fields.name(name)
            )));
        }
    }
    let kinds = fields.list("layer_types")?.map_or(&[][..], Vec::as_slice);
    let has_windows = family == Family::Gemma3;
    if let Some(kind) = kinds.iter().find(|kind| *kind != "full_attention" && !has_windows) {
        let (name, kind) = (fields.name("layer_types"), quoted(&kind.to_string()));
        return Err(Error::Unsupported(format!("{name} has {kind}; this version knows full_attention")));
    }
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if fields.get(name).is_some() {
            return Err(Error::Unsupported(format!("{}; this version knows models without", fields.name(name))));
        }
    }
    for (name, only) in [("partial_rotary_factor", 1.0), ("attention_multiplier", 1.0), ("num_experts", 1.0)] {
        if let Some(value) = fields.get(name).filter(|value| value.as_f64() != Some(only)) {
            let value = quoted(&value.to_string());
            return Err(Error::Unsupported(format!("{} is {value}; this version knows {only}", fields.name(name))));
        }
    }
    Ok(())
}

fn layers(fields: Fields) -> Result<usize> {
    match fields.required_size("num_hidden_layers")? {
        layers if layers as u64 <= MOST_LAYERS => Ok(layers),
        layers => {
            let name = fields.name("num_hidden_layers");
            Err(Error::Model(format!("{name} is {layers}; it must be 1 to {MOST_LAYERS}")))
        }
    }
}

fn heads(fields: Fields, width: usize) -> Result<Heads> {
    let heads = fields.required_size("num_attention_heads")?;
    let kv_heads = fields.size("num_key_value_heads")?.unwrap_or(heads);
    let named = fields.size("head_dim")?.or(fields.size("attention_head_dim")?);
    let head_dim = named.unwrap_or(width / heads);
    if heads % kv_heads != 0 {
        let name = fields.name("num_key_value_heads");
        return Err(Error::Model(format!("{heads} query heads cannot share {kv_heads} key heads ({name})")));
    }
    if head_dim == 0 || head_dim % 2 != 0 || head_dim as u64 > LARGEST_HEAD {
        let name = fields.name("head_dim");
        return Err(Error::Unsupported(format!(
            "heads of {head_dim} features ({name}, or hidden_size / num_attention_heads); they must be even and at most \
             {LARGEST_HEAD}"
        )));
    }
    if heads as u64 * head_dim as u64 > LARGEST_SIZE {
        return Err(Error::Model(format!("{heads} heads of {head_dim} features are larger than any model")));
    }
    Ok(Heads { heads, kv_heads, head_dim })
}

fn epsilon(fields: Fields) -> Result<f32> {
    match fields.float("rms_norm_eps")?.ok_or_else(|| fields.missing("rms_norm_eps"))? {
        // Of the f32, because the smallest f64 become 0 there, and a norm would divide by it.
        epsilon if epsilon as f32 > 0.0 && epsilon < 1.0 => Ok(epsilon as f32),
        epsilon => {
            let name = fields.name("rms_norm_eps");
            Err(Error::Model(format!("{name} is {epsilon}; it must be between 0 and 1")))
        }
    }
}

fn activation(fields: Fields, family: Family) -> Result<(Activation, &'static str)> {
    let (field, named) = match family {
        Family::Gemma3 => ("hidden_activation", "config.json has hidden_activation"),
        _ => ("hidden_act", "config.json has hidden_act"),
    };
    match fields.text(field)? {
        Some("silu" | "swish") => Ok((Activation::Silu, named)),
        Some("relu2") => Ok((Activation::SquaredRelu, named)),
        Some("gelu_pytorch_tanh") => Ok((Activation::Gelu, named)),
        None if family == Family::Gemma3 => {
            Ok((Activation::Gelu, "config.json does not say, and the family uses it in its tanh form"))
        }
        None if family != Family::BitNet => Ok((Activation::Silu, "config.json does not say, and the family uses it")),
        None => Err(fields.missing(field)),
        Some(other) => {
            let (name, other) = (fields.name(field), quoted(other));
            Err(Error::Unsupported(format!("{name} is {other}; known are silu, relu2 and gelu_pytorch_tanh")))
        }
    }
}

/// What the families' own code takes where a config leaves the base of the rotations out.
fn default_theta(family: Family) -> f64 {
    match family {
        Family::BitNet => 500_000.0,
        Family::Gemma3 => 1_000_000.0,
        _ => 10_000.0,
    }
}

fn head_norms(fields: Fields, family: Family) -> Result<Option<HeadNormOrder>> {
    Ok(match family {
        Family::Qwen3 | Family::Gemma3 => Some(HeadNormOrder::BeforeRope),
        Family::Hunyuan if fields.boolean("use_qk_norm")? == Some(false) => None,
        Family::Hunyuan => Some(HeadNormOrder::AfterRope),
        Family::BitNet | Family::Llama | Family::MiniCpm => None,
    })
}

/// The factors around the layers: three of MiniCPM (arXiv 2404.06395), and Gemma's of the embeddings.
fn factors(fields: Fields, family: Family, layers: usize, width: usize) -> Result<Factors> {
    match family {
        Family::MiniCpm => {}
        Family::Gemma3 => return Ok(Factors { embedding: (width as f64).sqrt() as f32, ..Factors::default() }),
        _ => return Ok(Factors::default()),
    }
    let read = |name: &str| {
        let value = fields.float(name)?.ok_or_else(|| fields.missing(name))?;
        check_factor(value, &fields.name(name))
    };
    Ok(Factors {
        embedding: read("scale_emb")? as f32,
        residual: (read("scale_depth")? / (layers as f64).sqrt()) as f32,
        logits: (width as f64 / read("dim_model_base")?) as f32,
    })
}
