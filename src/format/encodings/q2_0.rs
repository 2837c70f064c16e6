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
use crate::error::Result;
use crate::format::ternary::Ternary;

/// Columns and bytes of one block of Q2_0.
pub(super) const BLOCK_64: (usize, usize) = (64, 18);
/// Columns and bytes of one block of PQ2_0.
pub(super) const BLOCK_128: (usize, usize) = (128, 34);

/// Decodes the bytes of a tensor (exactly its size).
pub(super) fn decode(encoding: Encoding, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
    match encoding {
        Encoding::Q2_0 => decode_groups::<{ BLOCK_64.0 }, { BLOCK_64.1 }>(encoding, bytes, rows, cols),
        _ => decode_groups::<{ BLOCK_128.0 }, { BLOCK_128.1 }>(encoding, bytes, rows, cols),
    }
}

fn decode_groups<const COLUMNS: usize, const BYTES: usize>(
    encoding: Encoding,
    bytes: &[u8],
    rows: usize,
    cols: usize,
) -> Result<Ternary> {
    decode_blocks::<COLUMNS, BYTES>(encoding, bytes, rows, cols, 0, |block, codes| {
        unpack_consecutive(&block[2..], codes);
    })
}

/// Encodes ternary weights; scales are rounded to f16.
pub(super) fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    match encoding {
        Encoding::Q2_0 => encode_groups::<{ BLOCK_64.0 }, { BLOCK_64.1 }>(encoding, weights),
        _ => encode_groups::<{ BLOCK_128.0 }, { BLOCK_128.1 }>(encoding, weights),
    }
}

fn encode_groups<const COLUMNS: usize, const BYTES: usize>(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    encode_blocks::<COLUMNS, BYTES>(encoding, weights, 0, |codes, out| {
        pack_consecutive(codes, &mut out[2..]);
        Ok(())
    })
}
