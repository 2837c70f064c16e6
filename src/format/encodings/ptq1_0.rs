//! PTQ1_0 (type 143 of PrismML): trits five in a byte, with an f16 scale for 128 columns of a row; 1.75 bits a weight.
//!
//! ```text
//! A block is 28 bytes for 128 columns. Digit n (see `base_3`) of
//!
//!   byte m of  0 … 16           column  16 n + m           (n = 0 … 4)
//!   byte 16 + m, m = 0 … 7      column  80 + 8 n + m       (n = 0 … 4)
//!   byte 24 + m, m = 0, 1       column 120 + 2 n + m       (n = 0 … 3; digit 4 is 0)
//!   bytes 26, 27                scale, f16
//! ```
//!
//! It is TQ1_0 for half as many columns.

use super::Encoding;
use super::base_3::{self, Part};
use super::blocks::{decode_blocks, encode_blocks};
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::ternary::Ternary;

/// Columns in one block.
const COLUMNS: usize = 128;
/// Bytes of one block.
const BYTES: usize = 28;

const PARTS: [Part; 3] = [
    Part { byte: 0, bytes: 16, column: 0, digits: 5 },
    Part { byte: 16, bytes: 8, column: 80, digits: 5 },
    Part { byte: 24, bytes: 2, column: 120, digits: 4 },
];

pub(super) static PTQ1_0: Entry = Entry {
    name: "PTQ1_0",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(COLUMNS), decode, encode },
    number: TypeNumber::new(143).called("PTQ1_0 of PrismML").prism(),
    also: &[],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    decode_blocks::<COLUMNS, BYTES>(stored, BYTES - 2, |block, codes| {
        base_3::decode(&PARTS, block, codes);
    })
}

/// Encodes ternary weights; scales are rounded to f16.
fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<COLUMNS, BYTES>(encoding, weights, BYTES - 2, |codes, out| {
        base_3::encode(&PARTS, codes, out);
        Ok(())
    })
}
