//! Rotary position embedding as `config.json` describes it: `rope_theta` and `rope_scaling`, or both within
//! `rope_parameters`, as newer versions of transformers write them. Rows of queries and keys are never permuted here.

use std::f64::consts::TAU;

use super::Fields;
use crate::backend::{Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Value, quoted};
use crate::model::Role;
use crate::model::config::{Architecture, LongRope, RopeKeys, Yarn, check_factor, check_theta, divide};

/// The object that says how rotations are stretched, and in newer files their base.
pub(super) fn parameters(fields: Fields<'_>) -> Result<Option<Fields<'_>>> {
    match fields.object("rope_parameters", "rope_parameters.")? {
        Some(parameters) => Ok(Some(parameters)),
        None => fields.object("rope_scaling", "rope_scaling."),
    }
}

/// The rotations, those of long sequences where they differ, and how a GGUF file says all that.
pub(super) struct Rotations {
    pub(super) rope: Rope,
    pub(super) long_rope: Option<LongRope>,
    pub(super) keys: RopeKeys,
}

pub(super) fn read(
    fields: Fields,
    parameters: Option<Fields>,
    turned: usize,
    context: usize,
    architecture: &Architecture,
) -> Result<Rotations> {
    let inner = parameters.map(|parameters| parameters.float("rope_theta")).transpose()?.flatten();
    let theta = fields.float("rope_theta")?.or(inner).unwrap_or(architecture.theta);
    let theta = check_theta(theta, &fields.name("rope_theta"))?;
    let rope = Rope::new(RopePairs::Half, theta, turned, 1.0);
    let keys = RopeKeys { theta, ..RopeKeys::default() };
    let mut rotations = Rotations { rope, long_rope: None, keys };
    let Some(scaling) = parameters.map(|parameters| Scaling { fields: parameters, context }) else {
        return Ok(rotations);
    };
    match architecture.has_delta_net {
        // Of a text, all positions of a row are equal, so that its pairs need not be told apart.
        true => rotations.keys.sections = scaling.sections()?,
        false => scaling.refuse_parts()?,
    }
    let kind = scaling.fields.text("rope_type")?.or(scaling.fields.text("type")?).unwrap_or("default");
    match kind {
        "default" | "none" => {}
        "linear" => {
            let factor = scaling.factor("factor")?;
            rotations.rope = Rope::new(RopePairs::Half, theta, turned, factor);
            rotations.keys.scaling = vec![text("linear"), number("factor", factor)];
        }
        "llama3" => {
            let plain = rotations.rope.frequencies.clone();
            scaling.llama3(&mut rotations.rope)?;
            let divisors = plain.iter().zip(&rotations.rope.frequencies).map(|(plain, scaled)| (plain / scaled) as f32);
            rotations.keys.divisors = vec![(Role::RopeFactors, divisors.collect())];
        }
        "yarn" => {
            let yarn = scaling.yarn()?;
            yarn.apply(&mut rotations.rope, theta);
            rotations.keys.scaling = yarn_keys(&yarn);
        }
        "longrope" | "su" => scaling.long(&mut rotations)?,
        // Hunyuan's: a larger base, the same at every length.
        "dynamic" if scaling.fields.get("alpha").is_some() && turned > 2 => {
            let dims = turned as f64;
            let theta = theta * scaling.factor("alpha")?.powf(dims / (dims - 2.0));
            let theta = check_theta(theta, &scaling.fields.name("alpha"))?;
            rotations.rope = Rope::new(RopePairs::Half, theta, turned, 1.0);
            rotations.keys.theta = theta;
        }
        other => {
            let name = scaling.fields.name("rope_type");
            return Err(Error::Unsupported(format!(
                "{name} is {}; known are default, linear, llama3, yarn and longrope",
                quoted(other)
            )));
        }
    }
    Ok(rotations)
}

fn text(kind: &str) -> (&'static str, Value) {
    ("rope.scaling.type", Value::String(kind.into()))
}

/// A key of a number; readers want f32.
fn number(name: &'static str, value: f64) -> (&'static str, Value) {
    let key = match name {
        "factor" => "rope.scaling.factor",
        "beta_fast" => "rope.scaling.yarn_beta_fast",
        "beta_slow" => "rope.scaling.yarn_beta_slow",
        _ => "rope.scaling.attn_factor",
    };
    (key, Value::Float(f64::from(value as f32)))
}

fn original(positions: usize) -> (&'static str, Value) {
    ("rope.scaling.original_context_length", Value::Unsigned(positions as u64))
}

fn yarn_keys(yarn: &Yarn) -> Vec<(&'static str, Value)> {
    let mut keys = vec![text("yarn"), number("factor", yarn.factor), original(yarn.original_context)];
    if (yarn.beta_fast, yarn.beta_slow) != Yarn::BETAS {
        keys.extend([number("beta_fast", yarn.beta_fast), number("beta_slow", yarn.beta_slow)]);
    }
    // GGUF's is a factor of the usual magnitude.
    let attention = yarn.magnitude / Yarn::usual_magnitude(yarn.factor);
    if attention != 1.0 {
        keys.push(number("attn_factor", attention));
    }
    keys
}

struct Scaling<'a> {
    fields: Fields<'a>,
    context: usize,
}

impl Scaling<'_> {
    fn optional(&self, name: &str) -> Result<Option<f64>> {
        self.fields.float(name)?.map(|factor| check_factor(factor, &self.fields.name(name))).transpose()
    }

    fn factor(&self, name: &str) -> Result<f64> {
        self.optional(name)?.ok_or_else(|| self.fields.missing(name))
    }

    /// Rotations of some features only, and of several positions.
    fn refuse_parts(&self) -> Result<()> {
        for (name, neutral) in
            [("partial_rotary_factor", Some(1.0)), ("mrope_section", None), ("mrope_interleaved", None)]
        {
            let value = self.fields.get(name).filter(|value| neutral.is_none() || value.as_f64() != neutral);
            if let Some(value) = value.filter(|value| value.as_bool() != Some(false)) {
                let (name, value) = (self.fields.name(name), quoted(&value.to_string()));
                return Err(Error::Unsupported(format!(
                    "{name} is {value}; this version knows rotations of whole heads by one position"
                )));
            }
        }
        Ok(())
    }

    /// How the pairs are shared out between the positions of an image, for those who read such files.
    fn sections(&self) -> Result<Vec<i32>> {
        const NAME: &str = "mrope_section";
        let Some(list) = self.fields.list(NAME)? else { return Ok(Vec::new()) };
        let counts: Option<Vec<i32>> = list.iter().map(|n| i32::try_from(n.as_u64()?).ok()).collect();
        match counts.filter(|counts| (3..=4).contains(&counts.len())) {
            Some(counts) => Ok(counts),
            None => Err(Error::Model(format!("{} must hold three or four counts", self.fields.name(NAME)))),
        }
    }

    fn original_context(&self) -> Result<usize> {
        Ok(self.fields.size("original_max_position_embeddings")?.unwrap_or(self.context))
    }

    /// Llama 3.1: slow rotations are stretched, fast ones are left, and those between lie between.
    fn llama3(&self, rope: &mut Rope) -> Result<()> {
        let (factor, low, high) =
            (self.factor("factor")?, self.factor("low_freq_factor")?, self.factor("high_freq_factor")?);
        let original = self.original_context()? as f64;
        if low >= high {
            let name = self.fields.name("low_freq_factor");
            return Err(Error::Model(format!("{name} is {low}; it must be below high_freq_factor, {high}")));
        }
        for frequency in &mut rope.frequencies {
            let turns = original * *frequency / TAU; // in the original context
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            *frequency *= kept + (1.0 - kept) / factor;
        }
        Ok(())
    }

    fn yarn(&self) -> Result<Yarn> {
        for name in ["mscale", "mscale_all_dim"] {
            if self.fields.get(name).is_some() {
                return Err(Error::Unsupported(format!("{}, a variant of YaRN", self.fields.name(name))));
            }
        }
        if self.fields.boolean("truncate")? == Some(false) {
            return Err(Error::Unsupported(format!("{} is false", self.fields.name("truncate"))));
        }
        let factor = self.factor("factor")?;
        Ok(Yarn {
            factor,
            original_context: self.original_context()?,
            beta_fast: self.optional("beta_fast")?.unwrap_or(Yarn::BETAS.0),
            beta_slow: self.optional("beta_slow")?.unwrap_or(Yarn::BETAS.1),
            magnitude: self.optional("attention_factor")?.unwrap_or(Yarn::usual_magnitude(factor)),
        })
    }

    /// LongRoPE (arXiv 2402.13753): factors of each pair, for short sequences and for long ones. Cosines and sines grow with
    /// the context that the model gained.
    fn long(&self, rotations: &mut Rotations) -> Result<()> {
        let beyond = self.original_context()?;
        let gained = self.context as f64 / beyond as f64;
        let magnitude = match self.optional("attention_factor")? {
            Some(magnitude) => magnitude,
            None if gained > 1.0 && beyond > 1 => (1.0 + gained.ln() / (beyond as f64).ln()).sqrt(),
            None => 1.0,
        };
        let Rotations { rope, long_rope, keys } = rotations;
        rope.magnitude = magnitude;
        let mut frequencies = rope.frequencies.clone();
        let long = self.divide("long_factor", &mut frequencies)?;
        let short = self.divide("short_factor", &mut rope.frequencies)?;
        keys.scaling = vec![text("longrope"), original(beyond)];
        if magnitude != 1.0 {
            keys.scaling.push(number("attn_factor", magnitude));
        }
        keys.divisors = vec![(Role::ShortRopeFactors, short), (Role::LongRopeFactors, long)];
        *long_rope = Some(LongRope { beyond, frequencies });
        Ok(())
    }

    /// Divides by the factors of a list, and returns them.
    fn divide(&self, name: &str, frequencies: &mut [f64]) -> Result<Vec<f32>> {
        let list = self.fields.list(name)?.ok_or_else(|| self.fields.missing(name))?;
        let factors: Option<Vec<f32>> = list.iter().map(|value| value.as_f64().map(|value| value as f32)).collect();
        match factors.filter(|factors| factors.len() == frequencies.len()) {
            Some(factors) => {
                divide(frequencies, &factors, &self.fields.name(name))?;
                Ok(factors)
            }
            None => {
                let (name, pairs) = (self.fields.name(name), frequencies.len());
                Err(Error::Model(format!("{name} must hold {pairs} numbers, one for each rotary pair")))
            }
        }
    }
}
