//! Recurrent layers as the keys of a GGUF file describe them: which layers, and how their heads are cut.

use super::keys::Keys;
use crate::backend::DeltaHeads;
use crate::error::{Error, Result};

/// Layers of a gated delta net (arXiv 2412.06464) between layers of attention (Qwen3.5).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeltaNet {
    /// How the heads are cut. Value heads come in the order of GGUF files, in which head `h` reads key head `h % key_heads`; weights of
    /// other files are brought to it.
    pub heads: DeltaHeads,
    /// Rows that the convolution sees, its own the last of them.
    pub taps: usize,
    /// Of each layer, whether it is one of them.
    pub layers: Vec<bool>,
}

/// The most rows that a convolution sees.
const MOST_TAPS: usize = 16;
/// Of how many layers one is attention, where no key says it.
const USUAL_INTERVAL: usize = 4;

impl DeltaNet {
    /// A net of possible sizes; none where no layer is recurrent. `heads` is the place of each number, for errors.
    pub(in crate::model) fn new(
        heads: DeltaHeads,
        taps: usize,
        layers: Vec<bool>,
        places: [&str; 4],
    ) -> Result<Option<Self>> {
        let DeltaHeads { key_heads, value_heads, head_dim } = heads;
        let [key_place, value_place, dim_place, taps_place] = places;
        if !value_heads.is_multiple_of(key_heads) {
            return Err(Error::Model(format!(
                "{value_heads} value heads ({value_place}) cannot share {key_heads} key heads ({key_place})"
            )));
        }
        let most = DeltaHeads::LARGEST;
        if !head_dim.is_multiple_of(4) || head_dim > most {
            return Err(Error::Unsupported(format!(
                "recurrent heads of {head_dim} features ({dim_place}); they must be a multiple of 4, and at most {most}"
            )));
        }
        if !(2..=MOST_TAPS).contains(&taps) {
            return Err(Error::Unsupported(format!(
                "a convolution of {taps} rows ({taps_place}); known are 2 to {MOST_TAPS}"
            )));
        }
        let values = heads.key_heads.checked_add(value_heads).and_then(|heads| heads.checked_mul(2 * head_dim));
        if values.is_none_or(|values| values as u64 > super::LARGEST_SIZE) {
            return Err(Error::Model(format!(
                "{value_heads} value heads ({value_place}) of {head_dim} features are larger than any model"
            )));
        }
        Ok(layers.contains(&true).then_some(Self { heads, taps, layers }))
    }

    /// Every layer but the last of each run of `interval` is recurrent.
    pub(in crate::model) fn by_interval(interval: usize, layers: usize) -> Vec<bool> {
        (1..=layers).map(|layer| !layer.is_multiple_of(interval)).collect()
    }
}

impl Keys<'_> {
    /// Blocks at the end of a file that draft for the network.
    pub(super) fn drafters(&self, blocks: usize) -> Result<usize> {
        let name = self.name("nextn_predict_layers");
        match self.metadata.unsigned(&name)?.unwrap_or(0) {
            drafters if drafters < blocks as u64 => Ok(drafters as usize),
            drafters => Err(Error::Model(format!(
                "the key \"{name}\" is {drafters}, of the {blocks} blocks of \"{}\"; the network itself needs one",
                self.name("block_count")
            ))),
        }
    }

    /// The recurrent layers among the first `layers` of `blocks`.
    pub(super) fn delta_net(&self, blocks: usize, layers: usize) -> Result<Option<DeltaNet>> {
        let names =
            ["ssm.group_count", "ssm.time_step_rank", "ssm.state_size", "ssm.conv_kernel"].map(|key| self.name(key));
        let size = |key: &str| {
            let missing = || Error::Model(format!("the key \"{}\" is missing", self.name(key)));
            self.optional_size(key)?.ok_or_else(missing)
        };
        // Rotations of whole heads would be fluent nonsense.
        size("rope.dimension_count")?;
        self.check_sections()?;
        let key_heads = size("ssm.group_count")?;
        let heads =
            DeltaHeads { key_heads, value_heads: size("ssm.time_step_rank")?, head_dim: size("ssm.state_size")? };
        let (inner, taps) = (size("ssm.inner_size")?, size("ssm.conv_kernel")?);
        let net =
            DeltaNet::new(heads, taps, self.recurrent_layers(blocks, layers)?, names.each_ref().map(String::as_str))?;
        if heads.value_cols() != inner {
            return Err(Error::Model(format!(
                "the key \"{}\" is {inner}; {} value heads (\"{}\") of {} features (\"{}\") are another size",
                self.name("ssm.inner_size"),
                heads.value_heads,
                names[1],
                heads.head_dim,
                names[2]
            )));
        }
        Ok(net)
    }

    /// A list of the blocks, which wins, or the interval.
    fn recurrent_layers(&self, blocks: usize, layers: usize) -> Result<Vec<bool>> {
        let interval = self.size_or("full_attention_interval", USUAL_INTERVAL)?;
        let name = self.name("attention.recurrent_layers");
        let Some(list) = self.metadata.array(&name)? else { return Ok(DeltaNet::by_interval(interval, layers)) };
        let Some(kinds) = list.truths() else {
            return Err(Error::Model(format!(
                "the key \"{name}\" must hold true or false for each block, but holds {list}"
            )));
        };
        let mut kinds: Vec<bool> = kinds.collect();
        if kinds.len() != blocks {
            return Err(Error::Model(format!("the key \"{name}\" lists {} of {blocks} blocks", kinds.len())));
        }
        kinds.truncate(layers);
        Ok(kinds)
    }

    /// How rotary pairs are shared out between the positions of an image: of a text all are equal, so that it means nothing.
    fn check_sections(&self) -> Result<()> {
        let name = self.name("rope.dimension_sections");
        let Some(sections) = self.metadata.array(&name)? else { return Ok(()) };
        let are_counts = sections.integers().is_some_and(|mut counts| counts.all(|count| count >= 0));
        match are_counts && (3..=4).contains(&sections.len()) {
            true => Ok(()),
            false => {
                Err(Error::Model(format!("the key \"{name}\" must hold three or four counts, but holds {sections}")))
            }
        }
    }
}
