//! `config.json` as a [`Config`]: which architecture the model has, its sizes, and how its weights become trits.

mod delta_net;
mod hadamard;
mod other_networks;
mod quantization;
mod rope;
mod windows;

use std::path::Path;

use super::fields::{ConfigFile, Fields};
use crate::backend::{Activation, HeadNormOrder, RopePairs};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::format::safetensors::Checkpoint;
use crate::model::config::{
    Architecture, Config, Factors, Hadamard, InputNorms, JSON, Pooling, RopeKeys, Sizes, WindowKeys, activation_named,
    check_factor,
};
use crate::model::huggingface::names;
use crate::model::{Part, Role};

pub(super) use quantization::{Form, WeightRule};
use rope::Rotations;

/// The object that describes the network of texts in a larger model.
const TEXT_CONFIG: &str = "text_config";

/// What a directory is, before its tensors are looked for.
pub(super) struct Description {
    pub(super) config: Config,
    pub(super) architecture: &'static Architecture,
    pub(super) rule: WeightRule,
    pub(super) ties_head: bool,
    /// Whether one is to be added to the gains of norms.
    pub(super) gains_less_one: bool,
    pub(super) rope_keys: RopeKeys,
    pub(super) decisions: Vec<Decision>,
}

impl Description {
    /// # Errors
    /// [`Error::Unsupported`] for what this version cannot run, [`Error::Model`] for missing or impossible values; both name
    /// the field.
    pub(super) fn read(directory: &Path, file: &ConfigFile, checkpoint: &Checkpoint) -> Result<Self> {
        let outer = file.fields();
        let model_type = outer.text("model_type")?.ok_or_else(|| outer.missing("model_type"))?;
        let classes = outer.list("architectures")?.map_or(&[][..], Vec::as_slice);
        let architecture =
            Architecture::of_directory(model_type, |class| classes.iter().any(|listed| listed == class))?;
        // Of a network that is a part of a larger one, what all of it shares stands outside.
        let inner = match architecture.inner_config {
            Some(TEXT_CONFIG) => outer.object(TEXT_CONFIG, "text_config.")?,
            _ => None,
        };
        let fields = inner.unwrap_or(outer);
        // The choice between two names of one thing, and between two code bases of one network.
        let has = |role: Role| {
            let prefix = names::prefix(checkpoint);
            names::stems(role, prefix, architecture.names)
                .iter()
                .any(|stem| checkpoint.tensor(&format!("{stem}.weight")).is_some())
        };
        let sub_norms = architecture.sub_norms || has(Role::Layer(0, Part::AttentionSubNorm));
        let rule = WeightRule::read(outer, architecture)?;
        if architecture.input_norms == InputNorms::Needed && !rule.input_norms {
            return Err(Error::Unsupported(format!(
                "a {model_type} model without {}; this version runs BitNet embedding models of that type",
                fields.name("quantization_config.use_rms_norm")
            )));
        }

        let sizes = Sizes::read(&fields, &JSON)?;
        other_networks::refuse(fields, architecture, &sizes)?;
        let vocabulary = fields.required_size("vocab_size")?;
        let head_dim = sizes.heads.head_dim;
        let (parameters, windows) = match architecture.windows == WindowKeys::Pattern {
            true => (windows::parameters(fields, "full_attention")?, windows::read(fields, sizes.layers, head_dim)?),
            false => (rope::parameters(fields)?, None),
        };
        let has_delta_net = architecture.has_delta_net;
        let turned = if has_delta_net { delta_net::turned(fields, parameters, head_dim)? } else { head_dim };
        let Rotations { rope, long_rope, keys: rope_keys } =
            rope::read(fields, parameters, turned, sizes.context, architecture)?;
        let (activation, activation_why) = activation(fields, architecture, &sizes, vocabulary)?;
        let (numerics, numerics_why) = rule.numerics();
        let mut config = Config {
            architecture: model_type.to_owned(),
            layers: sizes.layers,
            width: sizes.width,
            ffn_width: sizes.ffn_width,
            heads: sizes.heads,
            vocabulary,
            context: sizes.context,
            norm_epsilon: sizes.norm_epsilon,
            rope,
            long_rope,
            windows,
            hadamard: None,
            delta_net: if has_delta_net { delta_net::read(fields, sizes.layers)? } else { None },
            attention_gate: has_delta_net,
            mixture: None,
            activation,
            numerics,
            sub_norms,
            head_norms: head_norms(fields, architecture)?,
            input_norms: rule.input_norms,
            post_norms: architecture.post_norms,
            factors: factors(fields, architecture, &sizes)?,
            pooling: rule.input_norms.then_some(Pooling::LastToken),
        };
        config.hadamard = hadamard::read(directory, outer, architecture, &config, names::prefix(checkpoint))?;
        let ties = |fields: Fields| fields.boolean("tie_word_embeddings");
        if let (Some(outer), Some(inner)) = (ties(outer)?, ties(fields)?)
            && outer != inner
        {
            let name = fields.name("tie_word_embeddings");
            return Err(Error::Model(format!("{name} is {inner}, and the same field outside of it is {outer}")));
        }
        let said = if let Some(ties) = ties(fields)? { Some(ties) } else { ties(outer)? };
        let (ties_head, head_why) = match said {
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
        if architecture.sub_norms && !rule.is_bitnet() {
            let why = "config.json has no quantization_config, though BitNet models have one; was it lost?";
            decisions
                .push(Decision::new("quantisation", "that of models trained with float activations", why).warned());
        }
        let gains_less_one = architecture.gains_less_one && !(has_delta_net && delta_net::is_converted(checkpoint));
        decisions.extend(config.hadamard.as_ref().map(Hadamard::decision));
        if gains_less_one {
            let choice = "one is added to the gains, but not to those before linear layers";
            decisions.push(Decision::new("norms", choice, format!("checkpoints of {model_type} hold gains less one")));
        }
        Ok(Self { config, architecture, rule, ties_head, gains_less_one, rope_keys, decisions })
    }
}

fn activation(
    fields: Fields,
    architecture: &Architecture,
    sizes: &Sizes,
    vocabulary: usize,
) -> Result<(Activation, String)> {
    let field = architecture.activation_field;
    let Some(text) = fields.text(field)? else {
        if architecture.needs_activation {
            return Err(fields.missing(field));
        }
        let (usual, why) = (architecture.activation)(vocabulary, sizes.width);
        return Ok((usual, format!("config.json does not say, and {why}")));
    };
    let activation = activation_named(text).ok_or_else(|| {
        let (name, text) = (fields.name(field), quoted(text));
        Error::Unsupported(format!("{name} is {text}; known are silu, relu2 and gelu_pytorch_tanh"))
    })?;
    Ok((activation, format!("config.json has {field}")))
}

fn head_norms(fields: Fields, architecture: &Architecture) -> Result<Option<HeadNormOrder>> {
    let said = architecture.head_norms_field.map(|field| fields.boolean(field)).transpose()?.flatten();
    Ok(architecture.head_norms.filter(|_| said != Some(false)))
}

/// The factors around the layers: what the architecture implies, or what the config must say (MiniCPM, arXiv 2404.06395).
fn factors(fields: Fields, architecture: &Architecture, sizes: &Sizes) -> Result<Factors> {
    if !architecture.says_factors {
        return Ok(architecture.factors.map_or_else(Factors::default, |usual| usual(sizes.layers, sizes.width)));
    }
    let read = |name: &str| {
        let value = fields.float(name)?.ok_or_else(|| fields.missing(name))?;
        check_factor(value, &fields.name(name))
    };
    Ok(Factors {
        embedding: read("scale_emb")? as f32,
        residual: (read("scale_depth")? / (sizes.layers as f64).sqrt()) as f32,
        logits: (sizes.width as f64 / read("dim_model_base")?) as f32,
    })
}
