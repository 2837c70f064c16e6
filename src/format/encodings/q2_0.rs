//! Q2_0 (ggml type 42) and PQ2_0 (type 142 of PrismML; before that number existed, 42 as well): trits of 2 bits each,
//! with an f16 scale for 64 or 128 columns of a row.
//!
//! ```text
//! A block of Q2_0 is 18 bytes for 64 columns, one of PQ2_0 is 34 bytes for 128; code = trit + 1. The code 3 would mean
//! +2; ternary models do not have it.
//!
//!   byte 0       scale, f16
//!        2 …     codes, four consecutive columns in a byte
//!
//!   bit   7 6    | 5 4    | 3 2    | 1 0
//!   col   4b + 3 | 4b + 2 | 4b + 1 |  4b       (byte 2 + b)
//! ```
//!
//! Source: `block_q2_0` in ggml-common.h and its older form in PrismML's fork. Files in groups of 64 come from models
//! whose scales cover 128 columns: two blocks that make one of the canonical packing must agree.

use super::Encoding;
use super::blocks::{decode_blocks, encode_blocks, pack_consecutive, unpack_consecutive};
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber};
use crate::error::Result;
use crate::format::ternary::Ternary;

/// Bytes of a scale.
const SCALE: usize = 2;

pub(super) static Q2_0: Entry = Entry {
    name: "Q2_0",
    size: Size::Blocks { columns: 64, bytes: 18 },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(64), decode: decode::<64, 18>, encode: encode::<64, 18> },
    number: TypeNumber::new(42).called("Q2_0 in groups of 64").file_types(&[41]),
    also: &[],
};

pub(super) static PQ2_0: Entry = Entry {
    name: "PQ2_0",
    size: Size::Blocks { columns: 128, bytes: 34 },
    kind: Kind::Ternary { scales: ScalePlaces::Columns(128), decode: decode::<128, 34>, encode: encode::<128, 34> },
    number: TypeNumber::new(142).called("PQ2_0 of PrismML").prism().file_types(&[128, 141]),
    also: &[TypeNumber::new(42)
        .called("Q2_0 in groups of 128, as PQ2_0 of PrismML")
        .prism()
        .file_types(&[41, 128, 141])],
};

/// Decodes the bytes of a tensor.
fn decode<const COLUMNS: usize, const BYTES: usize>(stored: &Stored) -> Result<Ternary> {
    decode_blocks::<COLUMNS, BYTES>(stored, 0, |block, codes| unpack_consecutive(&block[SCALE..], codes))
}

/// Encodes ternary weights; scales are rounded to f16.
fn encode<const COLUMNS: usize, const BYTES: usize>(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<COLUMNS, BYTES>(encoding, weights, 0, |codes, out| {
        pack_consecutive(codes, &mut out[SCALE..]);
        Ok(())
    })
}
