//! The rows of an input of linear layers, each written by one thread.

use crate::backend::{MOST_BLOCK, Numerics, SMALLEST_ABSMAX};
use crate::cpu::Basis;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::floats::multiplier;
use crate::cpu::kernels::Kernels;
use crate::cpu::tensor::Quantized;
use crate::format::ternary::BLOCK;

/// The rows of a [`Quantized`](super::Quantized), for several threads.
pub(crate) struct Rows<'a> {
    pub(super) numerics: Numerics,
    pub(super) cols: usize,
    pub(super) stride: usize,
    pub(super) scales_a_row: usize,
    pub(super) values: Disjoint<'a, i8>,
    pub(super) block_sums: Disjoint<'a, i32>,
    pub(super) scales: Disjoint<'a, f32>,
    pub(super) steps: Disjoint<'a, f32>,
    pub(super) sums: Disjoint<'a, i32>,
    pub(super) floats: Disjoint<'a, f32>,
    pub(super) basis: Option<&'a Basis>,
}

impl Rows<'_> {
    /// One row.
    ///
    /// # Safety
    /// No row may be used twice at a time.
    pub(crate) unsafe fn row(&self, row: usize) -> QuantizedRow<'_> {
        let is_float = self.numerics == Numerics::Float;
        let (integers, floats) = if is_float { (0, self.stride) } else { (self.stride, 0) };
        let places = |count: usize| row * count..(row + 1) * count;
        // SAFETY: different rows have different places in each of them, and the caller uses each row once at a time.
        unsafe {
            QuantizedRow {
                numerics: self.numerics,
                cols: self.cols,
                values: self.values.cut(places(integers)),
                block_sums: self.block_sums.cut(places(integers / BLOCK)),
                scales: self.scales.cut(places(self.scales_a_row)),
                steps: self.steps.cut(places(self.scales_a_row)),
                sum: &mut self.sums.cut(row..row + 1)[0],
                floats: self.floats.cut(places(floats)),
                basis: self.basis,
            }
        }
    }
}

/// One row of a [`Quantized`](super::Quantized).
pub(crate) struct QuantizedRow<'a> {
    numerics: Numerics,
    cols: usize,
    values: &'a mut [i8], // with the padding
    block_sums: &'a mut [i32],
    scales: &'a mut [f32],
    steps: &'a mut [f32],
    sum: &'a mut i32,
    floats: &'a mut [f32],    // with the padding
    basis: Option<&'a Basis>, // by which it is turned before
}

/// Values that are computed, used and computed again rather than stored: a piece that stays in the nearest cache. Whole
/// blocks.
const PIECE: usize = 512;

impl QuantizedRow<'_> {
    /// The int8 to write.
    pub(crate) fn values(&mut self) -> &mut [i8] {
        &mut self.values[..self.cols]
    }

    /// Takes a row of another input of the same form.
    pub(crate) fn copy_from(self, other: &Quantized, row: usize) {
        let (stride, blocks, scales) = (self.values.len(), self.block_sums.len(), self.scales.len());
        self.values.copy_from_slice(&other.values[row * stride..][..stride]);
        self.block_sums.copy_from_slice(&other.block_sums[row * blocks..][..blocks]);
        self.scales.copy_from_slice(&other.scales[row * scales..][..scales]);
        self.steps.copy_from_slice(&other.steps[row * scales..][..scales]);
        *self.sum = other.sums[row];
        self.floats.copy_from_slice(&other.floats[row * self.floats.len()..][..self.floats.len()]);
    }

    /// Closes a row whose values were written, with its multipliers.
    pub(crate) fn finish(self, kernels: &dyn Kernels, scales: &[f32]) {
        kernels.block_sums(self.block_sums, self.values);
        *self.sum = self.block_sums.iter().sum();
        self.scales.copy_from_slice(scales);
        self.steps.iter_mut().zip(scales).for_each(|(step, scale)| *step = scale.recip());
    }

    /// Takes `x`.
    pub(crate) fn quantize(mut self, kernels: &dyn Kernels, x: &[f32]) {
        if let Some(basis) = self.basis {
            return self.turn(kernels, basis, x.len(), &|out, first| out.copy_from_slice(&x[first..first + out.len()]));
        }
        match self.numerics {
            Numerics::Int8Rows => {
                let scale = multiplier(kernels.absmax(x));
                kernels.round(self.values(), x, scale);
                self.finish(kernels, &[scale]);
            }
            Numerics::Int8Groups => {
                self.quantize_groups(kernels, 0, x);
                self.finish_groups(kernels);
            }
            Numerics::Float => self.floats[..x.len()].copy_from_slice(x),
        }
    }

    /// Takes `x * factor * gain`.
    pub(crate) fn norm_quantize(mut self, kernels: &dyn Kernels, x: &[f32], factor: f32, gain: &[f32]) {
        if let Some(basis) = self.basis {
            return self.turn(kernels, basis, x.len(), &|out, first| {
                let columns = first..first + out.len();
                kernels.norm(out, &x[columns.clone()], factor, &gain[columns]);
            });
        }
        let mut piece = [0.0f32; PIECE];
        let pieces = || x.chunks(PIECE).zip(gain.chunks(PIECE));
        match self.numerics {
            Numerics::Int8Rows => {
                let mut absmax = SMALLEST_ABSMAX;
                for (x, gain) in pieces() {
                    let piece = &mut piece[..x.len()];
                    kernels.norm(piece, x, factor, gain);
                    // The order of [`floats::absmax`](crate::cpu::floats::absmax), which NaN is beyond.
                    absmax = f32::from_bits(absmax.to_bits().max(kernels.absmax(piece).to_bits()));
                }
                let scale = multiplier(absmax);
                for (out, (x, gain)) in self.values().chunks_mut(PIECE).zip(pieces()) {
                    let piece = &mut piece[..x.len()];
                    kernels.norm(piece, x, factor, gain);
                    kernels.round(out, piece, scale);
                }
                self.finish(kernels, &[scale]);
            }
            Numerics::Int8Groups => {
                for (index, (x, gain)) in pieces().enumerate() {
                    let piece = &mut piece[..x.len()];
                    kernels.norm(piece, x, factor, gain);
                    self.quantize_groups(kernels, index * PIECE / BLOCK, piece);
                }
                self.finish_groups(kernels);
            }
            Numerics::Float => kernels.norm(&mut self.floats[..x.len()], x, factor, gain),
        }
    }

    /// Takes a row of so many columns, turned: `columns(out, first)` gives those from `first` on as they were.
    fn turn(mut self, kernels: &dyn Kernels, basis: &Basis, cols: usize, columns: &dyn Fn(&mut [f32], usize)) {
        let mut room = [0.0f32; MOST_BLOCK];
        let mut pieces = |each: &mut dyn FnMut(usize, &[f32])| {
            for first in (0..cols).step_by(basis.piece()) {
                let piece = &mut room[..basis.piece().min(cols - first)];
                columns(piece, first);
                basis.rotate(kernels, first, piece);
                each(first, piece);
            }
        };
        match self.numerics {
            Numerics::Int8Rows => {
                let mut absmax = SMALLEST_ABSMAX;
                pieces(&mut |_, piece| {
                    absmax = f32::from_bits(absmax.to_bits().max(kernels.absmax(piece).to_bits()));
                });
                let scale = multiplier(absmax);
                let values = self.values();
                pieces(&mut |first, piece| kernels.round(&mut values[first..first + piece.len()], piece, scale));
                self.finish(kernels, &[scale]);
            }
            Numerics::Int8Groups => {
                pieces(&mut |first, piece| self.quantize_groups(kernels, first / BLOCK, piece));
                self.finish_groups(kernels);
            }
            Numerics::Float => {
                let floats = &mut *self.floats;
                pieces(&mut |first, piece| floats[first..first + piece.len()].copy_from_slice(piece));
            }
        }
    }

    /// Quantises some groups, the first of them `first`.
    fn quantize_groups(&mut self, kernels: &dyn Kernels, first: usize, x: &[f32]) {
        let values = self.values[first * BLOCK..].chunks_mut(BLOCK);
        for ((x, values), scale) in x.chunks(BLOCK).zip(values).zip(&mut self.scales[first..]) {
            *scale = multiplier(kernels.absmax(x));
            kernels.round(&mut values[..x.len()], x, *scale);
        }
    }

    fn finish_groups(self, kernels: &dyn Kernels) {
        kernels.block_sums(self.block_sums, self.values);
        self.steps.iter_mut().zip(&*self.scales).for_each(|(step, scale)| *step = scale.recip());
    }
}
