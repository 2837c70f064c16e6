//! Value heads of a gated delta net: checkpoints have those that share a key head side by side, GGUF files and this crate one of each
//! key head in turn. So rows and columns are moved by whole heads when they are asked for.

use crate::backend::DeltaHeads;
use crate::error::{Error, Result};
use crate::format::{Dense, Values, Weights};
use crate::model::{Config, Part, Role};

/// The weights of a role in the order of this crate. A checkpoint's rates are the logarithms of their magnitudes.
pub(super) fn in_order(role: Role, weights: Weights, config: &Config) -> Result<Weights> {
    let (Role::Layer(_, part), Some(net)) = (role, &config.delta_net) else { return Ok(weights) };
    let heads = net.heads;
    let rows_before = 2 * heads.key_cols();
    match part {
        Part::DeltaQkv | Part::DeltaConvolution => rows_of(weights, &order(heads, heads.head_dim, rows_before)),
        Part::DeltaGate => rows_of(weights, &order(heads, heads.head_dim, 0)),
        Part::DeltaAlpha | Part::DeltaBeta => rows_of(weights, &order(heads, 1, 0)),
        Part::DeltaBias => vector(&weights, heads, |bias| bias),
        Part::DeltaRate => vector(&weights, heads, |logarithm| -logarithm.exp()),
        Part::DeltaOutput if config.hadamard.as_ref().is_some_and(|hadamard| hadamard.grouped_heads) => Ok(weights),
        Part::DeltaOutput => match weights {
            Weights::Ternary(ternary) => {
                ternary.columns_moved(heads.head_dim, &order(heads, 1, 0)).map(Weights::Ternary)
            }
            Weights::Dense(_) => Err(Error::Unsupported("a linear layer that is not ternary".into())),
        },
        _ => Ok(weights),
    }
}

/// Of each place the one whose contents come there, for heads of `size` places behind `before` others that stay.
fn order(heads: DeltaHeads, size: usize, before: usize) -> Vec<usize> {
    let DeltaHeads { key_heads, value_heads, .. } = heads;
    let sharing = value_heads / key_heads;
    let from = |head: usize| head % key_heads * sharing + head / key_heads;
    let moved = (0..value_heads).flat_map(|head| (0..size).map(move |i| before + from(head) * size + i));
    (0..before).chain(moved).collect()
}

fn rows_of(weights: Weights, order: &[usize]) -> Result<Weights> {
    match weights {
        Weights::Ternary(ternary) => Ok(Weights::Ternary(ternary.rows_of(order))),
        Weights::Dense(dense) => {
            let moved = |bytes: &[u8], width: usize| -> Vec<u8> {
                let row_bytes = dense.cols() * width;
                order.iter().flat_map(|row| &bytes[row * row_bytes..][..row_bytes]).copied().collect()
            };
            let values = match dense.values() {
                Values::F32(bytes) => Values::F32(moved(bytes, 4).into()),
                Values::F16(bytes) => Values::F16(moved(bytes, 2).into()),
                Values::Bf16(bytes) => Values::Bf16(moved(bytes, 2).into()),
                Values::Int8 { .. } => return Err(Error::Unsupported("int8 where floats are needed".into())),
            };
            Dense::new(order.len(), dense.cols(), values).map(Weights::Dense)
        }
    }
}

fn vector(weights: &Weights, heads: DeltaHeads, value: impl Fn(f32) -> f32) -> Result<Weights> {
    let mut stored = vec![0.0; heads.value_heads];
    weights.row_to_f32(0, &mut stored);
    let values: Vec<u8> = order(heads, 1, 0).iter().flat_map(|&place| value(stored[place]).to_le_bytes()).collect();
    Dense::new(1, heads.value_heads, Values::F32(values.into())).map(Weights::Dense)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_heads_that_share_a_key_head_are_spread() {
        let heads = DeltaHeads { key_heads: 2, value_heads: 6, head_dim: 4 };
        assert_eq!(order(heads, 1, 0), [0, 3, 1, 4, 2, 5]);
        assert_eq!(order(heads, 2, 3), [0, 1, 2, 3, 4, 9, 10, 5, 6, 11, 12, 7, 8, 13, 14]);
    }
}
