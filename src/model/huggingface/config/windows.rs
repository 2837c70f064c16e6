//! Gemma's layers that see only the latest positions, as `config.json` describes them: which layers, how many positions,
//! and rotations of their own.

use super::Fields;
use super::rope;
use crate::backend::{Rope, RopePairs};
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::model::config::{Windows, check_theta};

/// What transformers takes where a config leaves these out.
const DEFAULT_PATTERN: usize = 6;
const DEFAULT_THETA: f64 = 10_000.0;
const DEFAULT_QUERY_SCALAR: f64 = 256.0;

/// The rotations of one kind of layers: newer files have an object for each kind, older ones one object, which is for
/// the layers that see all.
pub(super) fn parameters<'a>(fields: Fields<'a>, kind: &'static str) -> Result<Option<Fields<'a>>> {
    let place = match kind {
        "sliding_attention" => "rope_parameters.sliding_attention.",
        _ => "rope_parameters.full_attention.",
    };
    let all = fields.object("rope_parameters", "rope_parameters.")?;
    match all.filter(|all| all.get("full_attention").is_some() || all.get("sliding_attention").is_some()) {
        Some(all) => all.object(kind, place),
        None if kind == "full_attention" => rope::parameters(fields),
        None => Ok(None),
    }
}

/// Which layers see only so many positions; none where all see all.
pub(super) fn read(fields: Fields, layers: usize, head_dim: usize) -> Result<Option<Windows>> {
    let scalar = fields.float("query_pre_attn_scalar")?.unwrap_or(DEFAULT_QUERY_SCALAR);
    if scalar != head_dim as f64 {
        let name = fields.name("query_pre_attn_scalar");
        return Err(Error::Unsupported(format!(
            "{name} is {scalar} (256 where it is missing); this version knows the size of a head, here {head_dim}"
        )));
    }
    let global_every = global_every(fields, layers)?;
    if global_every == 1 {
        return Ok(None);
    }
    let sliding = parameters(fields, "sliding_attention")?;
    if let Some(kind) = sliding.map(|sliding| sliding.text("rope_type")).transpose()?.flatten()
        && kind != "default"
    {
        let name = fields.name("rope_parameters.sliding_attention.rope_type");
        return Err(Error::Unsupported(format!("{name} is {}; known is default", quoted(kind))));
    }
    let named = sliding.map(|sliding| sliding.float("rope_theta")).transpose()?.flatten();
    let theta = named.or(fields.float("rope_local_base_freq")?).unwrap_or(DEFAULT_THETA);
    let theta = check_theta(theta, &fields.name("rope_local_base_freq"))?;
    let positions = fields.required_size("sliding_window")?;
    let rope = Rope::new(RopePairs::Half, theta, head_dim, 1.0);
    Ok(Some(Windows { positions, layers: Windows::by_pattern(global_every, layers), rope }))
}

/// Every such layer sees all positions: a list names the kind of each layer, or a number the pattern of all.
fn global_every(fields: Fields, layers: usize) -> Result<usize> {
    let Some(kinds) = fields.list("layer_types")? else {
        let pattern = match fields.size("sliding_window_pattern")? {
            None => fields.size("_sliding_window_pattern")?, // as some versions of transformers write it
            pattern => pattern,
        };
        return Ok(pattern.unwrap_or(DEFAULT_PATTERN));
    };
    let name = fields.name("layer_types");
    if kinds.len() != layers {
        return Err(Error::Model(format!("{name} lists {} layers, but the model has {layers}", kinds.len())));
    }
    let every = kinds.iter().position(|kind| kind == "full_attention").unwrap_or(layers) + 1;
    for (layer, kind) in kinds.iter().enumerate() {
        let wanted = if (layer + 1).is_multiple_of(every) { "full_attention" } else { "sliding_attention" };
        if kind != wanted {
            return Err(Error::Unsupported(format!(
                "{name} has {} for layer {layer}, and {wanted} by its beginning; this version knows patterns that repeat",
                quoted(&kind.to_string())
            )));
        }
    }
    Ok(every)
}
