//! Weights as the CPU uses them. Parts stacked by rows keep their form, but for the scales of groups
//! ([`scales`](crate::cpu::scales)); a list of strips, made at load, says which rows are worked
//! on together.

use std::ops::Range;

use bytes::Bytes;

use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::{DenseRow, Kernels, SCALES_TOGETHER, TILE_ROWS};
use crate::cpu::scales::GroupScales;
use crate::cpu::screen::Growth;
use crate::cpu::tensor::Tensor;
use crate::error::{Error, Result};
use crate::format::ternary::{BLOCK, MAX_COLS, code};
use crate::format::{Dense, Scales, Ternary, Values, Weights};

/// Weights `[out, in]`: one or more parts, stacked by rows.
#[derive(Debug)]
pub struct Matrix {
    pub(crate) cols: usize,
    pub(crate) rows: usize,
    pub(crate) parts: Vec<Part>,
    pub(crate) strips: Vec<Strip>,
    /// Of the weights, without their scales.
    pub(crate) bytes: usize,
    /// Whether scales change within a row of ternary weights.
    pub(crate) grouped: bool,
    /// Of a head that is screened.
    pub(crate) screen: Option<Growth>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) first_row: usize, // of the matrix
    /// Of trits whose scales change within a row, these are ones.
    pub(crate) weights: Weights,
    pub(crate) groups: Option<GroupScales>,
}

/// Consecutive rows of one part: what one task works on.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    pub(crate) part: usize,
    pub(crate) rows: Range<usize>, // of the part
}

/// Bytes of weights in a strip: it stays in the second cache while all activation rows of a step pass over it, and is
/// read in one stream.
const STRIP_BYTES: usize = 64 << 10;
/// Most rows of a strip of short rows.
const STRIP_ROWS: usize = 128;
/// Most weight rows of a tile.
pub(crate) const OUTPUTS: usize = 64;
/// Most sums of a tile, and so the size of the buffer for them.
pub(crate) const SUMS: usize = OUTPUTS * TILE_ROWS;

impl Part {
    /// The weights of a linear layer.
    pub(crate) fn trits(&self) -> &Ternary {
        let Weights::Ternary(trits) = &self.weights else { panic!("a linear layer is ternary") };
        trits
    }
}

impl Matrix {
    /// Stacks parts. `place` says where the codes of trits lie from now on; dense values stay where they are, as few rows of a table
    /// are read.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for rows too long for sums in 32 bits; [`Error::Device`] if there is no memory for scales.
    pub(crate) fn new(parts: &[Weights], place: &mut dyn FnMut(&Bytes) -> Bytes) -> Result<Self> {
        let cols = parts[0].cols();
        if cols > MAX_COLS {
            return Err(Error::Unsupported(format!("rows of {cols} weights; the most is {MAX_COLS}")));
        }
        let grouped = |w: &Weights| matches!(w, Weights::Ternary(w) if matches!(w.scales(), Scales::Groups { .. }));
        let mut matrix = Self {
            cols,
            rows: 0,
            parts: Vec::with_capacity(parts.len()),
            strips: Vec::new(),
            bytes: parts.iter().map(|part| part.rows() * row_bytes(part)).sum(),
            grouped: parts.iter().any(grouped),
            screen: None,
        };
        for (index, weights) in parts.iter().enumerate() {
            assert_eq!(weights.cols(), cols, "stacked parts have the same columns");
            let rows = weights.rows();
            let strip_rows = strip_rows(weights);
            matrix.strips.extend(
                (0..rows)
                    .step_by(strip_rows)
                    .map(|first| Strip { part: index, rows: first..rows.min(first + strip_rows) }),
            );
            let (weights, groups) = match weights {
                Weights::Ternary(trits) => {
                    let groups = match trits.scales() {
                        Scales::Groups { columns, values } => Some(GroupScales::new(rows, cols, *columns, values)?),
                        _ => None,
                    };
                    (Weights::Ternary(trits.placed(place)), groups)
                }
                Weights::Dense(_) => (weights.clone(), None),
            };
            matrix.parts.push(Part { first_row: matrix.rows, weights, groups });
            matrix.rows += rows;
        }
        Ok(matrix)
    }

    /// Has scales of groups, which this matrix made for itself, lie where `copy` puts them.
    pub(crate) fn move_scales(&mut self, copy: &mut dyn FnMut(&Bytes) -> Bytes) {
        self.parts.iter_mut().filter_map(|part| part.groups.as_mut()).for_each(|groups| groups.move_by(copy));
    }

    /// Has the values of dense parts lie elsewhere: those of a head that is read whole.
    pub(crate) fn place_values(&mut self, place: &mut dyn FnMut(&Bytes) -> Bytes) {
        for part in &mut self.parts {
            if let Weights::Dense(dense) = &part.weights {
                part.weights = Weights::Dense(dense.placed(place));
            }
        }
    }

    /// Bytes of the weights, their scales, and what was added to them as a head.
    pub(crate) fn bytes_in_all(&self) -> u64 {
        let scales = |part: &Part| match &part.weights {
            Weights::Ternary(w) => match (w.scales(), &part.groups) {
                (_, Some(groups)) => groups.bytes(),
                (Scales::Rows(values), _) => size_of_val(&values[..]),
                (Scales::RowRanges(ranges), _) => size_of_val(&ranges[..]),
                _ => size_of::<f32>(),
            },
            Weights::Dense(w) => match w.values() {
                Values::Int8 { scales, .. } => size_of_val(&scales[..]),
                _ => 0,
            },
        };
        let scales: usize = self.parts.iter().map(scales).sum();
        (self.bytes + scales) as u64 + self.screen.as_ref().map_or(0, Growth::bytes)
    }

    /// Tasks of a product of few rows.
    pub(crate) fn strips(&self) -> usize {
        self.strips.len()
    }

    /// Writes one row as f32.
    pub(crate) fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of a table of {}", self.rows);
        let part = &self.parts[self.parts.partition_point(|part| part.first_row <= row) - 1];
        let row = row - part.first_row;
        match &part.weights {
            Weights::Dense(dense) => dense.row_to_f32(row, out),
            Weights::Ternary(ternary) => {
                let codes = &ternary.codes()[row * ternary.row_bytes()..][..ternary.row_bytes()];
                let of_row = ternary.scale(row, 0);
                for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                    let scale = part.groups.as_ref().map_or(1.0, |groups| groups.of_block(row, block)) * of_row;
                    for (col, o) in out.iter_mut().enumerate() {
                        *o = (f32::from(code(codes, block * BLOCK + col)) - 1.0) * scale;
                    }
                }
            }
        }
    }

    /// The weights, where they are dense and of one part, as those of a head are.
    pub(crate) fn dense(&self) -> Option<&Dense> {
        match &self.parts[..] {
            [Part { weights: Weights::Dense(dense), .. }] => Some(dense),
            _ => None,
        }
    }

    /// The columns of `out` that belong to one strip of a dense head, for the activation rows `rows`: `out = x headᵀ`.
    /// `out: [_, self.rows]`.
    ///
    /// # Safety
    /// No two calls with the same `strip` may run at the same time, nor anything else that uses `out`.
    pub(crate) unsafe fn logits(
        &self,
        kernels: &dyn Kernels,
        out: &Disjoint<'_, f32>,
        x: &Tensor,
        rows: Range<usize>,
        strip: usize,
    ) {
        let Strip { part, rows: outputs } = &self.strips[strip];
        let Part { first_row, weights, .. } = &self.parts[*part];
        let Weights::Dense(w) = weights else { panic!("the head is dense") };
        let mut dots = [0.0f32; TILE_ROWS];
        for first in rows.clone().step_by(TILE_ROWS) {
            let tile_rows = first..rows.end.min(first + TILE_ROWS);
            let x = &x.values[tile_rows.start * x.cols..tile_rows.end * x.cols];
            let dots = &mut dots[..tile_rows.len()];
            for output in outputs.clone() {
                kernels.dot_dense(dots, DenseRow::new(w, output), x);
                for (row, dot) in tile_rows.clone().zip(&*dots) {
                    let place = row * self.rows + first_row + output;
                    // SAFETY: this is a column of this strip, which is this call's alone.
                    let out = unsafe { out.cut(place..place + 1) };
                    out[0] = *dot;
                }
            }
        }
    }
}

/// Rows of a strip; of trits whole sixteens, whose scales lie side by side.
fn strip_rows(weights: &Weights) -> usize {
    let rows = STRIP_BYTES / row_bytes(weights);
    match weights {
        Weights::Ternary(_) => (rows / SCALES_TOGETHER * SCALES_TOGETHER).clamp(SCALES_TOGETHER, STRIP_ROWS),
        Weights::Dense(_) => rows.clamp(1, STRIP_ROWS),
    }
}

/// Bytes of one row, as stored.
fn row_bytes(weights: &Weights) -> usize {
    match weights {
        Weights::Ternary(w) => w.row_bytes(),
        Weights::Dense(w) => match DenseRow::new(w, 0) {
            DenseRow::F32(bytes) | DenseRow::F16(bytes) | DenseRow::Bf16(bytes) => bytes.len(),
            DenseRow::Int8 { codes, .. } => codes.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Experts};
    use crate::cpu::{Cpu, CpuOptions, HugePages, huge_pages_are_given};

    /// Who places codes asks whether anybody else keeps them.
    #[test]
    fn codes_are_placed_before_anybody_else_keeps_them() {
        let groups = Scales::Groups { columns: 128, values: vec![0.5; 80] };
        for scales in [Scales::Tensor(1.0), Scales::Rows(vec![1.0; 40]), groups] {
            let weights = Ternary::new(40, 256, vec![0x55; 40 * 64].into(), scales).unwrap();
            let mut placed = 0;
            Matrix::new(&[Weights::Ternary(weights)], &mut |codes| {
                assert!(codes.is_unique());
                placed += codes.len();
                codes.clone()
            })
            .unwrap();
            assert_eq!(placed, 40 * 64);
        }
    }

    /// A token reads both, so pages of 4 KiB would cost it for scales what they cost for codes.
    #[test]
    fn scales_of_groups_lie_in_huge_pages_as_codes_do() {
        let weights = || {
            let scales = Scales::Groups { columns: 128, values: vec![0.5; 80] };
            [Weights::Ternary(Ternary::new(40, 256, vec![0x55; 40 * 64].into(), scales).unwrap())]
        };
        let cpu = || Cpu::new(&CpuOptions { huge_pages: HugePages::WhereGiven, ..CpuOptions::default() }).unwrap();
        for matrix in [cpu().matrix(&weights()).unwrap(), cpu().expert_matrix(&weights(), 1).unwrap()] {
            let part = &matrix.parts[0];
            let scales = part.groups.as_ref().expect("they are of groups").first_byte();
            let apart = scales.addr().wrapping_sub(part.trits().codes().as_ptr().addr());
            assert_eq!(apart == 40 * 64, huge_pages_are_given(), "behind the codes, where both are copied");
        }
    }
}
