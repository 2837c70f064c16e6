//! How a checkpoint says that its weights become trits: `quantization_config`, or nothing at all where they are trits
//! already.

use super::Fields;
use crate::backend::Numerics;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::model::config::{Architecture, InputNorms};

/// How a role's weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::model::huggingface) enum Form {
    /// Floats of the tensor's number format.
    Floats,
    /// Four trits of four rows in a byte, one scale for the tensor.
    Packed,
    /// Integers of so many bits in 32-bit words, with a scale and a bias for each so many columns (MLX).
    Words { bits: usize, columns: usize },
}

/// How the linear layers' weights become trits and scales.
#[derive(Clone, Copy, Debug)]
pub(in crate::model::huggingface) struct WeightRule {
    /// Whether `weight_scale` divides the trits; it multiplies them otherwise.
    scale_divides: bool,
    /// Whether floats are latent weights, to be rounded by the mean of their magnitudes; they must be trits already
    /// otherwise.
    pub(in crate::model::huggingface) rounds_floats: bool,
    /// Whether the config, or the class that it names, says that activations are int8.
    is_bitnet: bool,
    /// Whether each linear layer has a norm of its own before it.
    pub(in crate::model::huggingface) input_norms: bool,
    /// Whether the config says what a `weight_scale` does to packed trits.
    knows_packed: bool,
    /// Whether the config says that MLX made integers of the weights; their shapes say which.
    says_integers: bool,
    why: &'static str,
}

/// What transformers takes where a `quantization_config` has norms before its linear layers and no epsilon for them.
const DEFAULT_EPSILON: f64 = 1e-6;

impl WeightRule {
    pub(super) fn read(fields: Fields, architecture: &Architecture) -> Result<Self> {
        let none = Self {
            scale_divides: true,
            rounds_floats: false,
            is_bitnet: false,
            input_norms: false,
            knows_packed: false,
            says_integers: fields.get("quantization").is_some(),
            why: "config.json says nothing",
        };
        if fields.get("compression_config").is_some() {
            let name = fields.name("compression_config");
            return Err(Error::Unsupported(format!(
                "{name}: weights compressed in a way that this version does not know"
            )));
        }
        let Some(quantization) = fields.object("quantization_config", "quantization_config.")? else {
            return Ok(match architecture.latent_floats {
                Some(why) => Self { rounds_floats: true, is_bitnet: true, why, ..none },
                None => none,
            });
        };
        match quantization.text("quant_method")? {
            Some("bitnet") => {
                let input_norms = has_input_norms(fields, quantization, architecture)?;
                Self::bitnet(quantization, input_norms)
            }
            // MLX writes its own fields under this name too.
            None if quantization.get("bits").is_some() => match quantization.text("mode")? {
                None | Some("affine") => {
                    Ok(Self { says_integers: true, why: "config.json has the fields of MLX", ..none })
                }
                Some(mode) => {
                    let (name, mode) = (quantization.name("mode"), quoted(mode));
                    Err(Error::Unsupported(format!("{name} is {mode}; known is affine")))
                }
            },
            None => Err(quantization.missing("quant_method")),
            Some(other) => {
                let (name, other) = (quantization.name("quant_method"), quoted(other));
                Err(Error::Unsupported(format!("{name} is {other}; known is bitnet")))
            }
        }
    }

    fn bitnet(fields: Fields, input_norms: bool) -> Result<Self> {
        let unknown = |name: &str, value: &str, known: &str| {
            Err(Error::Unsupported(format!("{} is {}; known are {known}", fields.name(name), quoted(value))))
        };
        for module in fields.list("modules_to_not_convert")?.into_iter().flatten() {
            let module = module.as_str().unwrap_or_default();
            if !module.ends_with("lm_head") && !module.ends_with("embed_tokens") {
                let name = fields.name("modules_to_not_convert");
                return Err(Error::Unsupported(format!("{name} names {}, not only lm_head", quoted(module))));
            }
        }
        let is_auto = match fields.text("linear_class")? {
            None | Some("bitlinear") => false,
            Some("autobitlinear") => true,
            Some(other) => return unknown("linear_class", other, "bitlinear and autobitlinear"),
        };
        let is_online = match fields.text("quantization_mode")? {
            None | Some("offline") => false,
            Some("online") => true,
            Some(other) => return unknown("quantization_mode", other, "offline and online"),
        };
        let why = match (is_auto, is_online) {
            (false, _) => "the linear class is bitlinear",
            (true, false) => "the linear class is autobitlinear",
            (true, true) => "the linear class is autobitlinear, its mode online",
        };
        Ok(Self {
            scale_divides: !is_auto,
            rounds_floats: is_auto && is_online,
            is_bitnet: true,
            input_norms,
            knows_packed: true,
            says_integers: false,
            why,
        })
    }

    /// What the activations are held in, and why.
    pub(super) fn numerics(&self) -> (Numerics, &'static str) {
        match self.is_bitnet {
            true => (Numerics::Int8Rows, "BitNet models were trained with them"),
            false => (
                Numerics::Int8Groups,
                "config.json asks for no int8 activations, as BitNet models do; these come close to floats",
            ),
        }
    }

    /// Whether the model is of the BitNet kind, which keeps embeddings and head in floats.
    pub(in crate::model::huggingface) fn is_bitnet(&self) -> bool {
        self.is_bitnet
    }

    /// The factor of trits, from the stored scale.
    pub(in crate::model::huggingface) fn factor(&self, stored: f32) -> f32 {
        if self.scale_divides { 1.0 / stored } else { stored }
    }

    /// Refuses linear layers in a form that the config does not describe: it lost its section, or has another model's.
    pub(in crate::model::huggingface) fn check(&self, form: Form) -> Result<()> {
        if form != Form::Packed || self.knows_packed {
            return Ok(());
        }
        Err(Error::Model(
            "the linear layers are packed trits (U8), but config.json has no \"quantization_config\" of quant_method bitnet: \
             whether weight_scale divides or multiplies, and how activations are held, is said nowhere else"
                .into(),
        ))
    }

    /// What is done with linear layers of a form.
    pub(in crate::model::huggingface) fn decision(&self, form: Form) -> Decision {
        let choice = match form {
            Form::Packed if self.scale_divides => "packed trits, divided by weight_scale",
            Form::Packed => "packed trits, multiplied by weight_scale",
            Form::Floats if self.rounds_floats => "latent floats, rounded by the mean of their magnitudes",
            Form::Floats => "floats that are ternary already; each is checked",
            Form::Words { .. } => "MLX integers of 2 bits with a scale a group, each checked to be trits",
        };
        let decision = Decision::new("linear layers", choice, self.why);
        let is_unsaid = matches!(form, Form::Words { .. }) && !self.says_integers;
        if is_unsaid { decision.warned() } else { decision }
    }
}

/// Whether each linear layer has a norm of its own before it. All norms of a model share one epsilon here, as they do in
/// the published ones.
fn has_input_norms(fields: Fields, quantization: Fields, architecture: &Architecture) -> Result<bool> {
    if quantization.boolean("use_rms_norm")? != Some(true) {
        return Ok(false);
    }
    if architecture.input_norms == InputNorms::Unknown {
        let name = quantization.name("use_rms_norm");
        return Err(Error::Unsupported(format!(
            "{name} is true: each linear layer would have a norm of its own, which no published model of this form has"
        )));
    }
    let (own, all) = (quantization.float("rms_norm_eps")?.unwrap_or(DEFAULT_EPSILON), fields.float("rms_norm_eps")?);
    if all.is_some_and(|all| all as f32 != own as f32) {
        let (own_name, name) = (quantization.name("rms_norm_eps"), fields.name("rms_norm_eps"));
        return Err(Error::Unsupported(format!(
            "{own_name} is {own}, and {name} is another; this version knows one for all norms"
        )));
    }
    Ok(true)
}
