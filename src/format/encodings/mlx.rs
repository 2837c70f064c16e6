//! MLX's affine integers: 2, 4 or 8 bits in words of 32, with a scale and a bias for each group of columns.
//!
//! ```text
//! U32 [rows, cols · bits / 32]; the integer q of column c stands in the bits from (c · bits) mod 32 of its word,
//! the first column lowest; weight = scale · q + bias
//! ```
//!
//! Ternary models have 2 bits, bias = −scale and no q of 3, so that weight = scale · (q − 1). Source: `mx.quantize` of MLX,
//! mode "affine".

use std::convert::Infallible;

use half::{bf16, f16};

use super::repack::{collapse, each_row, each_row_noted, room};
use crate::allocation::filled;
use crate::error::{Error, Result};
use crate::format::dense::{Dense, Values};
use crate::format::ternary::{self, BLOCK, BLOCK_BYTES, Ternary};

/// A quantised matrix as it is stored.
pub struct Integers<'a> {
    /// 2, 4 or 8.
    pub bits: usize,
    /// Columns that a scale covers.
    pub columns: usize,
    /// Little-endian words, `[rows, cols * bits / 32]`.
    pub words: &'a [u8],
    /// `[rows, cols / columns]`.
    pub scales: Dense,
    /// `[rows, cols / columns]`.
    pub biases: Dense,
}

/// An integer is 3, which is no trit.
struct Contradiction;

impl Integers<'_> {
    /// The ternary form, if the matrix is ternary and each 128 columns have one scale: groups are of a multiple of them, or
    /// smaller ones within them agree.
    ///
    /// # Errors
    /// [`Error::Malformed`] if sizes do not fit or a scale is not finite, [`Error::Device`] if there is no memory.
    pub fn ternary(&self, rows: usize, cols: usize) -> Result<Option<Ternary>> {
        self.check(rows, cols)?;
        let (scales, biases) = (self.scales.try_to_f32()?, self.biases.try_to_f32()?);
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(Error::Malformed(format!("MLX integers [{rows}, {cols}]: the scale {scale}")));
        }
        let opposite = scales.iter().zip(&biases).all(|(scale, bias)| *bias == -scale);
        let fits_blocks = self.columns.is_multiple_of(BLOCK) || BLOCK.is_multiple_of(self.columns);
        if self.bits != 2 || !fits_blocks || !opposite {
            return Ok(None);
        }
        let row_bytes = ternary::padded(cols) / 4;
        let mut packed = room("MLX integers", rows, row_bytes)?;
        let mut used = filled(scales.len(), false)?; // [rows, cols / columns]: whether a scale multiplies anything
        let found = each_row_noted(&mut packed, row_bytes, &mut used, |row, out, used| {
            for (block, out) in out.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().enumerate() {
                let (first, mut codes) = (block * BLOCK, [0; BLOCK]);
                let codes = &mut codes[..BLOCK.min(cols - first)];
                self.codes(row * cols + first, codes);
                if codes.contains(&3) {
                    return Err(Contradiction);
                }
                ternary::pack_codes(codes, out);
                for (column, &code) in (first..).zip(&*codes) {
                    used[column / self.columns] |= code != 1;
                }
            }
            Ok(())
        });
        if let Err(Contradiction) = found {
            return Ok(None);
        }
        let Some((scales, used)) = self.join(cols / self.columns, scales, used) else { return Ok(None) };
        let scales = collapse(rows, self.columns.max(BLOCK), scales, |group| used[group])?;
        Ternary::new(rows, cols, packed.into(), scales).map(Some)
    }

    /// One scale for each 128 columns of those of smaller groups, if they agree, and whether it multiplies anything. A
    /// group of zeros has no say.
    fn join(&self, per_row: usize, scales: Vec<f32>, used: Vec<bool>) -> Option<(Vec<f32>, Vec<bool>)> {
        if self.columns >= BLOCK {
            return Some((scales, used));
        }
        let blocks = |groups: usize| (0..groups).step_by(BLOCK / self.columns);
        let rows = (0..scales.len()).step_by(per_row);
        let joined = rows.flat_map(|row| blocks(per_row).map(move |first| (row, first))).map(|(row, first)| {
            let end = per_row.min(first + BLOCK / self.columns);
            let mut with_a_say = (row + first..row + end).filter(|&group| used[group]);
            let Some(chosen) = with_a_say.next() else { return Some((scales[row + first], false)) };
            let agree = with_a_say.all(|group| scales[group].to_bits() == scales[chosen].to_bits());
            agree.then_some((scales[chosen], true))
        });
        joined.collect::<Option<Vec<_>>>().map(|joined| joined.into_iter().unzip())
    }

    /// The matrix as floats of the scales' format, rounded as MLX rounds them.
    ///
    /// # Errors
    /// [`Error::Malformed`] if sizes do not fit, [`Error::Device`] if there is no memory.
    pub fn dense(&self, rows: usize, cols: usize) -> Result<Dense> {
        self.check(rows, cols)?;
        let (scales, biases) = (self.scales.try_to_f32()?, self.biases.try_to_f32()?);
        let width = if matches!(self.scales.values(), Values::F32(_)) { 4 } else { 2 };
        let mut bytes = room("MLX integers", rows, cols * width)?;
        let Ok(()) = each_row(&mut bytes, cols * width, |row, out| -> Result<(), Infallible> {
            let groups = cols / self.columns;
            for (col, out) in out.chunks_exact_mut(width).enumerate() {
                let (group, mut code) = (row * groups + col / self.columns, [0]);
                self.codes(row * cols + col, &mut code);
                let value = scales[group] * f32::from(code[0]) + biases[group];
                match self.scales.values() {
                    Values::F16(_) => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                    Values::Bf16(_) => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                    _ => out.copy_from_slice(&value.to_le_bytes()),
                }
            }
            Ok(())
        });
        let values = match self.scales.values() {
            Values::F16(_) => Values::F16(bytes.into()),
            Values::Bf16(_) => Values::Bf16(bytes.into()),
            _ => Values::F32(bytes.into()),
        };
        Dense::new(rows, cols, values)
    }

    fn check(&self, rows: usize, cols: usize) -> Result<()> {
        let fits = matches!(self.bits, 2 | 4 | 8)
            && self.columns > 0
            && cols.is_multiple_of(self.columns)
            && (cols * self.bits).is_multiple_of(32)
            && self.words.len() == rows * cols * self.bits / 8
            && [&self.scales, &self.biases].iter().all(|d| d.rows() == rows && d.cols() == cols / self.columns);
        match fits {
            true => Ok(()),
            false => Err(Error::Malformed(format!("MLX integers [{rows}, {cols}] of {} bits do not fit", self.bits))),
        }
    }

    /// The integers from the weight `first` on, counted over the rows. Words are little-endian, so all bits are one sequence,
    /// lowest first.
    fn codes(&self, first: usize, codes: &mut [u8]) {
        let per_byte = 8 / self.bits;
        let mask = (1_u16 << self.bits) - 1;
        for (place, code) in (first..).zip(codes) {
            *code = self.words[place / per_byte] >> (place % per_byte * self.bits) & mask as u8;
        }
    }
}
