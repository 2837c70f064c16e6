//! Q4_0 and Q4_1 (ggml types 2 and 3): 4-bit integers with an f16 scale, and in Q4_1 an f16 offset, for 32 columns.
//!
//! ```text
//! A block of Q4_0 is 18 bytes, one of Q4_1 is 20, for 32 columns:
//!
//!   byte  0                 scale d, f16
//!         2                 offset m, f16 (Q4_1 only)
//!         2 or 4 …          16 bytes: byte b holds column b in the low four bits and column b + 16 in the high ones
//!
//!   Q4_0: weight = d · (q − 8)        Q4_1: weight = d · q + m
//! ```
//!
//! Source: `block_q4_0`, `block_q4_1` in ggml-common.h and their `dequantize_row`.

use super::dense_blocks::{decode_floats, decode_integers, half_at};
use super::entry::{Entry, Kind, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block of either.
const COLUMNS: usize = 32;
/// Bytes of one block of Q4_0.
const BYTES_0: usize = 18;
/// Bytes of one block of Q4_1.
const BYTES_1: usize = 20;

pub(super) static Q4_0: Entry = Entry {
    name: "Q4_0",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_0 },
    kind: Kind::Dense { decode: decode_0, encoder: None },
    number: TypeNumber::new(2),
    also: &[],
};

pub(super) static Q4_1: Entry = Entry {
    name: "Q4_1",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES_1 },
    kind: Kind::Dense { decode: decode_1, encoder: None },
    number: TypeNumber::new(3),
    also: &[],
};

/// Decodes the bytes of a Q4_0 tensor (exactly its size). Loses nothing.
fn decode_0(stored: &Stored) -> Result<Dense> {
    let codes_of = |block: &[u8; BYTES_0], out: &mut [u8; COLUMNS]| {
        for (column, out) in out.iter_mut().enumerate() {
            *out = nibble(&block[2..], column).wrapping_sub(8);
        }
    };
    decode_integers::<COLUMNS, 1, BYTES_0>(stored, codes_of, |block| [half_at(block, 0)])
}

/// Decodes the bytes of a Q4_1 tensor (exactly its size).
fn decode_1(stored: &Stored) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_1>(stored, |block, out| {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        for (column, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(nibble(&block[4..], column)) + m;
        }
    })
}

/// The four bits of a column in the 16 bytes of a block.
pub(super) fn nibble(bytes: &[u8], column: usize) -> u8 {
    bytes[column % 16] >> (column / 16 * 4) & 15
}
