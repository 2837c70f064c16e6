//! Rotary position embedding as files describe it: the base, and what stretches it beyond the trained context.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use crate::backend::{Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::{Value, quoted};
use crate::model::Role;
use crate::model::config::keys::{Keys, check_factor};

/// How much rotations may enlarge what they turn. Those of published models are between 1 and 2.
const MAGNITUDES: RangeInclusive<f64> = 0.01..=100.0;

/// Frequencies for sequences that are longer than a model was first trained for (LongRoPE, arXiv 2402.13753).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongRope {
    /// Sessions with room for more positions than this use them, from the first position on.
    pub beyond: usize,
    /// As [`Rope::frequencies`].
    pub frequencies: Vec<f64>,
}

/// How a GGUF file describes rotations.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct RopeKeys {
    /// The base.
    pub theta: f64,
    /// Keys of what stretches it, without the architecture's name.
    pub scaling: Vec<(&'static str, Value)>,
    /// How pairs are shared out between the positions of an image, where the architecture's files say it.
    pub sections: Vec<i32>,
    /// Tensors of divisors.
    pub divisors: Vec<(Role, Vec<f32>)>,
}

/// Layers that see only the latest positions, between layers that see all (Gemma 3, arXiv 2503.19786).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Windows {
    /// Positions that a windowed layer sees, its own the last of them.
    pub positions: usize,
    /// Of each layer, whether it is one of them.
    pub layers: Vec<bool>,
    /// The rotations of windowed layers.
    pub rope: Rope,
}

/// The frequency of pairs that are not turned.
pub(super) const NO_TURN: f64 = 0.0;

impl Windows {
    /// All but the last layer of each run of so many.
    pub(in crate::model) fn by_pattern(global_every: usize, layers: usize) -> Vec<bool> {
        (1..=layers).map(|layer| !layer.is_multiple_of(global_every)).collect()
    }

    /// How long such runs are, told by the first layer that sees all; one more than there are layers where none does.
    pub(in crate::model) fn pattern(&self) -> usize {
        self.layers.iter().position(|is_windowed| !is_windowed).unwrap_or(self.layers.len()) + 1
    }

    /// Whether a layer sees only the latest positions.
    pub fn covers(&self, layer: usize) -> bool {
        self.layers.get(layer) == Some(&true)
    }
}

/// YaRN (arXiv 2309.00071): slow rotations are stretched, fast ones are left, and cosines and sines grow a little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::model) struct Yarn {
    /// How much longer the context became.
    pub factor: f64,
    /// Positions before.
    pub original_context: usize,
    /// Pairs that turn more often than this in the original context are left as they are.
    pub beta_fast: f64,
    /// Pairs that turn less often than this are stretched by the whole factor.
    pub beta_slow: f64,
    /// What cosines and sines are multiplied with.
    pub magnitude: f64,
}

impl Yarn {
    /// The betas of the paper, which files may leave out.
    pub const BETAS: (f64, f64) = (32.0, 1.0);

    /// The magnitude of the paper, where a file does not say.
    pub fn usual_magnitude(factor: f64) -> f64 {
        0.1 * factor.max(1.0).ln() + 1.0
    }

    /// Changes plain frequencies of base `theta`.
    pub fn apply(&self, rope: &mut Rope, theta: f64) {
        let dims = 2.0 * rope.frequencies.len() as f64;
        // The pair that turns `beta` times in the original context.
        let pair = |beta: f64| dims * (self.original_context as f64 / (beta * TAU)).ln() / (2.0 * theta.ln());
        let low = pair(self.beta_fast).floor().max(0.0);
        let high = pair(self.beta_slow).ceil().min(dims - 1.0);
        for (i, frequency) in rope.frequencies.iter_mut().enumerate() {
            let kept = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            *frequency *= kept + (1.0 - kept) / self.factor;
        }
        rope.magnitude = self.magnitude;
    }
}

/// A base of rotary frequencies that is larger than 1 and finite; `place` says where it stands in the file.
pub(in crate::model) fn check_theta(theta: f64, place: &str) -> Result<f64> {
    match theta.is_finite() && theta > 1.0 {
        true => Ok(theta),
        false => Err(Error::Model(format!("{place} is {theta}; it must be larger than 1 and finite"))),
    }
}

impl Keys<'_> {
    /// The rotations of all layers, or of those that see all positions.
    pub(super) fn rope(&self, head_dim: usize, pairs: RopePairs) -> Result<Rope> {
        let dims = self.size_or("rope.dimension_count", head_dim)?;
        if dims % 2 != 0 || dims > head_dim {
            return Err(Error::Model(format!(
                "the key \"{}\" is {dims}; it must be even and at most the head's {head_dim} features",
                self.name("rope.dimension_count")
            )));
        }
        let theta = self.theta("rope.freq_base")?.unwrap_or(10_000.0);
        let kind_name = self.name("rope.scaling.type");
        let kind = self.metadata.string(&kind_name)?.unwrap_or("linear");
        self.check_extrapolation(kind == "yarn")?;
        // Cosines and sines are multiplied with it whatever the type, as in llama.cpp.
        let magnitude = self.magnitude()?;
        match kind {
            "none" => Ok(Rope { magnitude, ..Rope::new(pairs, theta, dims, 1.0) }),
            // The factors of LongRoPE are tensors.
            "linear" | "longrope" => Ok(Rope { magnitude, ..Rope::new(pairs, theta, dims, self.linear_scaling()?) }),
            "yarn" => {
                let mut rope = Rope::new(pairs, theta, dims, 1.0);
                self.yarn()?.apply(&mut rope, theta);
                Ok(rope)
            }
            other => Err(Error::Unsupported(format!(
                "the key \"{kind_name}\" is {}; known are none, linear, yarn and longrope",
                quoted(other)
            ))),
        }
    }

    /// How far fast rotations are left as they are: wholly in YaRN, and not at all without. Negative numbers leave it to the
    /// type, as in llama.cpp.
    fn check_extrapolation(&self, is_yarn: bool) -> Result<()> {
        let name = self.name("rope.scaling.yarn_ext_factor");
        let only = f64::from(u8::from(is_yarn));
        match self.metadata.float(&name)? {
            Some(factor) if factor != only && (factor >= 0.0 || factor.is_nan()) => Err(Error::Unsupported(format!(
                "the key \"{name}\" is {factor}; this version knows {only} with the scaling that the file asks for"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn theta(&self, key: &str) -> Result<Option<f64>> {
        let name = self.name(key);
        let theta = self.metadata.float(&name)?;
        theta.map(|theta| check_theta(theta, &format!("the key \"{name}\""))).transpose()
    }

    /// The factor by which positions are stretched; 1 without scaling. A factor without a type is linear, as in
    /// llama.cpp.
    pub(super) fn linear_scaling(&self) -> Result<f64> {
        let factor = match self.factor("rope.scaling.factor")? {
            None => self.factor("rope.scale_linear")?, // as files of 2023 have it
            factor => factor,
        };
        Ok(factor.unwrap_or(1.0))
    }

    pub(super) fn yarn(&self) -> Result<Yarn> {
        let missing =
            |key| Error::Model(format!("YaRN scaling needs the key \"{}\", which is missing", self.name(key)));
        let factor = self.factor("rope.scaling.factor")?.ok_or_else(|| missing("rope.scaling.factor"))?;
        let original_context = self
            .optional_size("rope.scaling.original_context_length")?
            .ok_or_else(|| missing("rope.scaling.original_context_length"))?;
        let beta = |key, default| Ok::<_, Error>(self.factor(key)?.unwrap_or(default));
        let (beta_fast, beta_slow) =
            (beta("rope.scaling.yarn_beta_fast", Yarn::BETAS.0)?, beta("rope.scaling.yarn_beta_slow", Yarn::BETAS.1)?);
        let attention = self.magnitude()?;
        let magnitude = attention * Yarn::usual_magnitude(factor);
        Ok(Yarn { factor, original_context, beta_fast, beta_slow, magnitude })
    }

    /// What cosines and sines are multiplied with, and so queries and keys.
    fn magnitude(&self) -> Result<f64> {
        let key = "rope.scaling.attn_factor";
        match self.factor(key)? {
            Some(factor) if !MAGNITUDES.contains(&factor) => Err(Error::Model(format!(
                "the key \"{}\" is {factor}; rotations are enlarged by {} to {}",
                self.name(key),
                MAGNITUDES.start(),
                MAGNITUDES.end()
            ))),
            factor => Ok(factor.unwrap_or(1.0)),
        }
    }
}

/// Frequencies divided by factors, one for each pair.
pub(in crate::model) fn divide(frequencies: &mut [f64], factors: &[f32], place: &str) -> Result<()> {
    for (frequency, &factor) in frequencies.iter_mut().zip(factors) {
        *frequency /= check_factor(f64::from(factor), place)?;
    }
    Ok(())
}
