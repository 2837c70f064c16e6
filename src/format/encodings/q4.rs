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

use super::Encoding;
use super::dense_blocks::{decode_floats, decode_integers, half_at};
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block of either.
pub(super) const COLUMNS: usize = 32;
/// Bytes of one block of Q4_0.
pub(super) const BYTES_0: usize = 18;
/// Bytes of one block of Q4_1.
pub(super) const BYTES_1: usize = 20;

/// Decodes the bytes of a Q4_0 tensor (exactly its size). Loses nothing.
pub(super) fn decode_0(bytes: &[u8], shape: (usize, usize)) -> Result<Dense> {
    let codes_of = |block: &[u8; BYTES_0], out: &mut [u8; COLUMNS]| {
        for (column, out) in out.iter_mut().enumerate() {
            *out = nibble(&block[2..], column).wrapping_sub(8);
        }
    };
    decode_integers::<COLUMNS, 1, BYTES_0>(Encoding::Q4_0, bytes, shape, codes_of, |block| [half_at(block, 0)])
}

/// Decodes the bytes of a Q4_1 tensor (exactly its size).
pub(super) fn decode_1(bytes: &[u8], shape: (usize, usize)) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES_1>(Encoding::Q4_1, bytes, shape, |block, out| {
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
