//! Q5_0 and Q5_1 (ggml types 6 and 7): 5-bit integers with an f16 scale, and in Q5_1 an f16 offset, for 32 columns.
//!
//! ```text
//! A block of Q5_0 is 22 bytes, one of Q5_1 is 24, for 32 columns:
//!
//!   byte  0           scale d, f16
//!         2           offset m, f16 (Q5_1 only)
//!         2 or 4      h, u32: bit c is the highest bit of column c
//!         6 or 8 …    16 bytes: byte b holds the low four bits of column b in its low half, of column b + 16 in its high
//!
//!   Q5_0: weight = d · (q − 16)        Q5_1: weight = d · q + m
//! ```
//!
//! Source: `block_q5_0`, `block_q5_1` in ggml-common.h and their `dequantize_row`.

use super::dense_blocks::{decode_floats, decode_integers, half_at};
use super::entry::{Entry, Kind, Size, Stored, TypeNumber};
use super::q4::nibble;
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block of either.
const COLUMNS: usize = 32;
/// Bytes of one block of Q5_0.
const BYTES_0: usize = 22;
/// Bytes of one block of Q5_1.
const BYTES_1: usize = 24;

pub(super) static Q5_0: Entry = Entry {
    name: "Q5_0",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_0 },
    kind: Kind::Dense { decode: decode_0, encoder: None },
    number: TypeNumber::new(6),
    also: &[],
};

pub(super) static Q5_1: Entry = Entry {
    name: "Q5_1",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_1 },
    kind: Kind::Dense { decode: decode_1, encoder: None },
    number: TypeNumber::new(7),
    also: &[],
};

/// Decodes the bytes of a Q5_0 tensor (exactly its size). Loses nothing.
fn decode_0(stored: &Stored) -> Result<Dense> {
    let codes_of = |block: &[u8; BYTES_0], out: &mut [u8; COLUMNS]| {
        for (column, out) in out.iter_mut().enumerate() {
            *out = code(&block[2..], column).wrapping_sub(16);
        }
    };
    decode_integers::<COLUMNS, 1, BYTES_0>(stored, codes_of, |block| [half_at(block, 0)])
}

/// Decodes the bytes of a Q5_1 tensor (exactly its size).
fn decode_1(stored: &Stored) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_1>(stored, |block, out| {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        for (column, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(code(&block[4..], column)) + m;
        }
    })
}

/// The five bits of a column in the last 20 bytes of a block.
fn code(bytes: &[u8], column: usize) -> u8 {
    nibble(&bytes[4..], column) | (bytes[column / 8] >> (column % 8) & 1) << 4
}
