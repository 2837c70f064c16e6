//! The activations: floats, and int8 with what a product needs to know of them.

use std::ops::{Deref, DerefMut};

use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::error::{Error, Result};
use crate::format::ternary::{BLOCK, padded};

/// f32 `[max_rows, cols]`.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

/// int8 `[max_rows, cols]` with the multiplier of each row, and the sums that take the place of the trits' offset.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) cols: usize,
    /// `cols` in whole blocks; the columns beyond `cols` hold zeros, so that loops need no tails.
    pub(crate) stride: usize,
    pub(crate) values: Aligned,      // [max_rows, stride]
    pub(crate) scales: Vec<f32>,     // [max_rows]
    pub(crate) block_sums: Vec<i32>, // [max_rows, stride / 128]
    pub(crate) sums: Vec<i32>,       // [max_rows]
}

/// Zeros at first, and they begin with a cache line: a row is whole blocks, so no vector of activations lies across two
/// lines, which would be two loads.
#[derive(Debug)]
pub(crate) struct Aligned {
    values: Vec<i8>, // never moved: it does not grow
    begin: usize,
    len: usize,
}

impl Aligned {
    const LINE: usize = 64;

    fn zeros(len: usize) -> Result<Self> {
        let values: Vec<i8> = filled(len.saturating_add(Self::LINE), 0)?;
        // `align_offset` may not know, and then answers `usize::MAX`: alignment is for speed alone.
        let begin = Some(values.as_ptr().align_offset(Self::LINE)).filter(|&begin| begin < Self::LINE).unwrap_or(0);
        Ok(Self { values, begin, len })
    }
}

impl Deref for Aligned {
    type Target = [i8];

    fn deref(&self) -> &[i8] {
        &self.values[self.begin..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [i8] {
        &mut self.values[self.begin..][..self.len]
    }
}

/// A vector of `len` copies of `value`.
///
/// # Errors
/// [`Error::Device`] if there is no memory for it.
pub(crate) fn filled<T: Copy>(len: usize, value: T) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(len)
        .map_err(|e| Error::Device(format!("no memory for {len} values of {} bytes: {e}", size_of::<T>())))?;
    values.resize(len, value);
    Ok(values)
}

/// `rows * cols`.
///
/// # Errors
/// [`Error::Device`] if that is beyond any memory.
pub(crate) fn area(rows: usize, cols: usize) -> Result<usize> {
    rows.checked_mul(cols).ok_or_else(|| Error::Device(format!("no memory for [{rows}, {cols}]")))
}

impl Tensor {
    pub(crate) fn new(max_rows: usize, cols: usize) -> Result<Self> {
        // NaN, so that whoever reads what was never written finds out.
        Ok(Self { cols, values: filled(area(max_rows, cols)?, f32::NAN)? })
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    /// The first rows.
    pub(crate) fn rows_mut(&mut self, rows: usize) -> &mut [f32] {
        &mut self.values[..rows * self.cols]
    }
}

impl Quantized {
    pub(crate) fn new(max_rows: usize, cols: usize) -> Result<Self> {
        let stride = padded(cols);
        Ok(Self {
            cols,
            stride,
            values: Aligned::zeros(area(max_rows, stride)?)?,
            scales: filled(max_rows, f32::NAN)?,
            block_sums: filled(max_rows * (stride / BLOCK), 0)?,
            sums: filled(max_rows, 0)?,
        })
    }

    pub(crate) fn blocks(&self) -> usize {
        self.stride / BLOCK
    }

    /// All rows, each to be written by one thread.
    pub(crate) fn split(&mut self) -> Rows<'_> {
        let (cols, stride, blocks) = (self.cols, self.stride, self.blocks());
        let (values, block_sums) = (Disjoint::new(&mut self.values), Disjoint::new(&mut self.block_sums));
        let (scales, sums) = (Disjoint::new(&mut self.scales), Disjoint::new(&mut self.sums));
        Rows { cols, stride, blocks, values, block_sums, scales, sums }
    }
}

/// The rows of a [`Quantized`], for several threads.
pub(crate) struct Rows<'a> {
    cols: usize,
    stride: usize,
    blocks: usize,
    values: Disjoint<'a, i8>,
    block_sums: Disjoint<'a, i32>,
    scales: Disjoint<'a, f32>,
    sums: Disjoint<'a, i32>,
}

impl Rows<'_> {
    /// One row.
    ///
    /// # Safety
    /// No row may be used twice at a time.
    pub(crate) unsafe fn row(&self, row: usize) -> QuantizedRow<'_> {
        // SAFETY: different rows have different places in each of the four, and the caller uses each row once at a time.
        unsafe {
            QuantizedRow {
                cols: self.cols,
                values: self.values.cut(row * self.stride..(row + 1) * self.stride),
                block_sums: self.block_sums.cut(row * self.blocks..(row + 1) * self.blocks),
                scale: &mut self.scales.cut(row..row + 1)[0],
                sum: &mut self.sums.cut(row..row + 1)[0],
            }
        }
    }
}

/// One row of a [`Quantized`].
pub(crate) struct QuantizedRow<'a> {
    cols: usize,
    values: &'a mut [i8], // with the padding
    block_sums: &'a mut [i32],
    scale: &'a mut f32,
    sum: &'a mut i32,
}

/// Values that are computed, used and computed again rather than stored: a piece that stays in the nearest cache.
const PIECE: usize = 512;

impl QuantizedRow<'_> {
    /// The int8 to write.
    pub(crate) fn values(&mut self) -> &mut [i8] {
        &mut self.values[..self.cols]
    }

    /// Closes a row whose values were written.
    pub(crate) fn finish(self, kernels: &dyn Kernels, scale: f32) {
        kernels.block_sums(self.block_sums, self.values);
        *self.sum = self.block_sums.iter().sum();
        *self.scale = scale;
    }

    /// Quantises `x`.
    pub(crate) fn quantize(mut self, kernels: &dyn Kernels, x: &[f32]) {
        let scale = 127.0 / kernels.absmax(x);
        kernels.round(self.values(), x, scale);
        self.finish(kernels, scale);
    }

    /// Quantises `x * factor * gain`.
    pub(crate) fn norm_quantize(mut self, kernels: &dyn Kernels, x: &[f32], factor: f32, gain: &[f32]) {
        let mut piece = [0.0f32; PIECE];
        let mut absmax = 0.0f32;
        for (x, gain) in x.chunks(PIECE).zip(gain.chunks(PIECE)) {
            let piece = &mut piece[..x.len()];
            kernels.norm(piece, x, factor, gain);
            absmax = absmax.max(kernels.absmax(piece));
        }
        let scale = 127.0 / absmax;
        for ((out, x), gain) in self.values().chunks_mut(PIECE).zip(x.chunks(PIECE)).zip(gain.chunks(PIECE)) {
            let piece = &mut piece[..x.len()];
            kernels.norm(piece, x, factor, gain);
            kernels.round(out, piece, scale);
        }
        self.finish(kernels, scale);
    }
}

/// What RMSNorm multiplies a row with: `1 / sqrt(mean(x²) + epsilon)`.
pub(crate) fn norm_factor(kernels: &dyn Kernels, x: &[f32], epsilon: f32) -> f32 {
    let mean_square = kernels.sum_squares(x) / x.len() as f64;
    (mean_square + f64::from(epsilon)).sqrt().recip() as f32
}
