//! Where a sequence stopped being numbers. Nothing looks for that while all is well: what is not finite makes everything that
//! is computed from it NaN, up to the logits, whose readers refuse it. Then the caches still hold the keys and values of every
//! layer, and tell where it began.

use std::fmt;

use crate::backend::{Backend, CachePlace, CacheShape, Misfit};
use crate::error::Result;
use crate::transformer::{Memory, State};

/// Where a sequence stopped being numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The keys or values of a layer had no place in the cache's number format.
    Cache { layer: usize, position: usize, misfit: Misfit, is_key: bool },
    /// What a layer computed from: the embedding, or the layers before it, from `since` on.
    Before { since: usize, layer: usize, position: usize },
    /// No keys or values: what comes after them, of the last layer or the head.
    AfterAll,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::Cache { layer, position, misfit, is_key } => {
                let what = if is_key { "keys" } else { "values" };
                let why = match misfit {
                    Misfit::TooLarge => "too large",
                    Misfit::TooSmall => "too small",
                };
                write!(
                    f,
                    "the {what} of layer {layer} at position {position} are {why} for a cache in f16; keep it in f32 \
                     (--cache f32, SessionOptions::cache)"
                )
            }
            Origin::Before { layer: 0, position, .. } => write!(
                f,
                "at position {position}, before the first layer: the embedding of the token there, or the norm after it"
            ),
            Origin::Before { since, layer, position } if since + 1 < layer => {
                write!(f, "at position {position}, in the layers {since} to {} or the norms after them", layer - 1)
            }
            Origin::Before { layer, position, .. } => {
                write!(f, "at position {position}, in layer {} or the norm after it", layer - 1)
            }
            Origin::AfterAll => f.write_str("after the keys and values of the last layer, or in the head"),
        }
    }
}

/// Looks through the first positions of some slots, layer by layer.
///
/// # Errors
/// [`crate::Error::Device`] if the device was lost.
pub(super) fn origin<B: Backend>(b: &mut B, state: &State<B>, places: &[(usize, usize)]) -> Result<Origin> {
    for &(slot, positions) in places {
        let origin = origin_in_slot(b, state, slot as u32, positions)?;
        if origin != Origin::AfterAll {
            return Ok(origin);
        }
    }
    Ok(Origin::AfterAll)
}

fn origin_in_slot<B: Backend>(b: &mut B, state: &State<B>, slot: u32, positions: usize) -> Result<Origin> {
    let mut since = 0; // the latest layer that has keys and values
    for (layer, memory) in state.memories().iter().enumerate() {
        let Memory::Cache(cache) = memory else { continue };
        let CacheShape { kv_heads, head_dim, .. } = b.cache_shape(cache);
        let [mut keys, mut values] = [vec![0.0; positions * head_dim], vec![0.0; positions * head_dim]];
        let mut first: Option<Origin> = None;
        for kv_head in 0..kv_heads {
            b.read_cache(cache, CachePlace { slot, kv_head, positions }, &mut keys, &mut values)?;
            for (features, is_key) in [(&keys, true), (&values, false)] {
                let Some(place) = features.iter().position(|feature| !feature.is_finite()) else { continue };
                let position = place / head_dim;
                let found = match Misfit::read(features[place]) {
                    Some(misfit) => Origin::Cache { layer, position, misfit, is_key },
                    None => Origin::Before { since, layer, position },
                };
                if first.is_none_or(|first| found.position() < first.position()) {
                    first = Some(found);
                }
            }
        }
        if let Some(first) = first {
            return Ok(first);
        }
        since = layer;
    }
    Ok(Origin::AfterAll)
}

impl Origin {
    fn position(&self) -> usize {
        match *self {
            Origin::Cache { position, .. } | Origin::Before { position, .. } => position,
            Origin::AfterAll => usize::MAX,
        }
    }
}
