//! The activations: floats, and what products take, with all that they need to know of it.

mod rows;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use rows::Rows;

use crate::allocation::{area, filled};
use crate::backend::{Numerics, Storage};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::cpu::{Basis, Cpu, Matrix};
use crate::error::Result;
use crate::format::ternary::{BLOCK, padded};

/// f32 `[max_rows, cols]`.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) cols: usize,
    pub(crate) values: Vec<f32>,
}

/// The input of linear layers, `[max_rows, cols]`: int8 with the multiplier of each row or block of 128 columns, and the sums
/// that take the place of the trits' offset; or f32.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) numerics: Numerics,
    pub(crate) cols: usize,
    /// `cols` in whole blocks; the columns beyond `cols` hold zeros, so that loops need no tails.
    pub(crate) stride: usize,
    pub(crate) values: Aligned,           // [max_rows, stride]; nothing where they are f32
    pub(crate) scales: Vec<f32>,          // [max_rows, scales_a_row]
    pub(crate) steps: Vec<f32>,           // [max_rows, scales_a_row], what one step of the int8 stands for: 1 / scale
    pub(crate) block_sums: Vec<i32>,      // [max_rows, stride / 128]
    pub(crate) sums: Vec<i32>,            // [max_rows]
    pub(crate) floats: Vec<f32>,          // [max_rows, stride], where they are f32
    pub(crate) basis: Option<Arc<Basis>>, // by which rows are turned before
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
    /// Of no length, where room is made later.
    pub(crate) const NONE: Self = Self { values: Vec::new(), begin: 0, len: 0 };

    const LINE: usize = 64;

    pub(crate) fn zeros(len: usize) -> Result<Self> {
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

impl Storage for Cpu {
    type Tensor = Tensor;
    type Quantized = Quantized;
    type Matrix = Matrix;
}

impl Tensor {
    pub(crate) fn new(max_rows: usize, cols: usize) -> Result<Self> {
        // NaN, so that whoever reads what was never written finds out.
        Ok(Self { cols, values: filled(area(max_rows, cols)?, f32::NAN)? })
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.cols..][..self.cols]
    }

    /// The first rows.
    pub(crate) fn rows_mut(&mut self, rows: usize) -> &mut [f32] {
        &mut self.values[..rows * self.cols]
    }
}

impl Quantized {
    pub(crate) fn new(max_rows: usize, cols: usize, numerics: Numerics) -> Result<Self> {
        let stride = padded(cols);
        let (scales_a_row, area) = (scales_a_row(numerics, stride), area(max_rows, stride)?);
        let (integers, floats) = if numerics == Numerics::Float { (0, area) } else { (area, 0) };
        Ok(Self {
            numerics,
            cols,
            stride,
            values: Aligned::zeros(integers)?,
            scales: filled(max_rows * scales_a_row, f32::NAN)?,
            steps: filled(max_rows * scales_a_row, f32::NAN)?,
            block_sums: filled(integers / BLOCK, 0)?,
            sums: filled(max_rows, 0)?,
            floats: filled(floats, 0.0)?,
            basis: None,
        })
    }

    pub(crate) fn blocks(&self) -> usize {
        self.stride / BLOCK
    }

    /// Multipliers of each row.
    pub(crate) fn scales_a_row(&self) -> usize {
        scales_a_row(self.numerics, self.stride)
    }

    /// All rows, each to be written by one thread.
    pub(crate) fn split(&mut self) -> Rows<'_> {
        Rows {
            numerics: self.numerics,
            cols: self.cols,
            stride: self.stride,
            scales_a_row: self.scales_a_row(),
            values: Disjoint::new(&mut self.values),
            block_sums: Disjoint::new(&mut self.block_sums),
            scales: Disjoint::new(&mut self.scales),
            steps: Disjoint::new(&mut self.steps),
            sums: Disjoint::new(&mut self.sums),
            floats: Disjoint::new(&mut self.floats),
            basis: self.basis.as_deref(),
        }
    }
}

fn scales_a_row(numerics: Numerics, stride: usize) -> usize {
    match numerics {
        Numerics::Int8Rows => 1,
        Numerics::Int8Groups => stride / BLOCK,
        Numerics::Float => 0,
    }
}

/// What RMSNorm multiplies a row with: `1 / sqrt(mean(x²) + epsilon)`.
pub(crate) fn norm_factor(kernels: &dyn Kernels, x: &[f32], epsilon: f32) -> f32 {
    let mean_square = kernels.sum_squares(x) / x.len() as f64;
    (mean_square + f64::from(epsilon)).sqrt().recip() as f32
}
