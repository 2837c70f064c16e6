//! F32, F16 and BF16: little-endian floats, row by row, nothing else. They are used where they lie in the file.

use bytes::Bytes;
use half::{bf16, f16};

use super::Encoding;
use crate::error::Result;
use crate::format::dense::{Dense, Values};

/// Wraps the bytes of a float tensor (exactly its size) without a copy.
pub(super) fn decode(encoding: Encoding, bytes: Bytes, rows: usize, cols: usize) -> Result<Dense> {
    let values = match encoding {
        Encoding::F32 => Values::F32(bytes),
        Encoding::F16 => Values::F16(bytes),
        Encoding::Bf16 => Values::Bf16(bytes),
        other => unreachable!("{other} is no float encoding"),
    };
    Dense::new(rows, cols, values)
}

/// Writes values as F32.
pub fn encode_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes values as F16, rounded to the nearest, ties to even; beyond ±65504 that is an infinity.
pub fn encode_f16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
}

/// Writes values as BF16, rounded to the nearest, ties to even.
pub fn encode_bf16(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect()
}
