//! Q8_0 (ggml type 8): int8 with an f16 scale for 32 columns; embeddings and heads of many files.
//!
//! ```text
//! A block is 34 bytes for 32 columns:
//!
//!   byte  0      scale d, f16
//!         2 … 34 q, int8, one a column        weight = d · q
//! ```
//!
//! Source: `block_q8_0` in ggml-common.h, `quantize_row_q8_0_ref` in ggml-quants.c.

use half::f16;

use super::Encoding;
use super::encode::encode_rows;
use super::entry::{DenseEncoder, Entry, Kind, Size, Stored, TypeNumber};
use super::repack::{each_row, room};
use crate::allocation::collected;
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::format::dense::{Dense, Values};

/// Columns in one block.
pub const COLUMNS: usize = 32;
/// Bytes of one block.
const BYTES: usize = 34;

pub(super) static Q8_0: Entry = Entry {
    name: "Q8_0",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Dense {
        decode,
        encoder: Some(DenseEncoder { encode: encode_weights, holds: None, largest_change: 1.0 / 127.0 }),
    },
    number: TypeNumber::new(8),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(&Stored { encoding, bytes, rows, cols, .. }: &Stored) -> Result<Dense> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut codes = room(encoding.name(), rows, cols)?;
    let Ok(()) = each_row(&mut codes, cols, |row, out| -> Result<(), std::convert::Infallible> {
        for (block, out) in blocks[row * (cols / COLUMNS)..].iter().zip(out.as_chunks_mut::<COLUMNS>().0) {
            out.copy_from_slice(&block[2..]);
        }
        Ok(())
    });
    let scales = collected(blocks.len(), blocks.iter().map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()))?;
    Dense::new(rows, cols, Values::Int8 { columns: COLUMNS, codes: codes.into(), scales })
}

/// Rounds weights, except that what was decoded from Q8_0 becomes the same again.
fn encode_weights(encoding: Encoding, weights: &Weights) -> Result<Vec<u8>> {
    let same = match weights {
        Weights::Dense(dense) => same(dense),
        Weights::Ternary(_) => None,
    };
    same.map_or_else(|| encode_rows(encoding, weights, f32::MAX, quantize), Ok)
}

/// The same integers and scales, if they are those of Q8_0.
fn same(dense: &Dense) -> Option<Vec<u8>> {
    let Values::Int8 { columns: COLUMNS, codes, scales } = dense.values() else { return None };
    let halves: Vec<f16> = scales.iter().map(|&scale| f16::from_f32(scale)).collect();
    let is_exact = halves.iter().zip(scales).all(|(half, scale)| half.to_f32() == *scale);
    is_exact.then(|| encode(bytemuck::cast_slice(codes), &halves))
}

/// Joins the integers of a tensor and its scales, one for 32 of them. Loses nothing.
///
/// # Panics
/// If there are not 32 codes for each scale.
pub fn encode(codes: &[i8], scales: &[f16]) -> Vec<u8> {
    let (blocks, rest) = codes.as_chunks::<COLUMNS>();
    assert!(rest.is_empty() && blocks.len() == scales.len(), "32 codes for each scale");
    let mut bytes = Vec::with_capacity(blocks.len() * BYTES);
    for (codes, scale) in blocks.iter().zip(scales) {
        bytes.extend_from_slice(&scale.to_le_bytes());
        bytes.extend(codes.iter().map(|&q| q as u8));
    }
    bytes
}

/// Rounds floats to Q8_0 as ggml does: the scale of a block is its largest magnitude over 127. No value is further off
/// than 0.57 of its scale, the scale being a normal f16.
///
/// # Errors
/// [`Error::Input`] if the number of values is no multiple of 32, or a value is not finite or too large for the scale.
pub fn quantize(values: &[f32]) -> Result<Vec<u8>> {
    let (blocks, rest) = values.as_chunks::<COLUMNS>();
    if !rest.is_empty() {
        return Err(Error::Input(format!("Q8_0 stores blocks of {COLUMNS}, but there are {} values", values.len())));
    }
    let mut codes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(blocks.len());
    for block in blocks {
        let largest = block.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        let scale = largest / 127.0;
        // `max` passes over NaN, so each value is asked.
        if !f16::from_f32(scale).is_finite() || block.iter().any(|v| !v.is_finite()) {
            return Err(Error::Input(format!("Q8_0: the values up to {largest} are not finite or too large")));
        }
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        codes.extend(block.iter().map(|v| (v * inverse).round() as i8));
        scales.push(f16::from_f32(scale));
    }
    Ok(encode(&codes, &scales))
}
