//! F32, F16 and BF16: little-endian floats, row by row, nothing else. They are used where they lie in the file.

use half::{bf16, f16};

use super::encode::encode_rows;
use super::entry::{DenseEncoder, Entry, Kind, Size, TypeNumber};
use crate::format::dense::{Dense, Values};

pub(super) static F32: Entry = Entry {
    name: "F32",
    size: Size::Blocks { columns: 1, bytes: 4 },
    kind: Kind::Dense {
        decode: |stored| Dense::new(stored.rows, stored.cols, Values::F32(stored.bytes.clone())),
        encoder: Some(DenseEncoder {
            encode: |encoding, weights| encode_rows(encoding, weights, f32::MAX, |values| Ok(encode_f32(values))),
            holds: Some(|_| true),
            largest_change: 0.0,
        }),
    },
    number: TypeNumber::new(0),
    also: &[],
};

pub(super) static F16: Entry = Entry {
    name: "F16",
    size: Size::Blocks { columns: 1, bytes: 2 },
    kind: Kind::Dense {
        decode: |stored| Dense::new(stored.rows, stored.cols, Values::F16(stored.bytes.clone())),
        encoder: Some(DenseEncoder {
            encode: |encoding, weights| {
                encode_rows(encoding, weights, f16::MAX.to_f32(), |values| Ok(encode_f16(values)))
            },
            holds: Some(|value| f16::from_f32(value).to_f32() == value),
            largest_change: 1.0 / 256.0, // of normal numbers less; the smallest have fewer bits
        }),
    },
    number: TypeNumber::new(1),
    also: &[],
};

pub(super) static BF16: Entry = Entry {
    name: "BF16",
    size: Size::Blocks { columns: 1, bytes: 2 },
    kind: Kind::Dense {
        decode: |stored| Dense::new(stored.rows, stored.cols, Values::Bf16(stored.bytes.clone())),
        encoder: Some(DenseEncoder {
            encode: |encoding, weights| encode_rows(encoding, weights, f32::MAX, |values| Ok(encode_bf16(values))),
            holds: Some(|value| value.to_bits() & 0xffff == 0),
            largest_change: 1.0 / 256.0, // 8 bits
        }),
    },
    number: TypeNumber::new(30),
    also: &[],
};

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
