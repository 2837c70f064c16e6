//! IQ2_BN and IQ2_BN_R4 (types 135 and 335 of ik_llama.cpp): trits of 2 bits each, with an f32 scale for each row.
//!
//! ```text
//! code = trit + 1. A row of IQ2_BN is its scale, f32, then 16 bytes for each 64 columns:
//!
//!   bit   7 6    | 5 4    | 3 2    | 1 0
//!   col   b + 48 | b + 32 | b + 16 |  b
//!
//! Four rows of IQ2_BN_R4 are their scales, 4 × f32, then 64 bytes for each 64 columns. Of byte 16 l + 4 k + i
//! (l = 0 … 3, row k = 0 … 3, i = 0 … 3):
//!
//!   bit   7 6          | 5 4         | 3 2         | 1 0
//!   col   16 l + 12 + i | 16 l + 8 + i | 16 l + 4 + i | 16 l + i
//! ```
//!
//! Source: `block_iq2_bn` and `repack_iq2_bn` in ik_llama.cpp.

use super::Encoding;
use super::blocks::block_scale;
use super::entry::{Entry, Kind, ScalePlaces, Size, Stored, TypeNumber, check_whole, counted};
use super::repack::{check_finite, collapse, decode_rows, row_codes};
use crate::allocation::collected;
use crate::error::{Error, Result};
use crate::format::ternary::{BLOCK, Ternary, ZERO_BYTE};

/// Columns that a run of bytes covers.
const COLUMNS: usize = 64;
/// Bytes of a scale.
const SCALE: usize = 4;

pub(super) static IQ2_BN: Entry = Entry {
    name: "IQ2_BN",
    size: Size::Computed { size: size::<1>, look: None },
    kind: Kind::Ternary { scales: ScalePlaces::Rows { is_half: false }, decode: decode::<1>, encode: encode::<1> },
    number: TypeNumber::new(135),
    also: &[],
};

pub(super) static IQ2_BN_R4: Entry = Entry {
    name: "IQ2_BN_R4",
    size: Size::Computed { size: size::<4>, look: None },
    kind: Kind::Ternary { scales: ScalePlaces::Rows { is_half: false }, decode: decode::<4>, encode: encode::<4> },
    number: TypeNumber::new(335),
    also: &[],
};

/// Bytes of a tensor that stores `TOGETHER` rows together, one or four, as all functions here.
fn size<const TOGETHER: usize>(encoding: Encoding, rows: usize, cols: usize) -> Result<usize> {
    check_whole(encoding, cols, COLUMNS)?;
    if !rows.is_multiple_of(TOGETHER) {
        return Err(Error::Malformed(format!("{encoding} stores four rows together, but this tensor has {rows}")));
    }
    let row_bytes = (cols / 4).checked_add(SCALE);
    counted(encoding, row_bytes.and_then(|bytes| bytes.checked_mul(rows)), rows, cols)
}

/// Decodes the bytes of a tensor (exactly its size).
fn decode<const TOGETHER: usize>(stored: &Stored) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let row_bytes = cols / 4 + SCALE;
    let packed = decode_rows(stored, |row, codes| {
        let stored = &bytes[row / TOGETHER * TOGETHER * row_bytes..][..TOGETHER * row_bytes];
        let runs = stored[TOGETHER * SCALE..].chunks_exact(TOGETHER * COLUMNS / 4);
        for (run, codes) in runs.zip(codes.chunks_exact_mut(COLUMNS)) {
            for (column, code) in codes.iter_mut().enumerate() {
                let (byte, shift) = place::<TOGETHER>(row % TOGETHER, column);
                *code = run[byte] >> shift & 3;
            }
        }
        Ok(())
    })?;
    let scale = |row: usize| {
        let at = row / TOGETHER * TOGETHER * row_bytes + row % TOGETHER * SCALE;
        f32::from_le_bytes(*bytes[at..].first_chunk().expect("each row has a scale"))
    };
    let scales = collected(rows, (0..rows).map(scale))?;
    check_finite(encoding, &scales, 1)?;
    let packed_row = packed.len() / rows;
    let is_zero = |row: usize| packed[row * packed_row..][..packed_row].iter().all(|&byte| byte == ZERO_BYTE);
    let scales = collapse(rows, cols.next_multiple_of(BLOCK), scales, |row| !is_zero(row))?;
    Ternary::new(rows, cols, packed.into(), scales)
}

/// Encodes ternary weights with one scale a row.
fn encode<const TOGETHER: usize>(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = vec![0; encoding.encoded_size(rows, cols)?];
    let mut codes = vec![0; cols];
    let row_bytes = cols / 4 + SCALE;
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        let stored = &mut bytes[row / TOGETHER * TOGETHER * row_bytes..][..TOGETHER * row_bytes];
        let scale = block_scale(encoding, weights, row, 0, cols)?;
        stored[row % TOGETHER * SCALE..][..SCALE].copy_from_slice(&scale.to_le_bytes());
        let runs = stored[TOGETHER * SCALE..].chunks_exact_mut(TOGETHER * COLUMNS / 4);
        for (run, codes) in runs.zip(codes.chunks_exact(COLUMNS)) {
            for (column, code) in codes.iter().enumerate() {
                let (byte, shift) = place::<TOGETHER>(row % TOGETHER, column);
                run[byte] |= code << shift;
            }
        }
    }
    Ok(bytes)
}

/// The byte and the lowest bit of a column (0 … 63) in its run.
fn place<const TOGETHER: usize>(row: usize, column: usize) -> (usize, usize) {
    match TOGETHER {
        1 => (column % 16, column / 16 * 2),
        _ => (column / 16 * 16 + row * 4 + column % 4, column % 16 / 4 * 2),
    }
}
