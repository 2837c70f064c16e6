//! TQ2_0 (ggml type 35): trits of 2 bits each, with an f16 scale for 256 columns of a row.
//!
//! ```text
//! A block is 66 bytes for 256 columns; code = trit + 1, the code 3 does not occur.
//!
//!   byte  0 … 32    columns 0 … 128
//!        32 … 64    columns 128 … 256
//!        64         scale, f16
//!
//! Byte b of each half (columns counted from the half's first):
//!
//!   bit   7 6  | 5 4  | 3 2  | 1 0
//!   col   b+96 | b+64 | b+32 |  b
//! ```
//!
//! Source: `block_tq2_0` in ggml-common.h, `dequantize_row_tq2_0` in ggml-quants.c. A half is a block of the canonical
//! packing with the four fields of each byte in reverse.

use super::Encoding;
use super::blocks::encode_blocks;
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber};
use super::repack::{TQ_COLUMNS, TQ_PACKED, decode_tq};
use crate::error::Result;
use crate::format::ternary::{self, Ternary};

/// Bytes of one block.
const BYTES: usize = 66;

pub(super) static TQ2_0: Entry = Entry {
    name: "TQ2_0",
    size: Size::Blocks { columns: TQ_COLUMNS, bytes: BYTES },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(TQ_COLUMNS), decode, encode: |_, weights| encode(weights) },
    number: TypeNumber::new(35).file_types(&[37]),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    decode_tq::<BYTES>(stored, |block, out| {
        for (out, &byte) in out.iter_mut().zip(block) {
            *out = reverse_fields(byte);
        }
    })
}

/// Encodes ternary weights; scales are rounded to f16.
///
/// # Errors
/// [`Error::Input`](crate::Error::Input) if `cols` is no multiple of 256, a block of 256 columns has two scales, or a
/// scale is out of the range of f16.
pub fn encode(weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<TQ_COLUMNS, BYTES>(Encoding::Tq2_0, weights, BYTES - 2, |codes, out| {
        let packed = &mut out[..TQ_PACKED];
        ternary::pack_codes(codes, packed);
        packed.iter_mut().for_each(|byte| *byte = reverse_fields(*byte));
        Ok(())
    })
}

/// Reverses the order of the four 2-bit fields; shifts and masks, because they vectorise where a table would not.
fn reverse_fields(byte: u8) -> u8 {
    let nibbles = byte.rotate_left(4);
    (nibbles & 0b0011_0011) << 2 | (nibbles & 0b1100_1100) >> 2
}
