//! TQ1_0 (ggml type 34): trits five in a byte, with an f16 scale for 256 columns of a row; 1.69 bits a weight.
//!
//! ```text
//! A block is 54 bytes for 256 columns; code = trit + 1 is a digit in base 3. Digit n of
//!
//!   byte m of  0 … 32           column  32 n + m          (n = 0 … 4)
//!   byte 32 + m, m = 0 … 15     column 160 + 16 n + m     (n = 0 … 4)
//!   byte 48 + m, m = 0 … 3      column 240 +  4 n + m     (n = 0 … 3; digit 4 is 0)
//!   bytes 52, 53                scale, f16
//!
//! Five digits, the first the most significant, make N = Σ digit(n) · 3^(4−n) < 243, stored as the fraction N / 243:
//!
//!   byte = ⌈256 N / 243⌉        digit(n) = ((byte · 3ⁿ mod 256) · 3) >> 8
//! ```
//!
//! Source: `block_tq1_0` in ggml-common.h, `dequantize_row_tq1_0` in ggml-quants.c. Every byte decodes to five trits,
//! so nothing in the codes can be malformed.

use super::Encoding;
use super::base_3::{self, Part};
use super::blocks::encode_blocks;
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber};
use super::repack::{TQ_COLUMNS, decode_tq};
use crate::error::Result;
use crate::format::ternary::{self, Ternary};

/// Bytes of one block.
const BYTES: usize = 54;

const PARTS: [Part; 3] = [
    Part { byte: 0, bytes: 32, column: 0, digits: 5 },
    Part { byte: 32, bytes: 16, column: 160, digits: 5 },
    Part { byte: 48, bytes: 4, column: 240, digits: 4 },
];

pub(super) static TQ1_0: Entry = Entry {
    name: "TQ1_0",
    size: Size::Blocks { columns: TQ_COLUMNS, bytes: BYTES },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(TQ_COLUMNS), decode, encode: |_, weights| encode(weights) },
    number: TypeNumber::new(34).file_types(&[36]),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    decode_tq::<BYTES>(stored, |block, out| {
        let mut codes = [0; TQ_COLUMNS];
        base_3::decode(&PARTS, block, &mut codes);
        ternary::pack_codes(&codes, out);
    })
}

/// Encodes ternary weights; scales are rounded to f16.
///
/// # Errors
/// [`Error::Input`](crate::Error::Input) if `cols` is no multiple of 256, a block of 256 columns has two scales, or a
/// scale is out of the range of f16.
pub fn encode(weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<TQ_COLUMNS, BYTES>(Encoding::Tq1_0, weights, BYTES - 2, |codes, out| {
        base_3::encode(&PARTS, codes, out);
        Ok(())
    })
}
