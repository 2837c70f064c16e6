//! STQ1_0 ("Sherry", type 42 or 43 of Tencent's AngelSlim): of four trits exactly one is zero, so that four take five
//! bits; an f16 scale for 256 columns of a row; 1.31 bits a weight.
//!
//! ```text
//! A block is 42 bytes for 256 columns:
//!
//!   byte  0 … 32    slots, 4 bits each: group g in the low half of byte g/2 if g is even, else in the high half
//!        32 … 40    signs, one bit each: group g in bit g mod 8 of byte 32 + g/8
//!        40         scale, f16
//!
//! Group g = 0 … 63 is the four columns 64 (g / 16) + g mod 16 + 16 p, p = 0 … 3. Of its slot
//!
//!   bit   3 2                 |  1                        |  0
//!         p of the zero trit  |  third of the others is − |  second of the others is −
//!
//! The first of the others is +. The sign bit of the group turns all of them round.
//! ```
//!
//! This closed form equals the published table of 32 entries. Every slot decodes, so no code can be malformed.

use super::Encoding;
use super::blocks::{decode_blocks, encode_blocks};
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::ternary::Ternary;

/// Columns in one block.
const COLUMNS: usize = 256;
/// Bytes of one block.
const BYTES: usize = 42;

const SIGNS: usize = 32;
const GROUPS: usize = COLUMNS / 4;

pub(super) static STQ1_0: Entry = Entry {
    name: "STQ1_0",
    size: Size::Blocks { columns: COLUMNS, bytes: BYTES },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(COLUMNS), decode, encode },
    number: TypeNumber::new(42).called("STQ1_0 of AngelSlim").only(&["hunyuan-dense"]).file_types(&[41, 42]),
    also: &[TypeNumber::new(43).called("STQ1_0 of AngelSlim").only(&["hunyuan-dense"]).file_types(&[41, 42])],
};

/// Decodes the bytes of a tensor (exactly its size).
fn decode(stored: &Stored) -> Result<Ternary> {
    decode_blocks::<COLUMNS, BYTES>(stored, BYTES - 2, |block, codes| {
        for group in 0..GROUPS {
            let slot = block[group / 2] >> (group % 2 * 4) & 15;
            let turned = block[SIGNS + group / 8] >> (group % 8) & 1;
            let mut minus = [0, slot & 1, slot >> 1 & 1].into_iter();
            for p in 0..4 {
                let is_zero = p == usize::from(slot >> 2);
                codes[column(group, p)] = if is_zero { 1 } else { 2 - 2 * (minus.next().unwrap_or(0) ^ turned) };
            }
        }
    })
}

/// Encodes ternary weights; scales are rounded to f16.
fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<COLUMNS, BYTES>(encoding, weights, BYTES - 2, |codes, out| {
        for group in 0..GROUPS {
            let four = [0, 1, 2, 3].map(|p| codes[column(group, p)]);
            let mut others = four.iter().filter(|&&code| code != 1).map(|&code| u8::from(code == 0));
            let (Some(first), Some(second), Some(third), None) =
                (others.next(), others.next(), others.next(), others.next())
            else {
                return Err("has four trits of which not exactly one is zero");
            };
            let zero = four.iter().position(|&code| code == 1).expect("three of four are not zero") as u8;
            let slot = zero << 2 | (third ^ first) << 1 | (second ^ first);
            out[group / 2] |= slot << (group % 2 * 4);
            out[SIGNS + group / 8] |= first << (group % 8);
        }
        Ok(())
    })
}

/// The column of a group's place p.
fn column(group: usize, p: usize) -> usize {
    64 * (group / 16) + group % 16 + 16 * p
}
