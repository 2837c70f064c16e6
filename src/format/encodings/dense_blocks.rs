//! The frames of dense block formats. Where a weight is scale · q it stays so, as int8. Where it is scale · q + offset
//! it becomes f16: off by at most 2⁻¹¹ of itself, or by 2⁻²⁵ where it is below 2⁻¹⁴. A tensor with a weight beyond
//! f16's range becomes f32, with nothing lost.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;

use super::entry::Stored;
use super::repack::{each_row, room};
use crate::allocation::collected;
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
    let Ok(()) = each_row(&mut codes, cols, |row, out| -> Result<(), Infallible> {
        for (block, out) in blocks[row * (cols / COLUMNS)..].iter().zip(out.as_chunks_mut().0) {
            codes_of(block, out);
        }
        Ok(())
    });
    let scales = collected(blocks.len() * GROUPS, blocks.iter().flat_map(scales_of))?;
    Dense::new(rows, cols, Values::Int8 { columns: COLUMNS / GROUPS, codes: codes.into(), scales })
}

/// Decodes a tensor of blocks of `COLUMNS` weights in `BYTES` bytes to floats.
pub(super) fn decode_floats<const COLUMNS: usize, const BYTES: usize>(
    &Stored { encoding, bytes, rows, cols, .. }: &Stored,
    values_of: impl Fn(&[u8; BYTES], &mut [f32; COLUMNS]) + Sync,
) -> Result<Dense> {
    let (blocks, _) = bytes.as_chunks::<BYTES>(); // [rows, cols / COLUMNS]
    // Block by block, so that no row of floats is held.
    let each_block = |row: usize, write: &mut dyn FnMut(usize, &[f32; COLUMNS])| {
        for (place, block) in blocks[row * (cols / COLUMNS)..][..cols / COLUMNS].iter().enumerate() {
            let mut values = [0.0; COLUMNS];
            values_of(block, &mut values);
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::Malformed(format!("{encoding}: a scale in row {row} is not finite")));
            }
            write(place * COLUMNS, &values);
        }
        Ok(())
    };
    let fits = AtomicBool::new(true);
    let mut halves = room(encoding.name(), rows, 2 * cols)?;
    each_row(&mut halves, 2 * cols, |row, out| {
        let mut row_fits = true;
        each_block(row, &mut |first, values| {
            for (out, value) in out.as_chunks_mut().0[first..].iter_mut().zip(values.map(f16::from_f32)) {
                row_fits &= value.is_finite();
                *out = value.to_le_bytes();
            }
        })?;
        fits.fetch_and(row_fits, Ordering::Relaxed);
        Ok(())
    })?;
    if fits.into_inner() {
        return Dense::new(rows, cols, Values::F16(halves.into()));
    }
    drop(halves);
    let mut floats = room(encoding.name(), rows, 4 * cols)?;
    each_row(&mut floats, 4 * cols, |row, out| {
        each_block(row, &mut |first, values| {
            for (out, value) in out.as_chunks_mut().0[first..].iter_mut().zip(values) {
                *out = value.to_le_bytes();
            }
        })
    })?;
    Dense::new(rows, cols, Values::F32(floats.into()))
}

/// The f16 at a byte of a block.
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
