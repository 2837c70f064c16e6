//! Recurrent layers as `config.json` describes them (Qwen3.5): which layers, how their heads are cut, and rotations of a part of each
//! attention head.

use serde_json::Value;

use super::Fields;
use crate::backend::DeltaHeads;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::format::safetensors::Checkpoint;
use crate::model::config::DeltaNet;

/// Of how many layers one is attention, where no field says it.
const USUAL_INTERVAL: usize = 4;

/// The recurrent layers.
pub(super) fn read(fields: Fields, layers: usize) -> Result<Option<DeltaNet>> {
    let names = ["linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_conv_kernel_dim"];
    let [key_heads, value_heads, head_dim, taps] = names.map(|name| fields.required_size(name));
    let heads = DeltaHeads { key_heads: key_heads?, value_heads: value_heads?, head_dim: head_dim? };
    let value_dim = fields.required_size("linear_value_head_dim")?;
    if value_dim != heads.head_dim {
        return Err(Error::Unsupported(format!(
            "{} is {value_dim}, and {} is {}; this version knows key and value heads of one size",
            fields.name("linear_value_head_dim"),
            fields.name("linear_key_head_dim"),
            heads.head_dim
        )));
    }
    let places = names.map(|name| fields.name(name));
    DeltaNet::new(heads, taps?, kinds(fields, layers)?, places.each_ref().map(String::as_str))
}

/// Of each layer, whether it is recurrent: a list, which wins, or the interval.
fn kinds(fields: Fields, layers: usize) -> Result<Vec<bool>> {
    let interval = fields.size("full_attention_interval")?.unwrap_or(USUAL_INTERVAL);
    let Some(kinds) = fields.list("layer_types")? else { return Ok(DeltaNet::by_interval(interval, layers)) };
    let name = fields.name("layer_types");
    if kinds.len() != layers {
        return Err(Error::Model(format!("{name} lists {} layers, but the model has {layers}", kinds.len())));
    }
    let kind = |kind: &Value| match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let kind = quoted(&kind.to_string());
            Err(Error::Unsupported(format!("{name} has {kind}; known are linear_attention and full_attention")))
        }
    };
    kinds.iter().map(kind).collect()
}

/// Features of a head that are turned.
pub(super) fn turned(fields: Fields, parameters: Option<Fields>, head_dim: usize) -> Result<usize> {
    const NAME: &str = "partial_rotary_factor";
    let inner = parameters.map(|parameters| parameters.float(NAME)).transpose()?.flatten();
    let factor = match inner {
        Some(factor) => factor,
        None => fields.float(NAME)?.ok_or_else(|| fields.missing(NAME))?,
    };
    let turned = factor * head_dim as f64;
    if !(turned >= 2.0 && turned <= head_dim as f64 && turned % 2.0 == 0.0) {
        return Err(Error::Model(format!(
            "{} is {factor}: of the {head_dim} features of a head that would turn {turned}, which must be an even number of them",
            fields.name(NAME)
        )));
    }
    Ok(turned as usize)
}

/// Whether the checkpoint was converted by MLX, which adds the one to gains: as MLX itself tells, by drafters, which it drops, and by
/// the axes of convolutions, which it swaps.
pub(super) fn is_converted(checkpoint: &Checkpoint) -> bool {
    let has_drafter = checkpoint.tensors().any(|(name, _)| name.starts_with("mtp.") || name.contains(".mtp."));
    let mut convolutions = checkpoint.tensors().filter(|(name, _)| name.ends_with(".linear_attn.conv1d.weight"));
    !has_drafter && convolutions.next().is_some_and(|(_, tensor)| tensor.shape.len() == 2 && tensor.axes == 3)
}
