//! Q2_K (ggml type 10): 2-bit integers with a 4-bit scale and a 4-bit offset for 16 columns, under two f16 for 256.
//! Some ternary models were published so.
//!
//! ```text
//! A block is 84 bytes for 256 columns:
//!
//!   byte  0 … 16    for each 16 columns, in order: scale in the low four bits, offset in the high ones
//!        16 … 80    codes: 32 bytes for each half of 128 columns
//!        80         d, f16
//!        82         m, f16                       weight = d · scale · q − m · offset
//!
//! In each half, for l = 0 … 31 (columns counted from the half's first):
//!
//!   bit   7 6    | 5 4    | 3 2    | 1 0
//!   col   l + 96 | l + 64 | l + 32 |  l
//! ```
//!
//! Source: `block_q2_K` in ggml-common.h, `dequantize_row_q2_K` in ggml-quants.c.

use super::dense_blocks::{decode_floats, half_at};
use super::entry::{Entry, Kind, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::dense::Dense;

/// Columns in one block.
const COLUMNS: usize = 256;
/// Bytes of one block.
const BYTES: usize = 84;

pub(super) static Q2_K: Entry = Entry {
    name: "Q2_K",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Dense { decode, encoder: None },
    number: TypeNumber::new(10),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Dense> {
    decode_floats::<COLUMNS, BYTES>(stored, |block, out| {
        let (d, m) = (half_at(block, 80), half_at(block, 82));
        for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (scale, offset) = (d * f32::from(block[group] & 15), m * f32::from(block[group] >> 4));
            let (half, quarter) = (group / 8, group % 8 / 2);
            let bytes = &block[16 + 32 * half + 16 * (group % 2)..];
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = scale * f32::from(byte >> (2 * quarter) & 3) - offset;
            }
        }
    })
}
