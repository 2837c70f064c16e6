//! The activations: floats, and what products take, with all that they need to know of it.

mod rows;

use std::sync::Arc;

pub(crate) use rows::Rows;

use crate::allocation::{area, filled};
use crate::backend::{Numerics, Storage};
use crate::cpu::aligned::Aligned;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::cpu::{Basis, Cpu, Matrix};
use crate::error::Result;
use crate::format::ternary::{BLOCK, padded};

/// f32 `[max_rows, cols]`.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) cols: usize,
    pub(crate) values: Aligned<f32>,
}

/// The input of linear layers, `[max_rows, cols]`: int8 with the multiplier of each row or block of 128 columns, and the sums
/// that take the place of the trits' offset; or f32.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) numerics: Numerics,
    pub(crate) cols: usize,
    /// `cols` in whole blocks; the columns beyond `cols` hold zeros, so that loops need no tails.
    pub(crate) stride: usize,
    pub(crate) values: Aligned<i8>,       // [max_rows, stride]; nothing where they are f32
    pub(crate) scales: Vec<f32>,          // [max_rows, scales_a_row]
    pub(crate) steps: Vec<f32>,           // [max_rows, scales_a_row], what one step of the int8 stands for: 1 / scale
    pub(crate) block_sums: Vec<i32>,      // [max_rows, stride / 128]
    pub(crate) sums: Vec<i32>,            // [max_rows]
    pub(crate) floats: Aligned<f32>,      // [max_rows, stride], where they are f32
    pub(crate) basis: Option<Arc<Basis>>, // by which rows are turned before
}

impl Storage for Cpu {
    type Tensor = Tensor;
    type Quantized = Quantized;
    type Matrix = Matrix;
}

impl Tensor {
    pub(crate) fn new(max_rows: usize, cols: usize) -> Result<Self> {
        // NaN, so that whoever reads what was never written finds out.
        Ok(Self { cols, values: Aligned::filled(area(max_rows, cols)?, f32::NAN)? })
    }

    /// One row.
    pub(crate) fn of(values: &[f32]) -> Result<Self> {
        let mut tensor = Self::new(1, values.len())?;
        tensor.values.copy_from_slice(values);
        Ok(tensor)
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
            values: Aligned::zeroed(integers)?,
            scales: filled(max_rows * scales_a_row, f32::NAN)?,
            steps: filled(max_rows * scales_a_row, f32::NAN)?,
            block_sums: filled(integers / BLOCK, 0)?,
            sums: filled(max_rows, 0)?,
            floats: Aligned::zeroed(floats)?,
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
