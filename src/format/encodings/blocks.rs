//! The frame of ternary block formats: so many columns of a row in so many bytes, two of which are an f16 scale.

use half::f16;

use super::Encoding;
use super::entry::Stored;
use super::repack::{check_finite, collapse, decode_rows, row_codes};
use crate::allocation::{collected, reserved};
use crate::error::{Error, Result};
use crate::format::ternary::{BLOCK, BLOCK_BYTES, Ternary, ZERO_BYTE};

/// Decodes a tensor of blocks of `COLUMNS` trits (64, or a multiple of 128) in `BYTES` bytes, with the scale at byte
/// `scale_at`. `decode_block` writes the codes of a block, one a byte.
pub(super) fn decode_blocks<const COLUMNS: usize, const BYTES: usize>(
    stored: &Stored,
    scale_at: usize,
    decode_block: impl Fn(&[u8; BYTES], &mut [u8; COLUMNS]) + Sync,
) -> Result<Ternary> {
    let &Stored { encoding, bytes, rows, cols, .. } = stored;
    let (blocks, _) = bytes.as_chunks::<BYTES>(); // [rows, per_row]
    let per_row = cols / COLUMNS;
    let packed = decode_rows(stored, |row, codes| {
        for (block, codes) in blocks[row * per_row..].iter().zip(codes.as_chunks_mut().0) {
            decode_block(block, codes);
        }
        Ok(())
    })?;
    let scale = |block: &[u8; BYTES]| f16::from_le_bytes([block[scale_at], block[scale_at + 1]]).to_f32();
    let mut scales = collected(blocks.len(), blocks.iter().map(scale))?; // [rows, per_row]
    check_finite(encoding, &scales, per_row)?;
    if COLUMNS < BLOCK {
        scales = join_halves(encoding, &scales, per_row, packed.as_chunks().0)?;
    }
    let group = COLUMNS.max(BLOCK);
    let is_zero = |group: &[u8]| group.iter().all(|&byte| byte == ZERO_BYTE);
    let scales = collapse(rows, group, scales, |g| !is_zero(&packed[g * (group / 4)..][..group / 4]))?;
    Ternary::new(rows, cols, packed.into(), scales)
}

/// One scale for each 128 columns of two for 64. A half of zeros has no say.
fn join_halves(
    encoding: Encoding,
    scales: &[f32], // [rows, per_row]
    per_row: usize,
    packed: &[[u8; BLOCK_BYTES]], // [rows, per_row / 2, rounded up]
) -> Result<Vec<f32>> {
    let pairs = scales.chunks(per_row).flat_map(|row| row.chunks(2));
    let joined = pairs.zip(packed).enumerate().map(|(place, (pair, block))| {
        let &[low, high] = pair else { return Ok(pair[0]) };
        // The upper two fields of each byte are the first 64 columns.
        let is_zero = |mask: u8| block.iter().all(|byte| byte & mask == ZERO_BYTE & mask);
        match () {
            () if low.to_bits() == high.to_bits() || is_zero(0x0f) => Ok(low),
            () if is_zero(0xf0) => Ok(high),
            () => Err(Error::Unsupported(format!(
                "{encoding}: row {} has the scales {low} and {high} in one block of {BLOCK} columns, and scales for 64 \
                 columns are not supported",
                place / per_row.div_ceil(2)
            ))),
        }
    });
    let mut all = reserved(packed.len())?;
    for scale in joined {
        all.push(scale?);
    }
    Ok(all)
}

/// The inverse of [`decode_blocks`], which rounds scales to f16. `encode_block` gets the codes of a block, one a byte,
/// and writes all but the scale; its error says why the codes do not fit.
pub(super) fn encode_blocks<const COLUMNS: usize, const BYTES: usize>(
    encoding: Encoding,
    weights: &Ternary,
    scale_at: usize,
    encode_block: impl Fn(&[u8; COLUMNS], &mut [u8; BYTES]) -> Result<(), &'static str>,
) -> Result<Vec<u8>> {
    let (rows, cols) = (weights.rows(), weights.cols());
    let mut bytes = Vec::with_capacity(encoding.encoded_size(rows, cols)?);
    let mut codes = vec![0; cols];
    for row in 0..rows {
        row_codes(weights, row, &mut codes);
        for (block, codes) in codes.as_chunks().0.iter().enumerate() {
            let mut out = [0; BYTES];
            encode_block(codes, &mut out).map_err(|why| Error::Input(format!("{encoding}: row {row} {why}")))?;
            let scale = block_scale(encoding, weights, row, block * COLUMNS, COLUMNS)?;
            out[scale_at..scale_at + 2].copy_from_slice(&half_scale(encoding, scale, row)?.to_le_bytes());
            bytes.extend_from_slice(&out);
        }
    }
    Ok(bytes)
}

/// The one scale of the `columns` columns from `col`.
pub(super) fn block_scale(
    encoding: Encoding,
    weights: &Ternary,
    row: usize,
    col: usize,
    columns: usize,
) -> Result<f32> {
    let scale = weights.scale(row, col);
    // Groups are multiples of 128 columns.
    let mut others = (col..col + columns).step_by(BLOCK);
    if others.any(|col| weights.scale(row, col).to_bits() != scale.to_bits()) {
        return Err(Error::Input(format!(
            "{encoding} has one scale for {columns} columns, but row {row} has several in the columns from {col}"
        )));
    }
    Ok(scale)
}

/// A scale rounded to f16.
pub(super) fn half_scale(encoding: Encoding, scale: f32, row: usize) -> Result<f16> {
    let rounded = f16::from_f32(scale);
    if !rounded.is_finite() || (rounded.to_f32() == 0.0 && scale != 0.0) {
        return Err(Error::Input(format!("the scale {scale} of row {row} is out of the f16 range of {encoding}")));
    }
    Ok(rounded)
}

/// The code of each column from bytes that hold four consecutive columns, the first in the lowest bits.
pub(super) fn unpack_consecutive(bytes: &[u8], codes: &mut [u8]) {
    for (&byte, codes) in bytes.iter().zip(codes.as_chunks_mut::<4>().0) {
        *codes = [byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6];
    }
}

/// The inverse of [`unpack_consecutive`].
pub(super) fn pack_consecutive(codes: &[u8], bytes: &mut [u8]) {
    for (byte, [a, b, c, d]) in bytes.iter_mut().zip(codes.as_chunks::<4>().0) {
        *byte = a | b << 2 | c << 4 | d << 6;
    }
}
