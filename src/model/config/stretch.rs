//! Rotations that a caller stretches, to go beyond the context that a model was trained for: as if the file's keys said so.

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, Value, quoted};
use crate::model::Config;
use crate::model::config::keys::Keys;
use crate::model::config::{Architecture, LARGEST_SIZE};

/// How rotations are stretched, so that a model reads more positions than it was trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all, also where the file says otherwise.
    None,
    /// All by one factor (arXiv 2306.15595). Models want a little training for it.
    Linear {
        /// How much longer the context becomes; at least 1.
        factor: f64,
    },
    /// Slow ones by a factor, fast ones not (YaRN, arXiv 2309.00071), as models' cards recommend for long texts.
    Yarn {
        /// How much longer the context becomes; at least 1.
        factor: f64,
    },
}

impl RopeScaling {
    /// The scaling of that name: `none`, or `linear` or `yarn` with a factor.
    ///
    /// # Errors
    /// [`Error::Input`] for another name, or a factor that is missing or too much.
    pub fn named(name: &str, factor: Option<f64>) -> Result<Self> {
        match (name, factor) {
            ("none", None) => Ok(RopeScaling::None),
            ("none", Some(_)) => Err(Error::Input("rotations that are not scaled have no factor".into())),
            ("linear", Some(factor)) => Ok(RopeScaling::Linear { factor }),
            ("yarn", Some(factor)) => Ok(RopeScaling::Yarn { factor }),
            ("linear" | "yarn", None) => Err(Error::Input(format!(
                "the scaling {name} needs a factor: how much longer the context becomes, such as 4"
            ))),
            _ => {
                Err(Error::Input(format!("{} is no scaling of rotations; there are none, linear, yarn", quoted(name))))
            }
        }
    }

    /// Its name in files.
    fn name(self) -> &'static str {
        match self {
            RopeScaling::None => "none",
            RopeScaling::Linear { .. } => "linear",
            RopeScaling::Yarn { .. } => "yarn",
        }
    }

    fn factor(self) -> f64 {
        match self {
            RopeScaling::None => 1.0,
            RopeScaling::Linear { factor } | RopeScaling::Yarn { factor } => factor,
        }
    }
}

/// Keys that say how far rotations are stretched. What else there is of YaRN stays as the file has it.
const STRETCHING: [&str; 4] =
    ["rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scale_linear"];

impl Config {
    /// The network with rotations stretched as asked, whose keys are `metadata`; these too, changed so that they say it.
    /// `has_divisors` says whether rotations have divisors of their own.
    pub(in crate::model) fn stretched(
        &self,
        metadata: &Metadata,
        has_divisors: bool,
        scaling: RopeScaling,
    ) -> Result<(Self, Metadata, Decision)> {
        let (asked, factor) = (scaling.name(), scaling.factor());
        let refused = |why: &str| Err(Error::Unsupported(format!("rotations scaled by {asked}: {why}")));
        if !factor.is_finite() || factor < 1.0 {
            return Err(Error::Input(format!("rotations scaled by {factor}; a factor is at least 1 and finite")));
        }
        if has_divisors || self.long_rope.is_some() {
            return refused("the model has divisors of its own for each rotation");
        }
        if self.windows.is_some() {
            return refused(
                "the model has layers that see only the latest positions, and rotations of their own there",
            );
        }
        let (architecture, _) = Architecture::of_gguf(metadata)?;
        let keys = Keys { metadata, architecture };
        let (stored, trained) = keys.stretching(self.context)?;
        if stored != "none" && asked != "none" && stored != asked {
            return refused(&format!("the file has them scaled by {stored}, and what both would do is not known"));
        }
        let context = trained * factor;
        if context > LARGEST_SIZE as f64 {
            return Err(Error::Input(format!("a context of {context}; the most is {LARGEST_SIZE}")));
        }
        let context = context as usize;
        let name = |key: &str| keys.name(key);
        let is_kept = |key: &str| key != name("context_length") && !STRETCHING.iter().any(|other| key == name(other));
        let kept = metadata.iter().filter(|(key, _)| is_kept(key));
        let mut pairs: Vec<(String, Value)> = kept.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        pairs.push((name("context_length"), Value::Unsigned(context as u64)));
        pairs.push((name("rope.scaling.type"), Value::String(asked.into())));
        if scaling != RopeScaling::None {
            pairs.push((name("rope.scaling.factor"), Value::Float(factor)));
            pairs.push((name("rope.scaling.original_context_length"), Value::Unsigned(trained as u64)));
        }
        let metadata = Metadata::new(pairs);
        let rope = Keys { metadata: &metadata, architecture }.rope(self.heads.head_dim, self.rope.pairs)?;
        let by = if scaling == RopeScaling::None { String::new() } else { format!(" by {factor}") };
        let choice = format!("{asked}{by}: {context} positions, of a model that was trained for {}", trained as usize);
        let stored = if stored == "none" { String::new() } else { format!("; the file says {stored}") };
        let decision = Decision::new("rope scaling", choice, format!("asked for by the caller{stored}"));
        Ok((Self { context, rope, ..self.clone() }, metadata, decision))
    }
}

impl Keys<'_> {
    /// The scaling of a file without divisors, and the positions that it was trained for before it.
    fn stretching(&self, context: usize) -> Result<(&'static str, f64)> {
        let linear = self.linear_scaling()?;
        match self.metadata.string(&self.name("rope.scaling.type"))?.unwrap_or("linear") {
            "yarn" => Ok(("yarn", self.yarn()?.original_context as f64)),
            "linear" if linear != 1.0 => Ok(("linear", (context as f64 / linear).floor().max(1.0))),
            _ => Ok(("none", context as f64)),
        }
    }
}
