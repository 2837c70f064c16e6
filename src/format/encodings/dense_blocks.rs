//! The frames of dense block formats. Where a weight is scale · q it stays so, as int8. Where it is scale · q + offset
//! it becomes f16: off by at most 2⁻¹¹ of itself, or by 2⁻²⁵ where it is below 2⁻¹⁴. A tensor with a weight beyond
//! f16's range becomes f32, with nothing lost.

use std::convert::Infallible;

use half::f16;

use super::entry::Stored;
use super::repack::{each_row, room};
use crate::error::{Error, Result};
use crate::format::dense::{Dense, Values};

/// Decodes a tensor of blocks of `COLUMNS` integers in `BYTES` bytes, with a scale for each `COLUMNS / GROUPS` columns.
/// `codes_of` writes the integers of a block in two's complement.
pub(super) fn decode_integers<const COLUMNS: usize, const GROUPS: usize, const BYTES: usize>(
    &Stored { encoding, bytes, rows, cols, .. }: &Stored,
    codes_of: impl Fn(&[u8; BYTES], &mut [u8; COLUMNS]) + Sync,
    scales_of: impl Fn(&[u8; BYTES]) -> [f32; GROUPS],
) -> Result<Dense> {
    let (blocks, _) = bytes.as_chunks::<BYTES>(); // [rows, cols / COLUMNS]
    let mut codes = room(encoding.name(), rows, cols)?;
    let Ok(_) = each_row(&mut codes, cols, |row, out| -> Result<(), Infallible> {
        for (block, out) in blocks[row * (cols / COLUMNS)..].iter().zip(out.as_chunks_mut().0) {
            codes_of(block, out);
        }
        Ok(())
    });
    let scales = blocks.iter().flat_map(scales_of).collect();
    Dense::new(rows, cols, Values::Int8 { columns: COLUMNS / GROUPS, codes: codes.into(), scales })
}

/// Decodes a tensor of blocks of `COLUMNS` weights in `BYTES` bytes to floats.
pub(super) fn decode_floats<const COLUMNS: usize, const BYTES: usize>(
    &Stored { encoding, bytes, rows, cols, .. }: &Stored,
    values_of: impl Fn(&[u8; BYTES], &mut [f32; COLUMNS]) + Sync,
) -> Result<Dense> {
    let (blocks, _) = bytes.as_chunks::<BYTES>(); // [rows, cols / COLUMNS]
    let row_values = |row: usize| {
        let mut values = vec![0.0; cols];
        for (block, out) in blocks[row * (cols / COLUMNS)..].iter().zip(values.as_chunks_mut().0) {
            values_of(block, out);
        }
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(Error::Malformed(format!("{encoding}: a scale in row {row} is not finite"))),
        }
    };
    let mut halves = room(encoding.name(), rows, 2 * cols)?;
    let fits = each_row(&mut halves, 2 * cols, |row, out| {
        let values = row_values(row)?.into_iter().map(f16::from_f32);
        let mut fits = true;
        for (out, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
            fits &= value.is_finite();
            *out = value.to_le_bytes();
        }
        Ok(fits)
    })?;
    if fits.iter().all(|&fits| fits) {
        return Dense::new(rows, cols, Values::F16(halves.into()));
    }
    drop(halves);
    let mut floats = room(encoding.name(), rows, 4 * cols)?;
    each_row(&mut floats, 4 * cols, |row, out| {
        for (out, value) in out.as_chunks_mut().0.iter_mut().zip(row_values(row)?) {
            *out = value.to_le_bytes();
        }
        Ok(())
    })?;
    Dense::new(rows, cols, Values::F32(floats.into()))
}

/// The f16 at a byte of a block.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
