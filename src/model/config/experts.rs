//! A mixture of experts as the keys of a GGUF file describe it, and windows listed layer by layer (Maple).

use super::keys::Keys;
use super::rope::{NO_TURN, Windows};
use crate::backend::{ExpertShape, Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::Value;

/// Feed-forward networks of which each row uses a few (Maple).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mixture {
    /// How many there are, and how many are used.
    pub shape: ExpertShape,
    /// Features inside each.
    pub ffn_width: usize,
    /// Of each layer, what gates are at most before SiLU, and ups in magnitude.
    pub clamps: Vec<f32>,
}

/// Of files that do not say it.
const USUAL_CLAMP: f64 = 7.0;

impl Keys<'_> {
    /// The experts of every layer.
    pub(super) fn mixture(&self, layers: usize) -> Result<Mixture> {
        let size = |key: &str| {
            let missing = || Error::Model(format!("the key \"{}\" is missing", self.name(key)));
            self.optional_size(key)?.ok_or_else(missing)
        };
        let (count, used) = (size("expert_count")?, size("expert_used_count")?);
        let most = ExpertShape::MOST;
        if count > most {
            let name = self.name("expert_count");
            return Err(Error::Unsupported(format!("the key \"{name}\" is {count}; the most is {most}")));
        }
        if used > count.min(ExpertShape::MOST_USED) {
            return Err(Error::Model(format!(
                "the key \"{}\" is {used}; it must be 1 to {}, of {count} experts",
                self.name("expert_used_count"),
                count.min(ExpertShape::MOST_USED)
            )));
        }
        self.refuse_other_mixtures()?;
        let shape = ExpertShape { count, used };
        Ok(Mixture { shape, ffn_width: size("expert_feed_forward_length")?, clamps: self.clamps(layers)? })
    }

    /// Other ways to mix, of which the tables of keys would let small numbers pass.
    fn refuse_other_mixtures(&self) -> Result<()> {
        for key in ["expert_shared_count", "leading_dense_block_count"] {
            let name = self.name(key);
            if let Some(count) = self.metadata.unsigned(&name)?.filter(|count| *count > 0) {
                return Err(Error::Unsupported(format!(
                    "the key \"{name}\" is {count}; this version computes experts in every layer, and none that all rows share"
                )));
            }
        }
        let name = self.name("expert_weights_norm");
        match self.metadata.get(&name) {
            None | Some(Value::Bool(true)) => Ok(()),
            Some(value) => Err(Error::Unsupported(format!(
                "the key \"{name}\" is {value}; this version computes weights of experts whose sum is 1"
            ))),
        }
    }

    /// One clamp for all layers, or one for each.
    fn clamps(&self, layers: usize) -> Result<Vec<f32>> {
        let name = self.name("swiglu_clamp_exp");
        let clamps: Vec<f64> = match self.metadata.get(&name) {
            None => vec![USUAL_CLAMP; layers],
            Some(Value::Array(array)) => match array.floats().map(Iterator::collect::<Vec<f64>>) {
                Some(clamps) if clamps.len() == layers => clamps,
                Some(clamps) => {
                    return Err(Error::Model(format!("the key \"{name}\" lists {} of {layers} layers", clamps.len())));
                }
                None => return Err(Error::Model(format!("the key \"{name}\" must hold numbers, but holds {array}"))),
            },
            Some(_) => vec![self.metadata.float(&name)?.unwrap_or(USUAL_CLAMP); layers],
        };
        match clamps.iter().find(|clamp| !(**clamp as f32 > 0.0 && (**clamp as f32).is_finite())) {
            Some(clamp) => Err(Error::Model(format!("the key \"{name}\" is {clamp}; it must be positive and finite"))),
            None => Ok(clamps.into_iter().map(|clamp| clamp as f32).collect()),
        }
    }

    /// Layers that see only the latest positions, by a list, and are the only ones that turn. Returns these, and what takes the place
    /// of the rotations of all others.
    pub(super) fn listed_windows(&self, layers: usize, rope: Rope) -> Result<(Windows, Rope)> {
        let missing = |key: &str| Error::Model(format!("the key \"{}\" is missing", self.name(key)));
        let positions =
            self.optional_size("attention.sliding_window")?.ok_or_else(|| missing("attention.sliding_window"))?;
        let name = self.name("attention.sliding_window_pattern");
        let list = self.metadata.array(&name)?.ok_or_else(|| missing("attention.sliding_window_pattern"))?;
        let Some(kinds) = list.truths().map(Iterator::collect::<Vec<bool>>) else {
            return Err(Error::Model(format!(
                "the key \"{name}\" must hold true or false for each layer, but holds {list}"
            )));
        };
        if kinds.len() != layers {
            return Err(Error::Model(format!("the key \"{name}\" lists {} of {layers} layers", kinds.len())));
        }
        let still = Rope { frequencies: vec![NO_TURN; rope.frequencies.len()], magnitude: 1.0, ..rope.clone() };
        let rope = match self.theta("rope.freq_base_swa")? {
            Some(theta) => Rope::new(RopePairs::Half, theta, 2 * rope.frequencies.len(), 1.0),
            None => rope,
        };
        Ok((Windows { positions, layers: kinds, rope }, still))
    }
}
