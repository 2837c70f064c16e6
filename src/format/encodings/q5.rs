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

use super::Encoding;
use super::dense_blocks::{decode_floats, decode_integers, half_at};
use super::q4::nibble;
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block of either.
pub(super) const COLUMNS: usize = 32;
/// Bytes of one block of Q5_0.
pub(super) const BYTES_0: usize = 22;
/// Bytes of one block of Q5_1.
pub(super) const BYTES_1: usize = 24;

/// Decodes the bytes of a Q5_0 tensor (exactly its size). Loses nothing.
pub(super) fn decode_0(bytes: &[u8], shape: (usize, usize)) -> Result<Dense> {
    let codes_of = |block: &[u8; BYTES_0], out: &mut [u8; COLUMNS]| {
        for (column, out) in out.iter_mut().enumerate() {
            *out = code(&block[2..], column).wrapping_sub(16);
        }
    };
    decode_integers::<COLUMNS, 1, BYTES_0>(Encoding::Q5_0, bytes, shape, codes_of, |block| [half_at(block, 0)])
}

/// Decodes the bytes of a Q5_1 tensor (exactly its size).
pub(super) fn decode_1(bytes: &[u8], shape: (usize, usize)) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_1>(Encoding::Q5_1, bytes, shape, |block, out| {
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
