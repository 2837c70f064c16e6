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
use super::repack::{check_finite, collapse, decode_rows, row_codes};
use crate::error::Result;
use crate::format::ternary::{Ternary, ZERO_BYTE};

/// Columns that a run of bytes covers.
pub(super) const COLUMNS: usize = 64;
/// Rows that are stored together in IQ2_BN_R4.
pub(super) const TOGETHER: usize = 4;

/// Bytes of a scale.
const SCALE: usize = 4;

/// Bytes of one row; of a fourth of four rows in IQ2_BN_R4. The columns are whole runs.
pub(super) fn row_bytes(cols: usize) -> Option<usize> {
    (cols / 4).checked_add(SCALE)
}

/// Decodes the bytes of a tensor (exactly its size).
pub(super) fn decode(encoding: Encoding, bytes: &[u8], rows: usize, cols: usize) -> Result<Ternary> {
    let row_bytes = cols / 4 + SCALE;
    let together = together(encoding);
    let packed = decode_rows(encoding, rows, cols, |row, codes| {
        let stored = &bytes[row / together * together * row_bytes..][..together * row_bytes];
        let runs = stored[together * SCALE..].chunks_exact(together * COLUMNS / 4);
        for (run, codes) in runs.zip(codes.chunks_exact_mut(COLUMNS)) {
            for (column, code) in codes.iter_mut().enumerate() {
                let (byte, shift) = place(together, row % together, column);
                *code = run[byte] >> shift & 3;
            }
        }
        Ok(())
    })?;
    let scale = |row: usize| {
        let at = row / together * together * row_bytes + row % together * SCALE;
        f32::from_le_bytes(*bytes[at..].first_chunk().expect("each row has a scale"))
    };
    let scales: Vec<f32> = (0..rows).map(scale).collect();
    check_finite(encoding, &scales, 1)?;
    let packed_row = packed.len() / rows;
    let is_zero = |row: usize| packed[row * packed_row..][..packed_row].iter().all(|&byte| byte == ZERO_BYTE);
    let scales = collapse(rows, cols.next_multiple_of(crate::format::ternary::BLOCK), scales, |row| !is_zero(row));
    Ternary::new(rows, cols, packed.into(), scales)
}

/// Encodes ternary weights with one scale a row.
pub(super) fn encode(encoding: Encoding, weights: &Ternary) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = vec![0; encoding.encoded_size(rows, cols)?];
    let together = together(encoding);
    let mut codes = vec![0; cols];
    let row_bytes = cols / 4 + SCALE;
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        let stored = &mut bytes[row / together * together * row_bytes..][..together * row_bytes];
        let scale = block_scale(encoding, weights, row, 0, cols)?;
        stored[row % together * SCALE..][..SCALE].copy_from_slice(&scale.to_le_bytes());
        let runs = stored[together * SCALE..].chunks_exact_mut(together * COLUMNS / 4);
        for (run, codes) in runs.zip(codes.chunks_exact(COLUMNS)) {
            for (column, code) in codes.iter().enumerate() {
                let (byte, shift) = place(together, row % together, column);
                run[byte] |= code << shift;
            }
        }
    }
    Ok(bytes)
}

fn together(encoding: Encoding) -> usize {
    if encoding == Encoding::Iq2BnR4 { TOGETHER } else { 1 }
}

/// The byte and the lowest bit of a column (0 … 63) in its run.
fn place(together: usize, row: usize, column: usize) -> (usize, usize) {
    match together {
        1 => (column % 16, column / 16 * 2),
        _ => (column / 16 * 16 + row * 4 + column % 4, column % 16 / 4 * 2),
    }
}
