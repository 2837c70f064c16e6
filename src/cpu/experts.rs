//! A mixture of experts: places are sorted by their expert, so that each reads its weights once for all rows that are given to it, and
//! rows are copied to their places as they were quantised.

use std::ops::Range;

use crate::allocation::{area, filled, reserved};
use crate::backend::{ExpertShape, Experts, Numerics};
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::TILE_ROWS;
use crate::cpu::matrix::{OUTPUTS, SUMS, Strip};
use crate::cpu::product::tile_values;
use crate::cpu::tensor::{Quantized, Tensor};
use crate::cpu::{Cpu, Matrix};
use crate::error::Result;
use crate::format::Weights;

/// Columns of a gated unit that are made at once.
const UNITS: usize = 512;

/// Which rows go to which experts.
#[derive(Debug)]
pub struct Routing {
    shape: ExpertShape,
    experts: Vec<u32>, // [rows, used], the best first
    weights: Vec<f32>, // [rows, used]
    places: Vec<u32>,  // [rows, used]: where each lies, sorted by expert
    owners: Vec<u32>,  // [rows * used]: by place, the row
    starts: Vec<u32>,  // [count + 1]: the first place of each expert
    active: Vec<u32>,  // experts that have some
    spread: Quantized, // [rows * used, cols]: each place's row
}

impl Routing {
    fn new(max_rows: usize, shape: ExpertShape, cols: usize, numerics: Numerics) -> Result<Self> {
        let places = area(max_rows, shape.used)?;
        Ok(Self {
            shape,
            experts: filled(places, 0)?,
            weights: filled(places, f32::NAN)?,
            places: filled(places, 0)?,
            owners: filled(places, 0)?,
            starts: filled(shape.count + 1, 0)?,
            active: reserved(shape.count)?,
            spread: Quantized::new(places, cols, numerics)?,
        })
    }

    /// Sorts the places of so many rows by expert.
    fn sort(&mut self, rows: usize) {
        let count = rows * self.shape.used;
        self.starts.fill(0);
        self.experts[..count].iter().for_each(|&expert| self.starts[expert as usize + 1] += 1);
        self.active.clear();
        self.active.extend((0..self.shape.count as u32).filter(|&expert| self.starts[expert as usize + 1] > 0));
        for expert in 0..self.shape.count {
            self.starts[expert + 1] += self.starts[expert];
        }
        // Each start moves to its end, and so to the start of the next, while places are given out.
        for (at, &expert) in self.experts[..count].iter().enumerate() {
            let place = &mut self.starts[expert as usize];
            self.places[at] = *place;
            self.owners[*place as usize] = (at / self.shape.used) as u32;
            *place += 1;
        }
        self.starts.copy_within(0..self.shape.count, 1);
        self.starts[0] = 0;
    }

    /// The places of an expert.
    fn of(&self, expert: u32) -> Range<usize> {
        self.starts[expert as usize] as usize..self.starts[expert as usize + 1] as usize
    }
}

/// Writes the best experts of one row, and their weights.
fn choose(scores: &[f32], experts: &mut [u32], weights: &mut [f32]) {
    let mut found = 0;
    for (expert, &score) in scores.iter().enumerate() {
        // Sorted insertion: of hundreds of scores, few are among the best so far.
        if found == experts.len() && score <= weights[found - 1] {
            continue;
        }
        let place = weights[..found].partition_point(|&other| other >= score);
        found = (found + 1).min(experts.len());
        weights[place..found].rotate_right(1);
        experts[place..found].rotate_right(1);
        (weights[place], experts[place]) = (score, expert as u32);
    }
    if scores.iter().any(|score| !score.is_finite()) {
        (0..experts.len()).for_each(|i| experts[i] = i as u32);
        return weights.fill(f32::NAN);
    }
    let largest = weights[0];
    weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
    let total: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
}

impl Cpu {
    /// The products of each active expert with its places in `x`.
    fn expert_products(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &Routing) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!((w.rows, w.cols), (count * out.cols, x.cols));
        let places = self.rows.len() * used;
        let strips = w.strips() / count; // of each expert, as all are of one shape
        let kernel = match x.numerics {
            Numerics::Int8Rows if w.grouped => Kernel::DotCodesGrouped,
            Numerics::Int8Rows => Kernel::DotCodes,
            Numerics::Int8Groups => Kernel::DotBlocks,
            Numerics::Float => Kernel::DotFloats,
        };
        self.counts.read(kernel, w.bytes / count * routing.active.len());
        let (kernels, outputs_in_all) = (self.kernels, out.cols);
        let out = Disjoint::new(out.rows_mut(places));
        let work = places * outputs_in_all * w.cols / 16;
        self.workers.share(work, routing.active.len() * strips, &|task, _| {
            let expert = routing.active[task / strips];
            let Strip { part, rows: outputs } = &w.strips[expert as usize * strips + task % strips];
            let part = &w.parts[*part];
            let first_output = part.first_row - expert as usize * outputs_in_all;
            let mut values = [0.0f32; SUMS];
            for first in outputs.clone().step_by(OUTPUTS) {
                let outputs = first..outputs.end.min(first + OUTPUTS);
                for first in routing.of(expert).step_by(TILE_ROWS) {
                    let rows = first..routing.of(expert).end.min(first + TILE_ROWS);
                    let values = &mut values[..outputs.len() * rows.len()];
                    tile_values(kernels, values, part, x, outputs.clone(), rows.clone());
                    for (place, values) in rows.zip(values.chunks_exact(outputs.len())) {
                        let begin = place * outputs_in_all + first_output + outputs.start;
                        // SAFETY: these columns of the places of this expert are this task's.
                        unsafe { out.cut(begin..begin + values.len()) }.copy_from_slice(values);
                    }
                }
            }
        });
    }
}

impl Experts for Cpu {
    type Routing = Routing;

    fn routing(
        &mut self,
        max_rows: usize,
        shape: ExpertShape,
        cols: usize,
        _units: usize,
        numerics: Numerics,
    ) -> Result<Routing> {
        Routing::new(max_rows, shape, cols, numerics)
    }

    fn expert_matrix(&mut self, parts: &[Weights], experts: usize) -> Result<Matrix> {
        assert!(parts.len().is_multiple_of(experts), "as many parts for each expert");
        let mut matrix = Matrix::new(parts, &mut |bytes| self.pages.place_part(bytes, &self.workers))?;
        matrix.move_scales(&mut |bytes| self.pages.place_part(bytes, &self.workers));
        Ok(matrix)
    }

    fn route(&mut self, routing: &mut Routing, scores: &Tensor) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!(scores.cols, count);
        self.counts.ran(Kernel::Route);
        let rows = self.rows.len();
        let (experts, weights) = (Disjoint::new(&mut routing.experts), Disjoint::new(&mut routing.weights));
        self.workers.share(rows * count, rows, &|row, _| {
            let places = row * used..(row + 1) * used;
            // SAFETY: each row is one task.
            let (experts, weights) = unsafe { (experts.cut(places.clone()), weights.cut(places)) };
            choose(scores.row(row), experts, weights);
        });
        routing.sort(rows);
    }

    fn expert_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &mut Routing) {
        let places = self.rows.len() * routing.shape.used;
        let Routing { spread, owners, .. } = routing;
        let rows = spread.split();
        self.workers.share(places * x.stride, places, &|place, _| {
            // SAFETY: each place is one task.
            unsafe { rows.row(place) }.copy_from(x, owners[place] as usize);
        });
        self.expert_products(out, w, &routing.spread, routing);
    }

    fn place_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &Routing) {
        self.expert_products(out, w, x, routing);
    }

    fn place_glu(&mut self, out: &mut Quantized, gate_up: &mut Tensor, clamp: f32, routing: &Routing) {
        assert_eq!(gate_up.cols, 2 * out.cols);
        self.counts.ran(Kernel::Glu);
        let places = self.rows.len() * routing.shape.used;
        let (kernels, cols, row_cols) = (self.kernels, out.cols, gate_up.cols);
        let (out, gate_up) = (out.split(), Disjoint::new(gate_up.rows_mut(places)));
        self.workers.share(places * cols, places, &|place, _| {
            // SAFETY: each place is one task.
            let row = unsafe { gate_up.cut(place * row_cols..(place + 1) * row_cols) };
            let (gates, ups) = row.split_at_mut(cols);
            // Written so that NaN stays NaN.
            gates.iter_mut().for_each(|gate| *gate = if *gate > clamp { clamp } else { *gate });
            ups.iter_mut().for_each(|up| {
                let below = if *up > clamp { clamp } else { *up };
                *up = if below < -clamp { -clamp } else { below };
            });
            let mut units = [0.0f32; UNITS];
            for (gates, ups) in gates.chunks_mut(UNITS).zip(ups.chunks(UNITS)) {
                let units = &mut units[..ups.len()];
                kernels.silu(units, gates, ups);
                gates.copy_from_slice(units);
            }
            // SAFETY: as above.
            unsafe { out.row(place) }.quantize(kernels, gates);
        });
    }

    fn mix_places(&mut self, out: &mut Tensor, x: &Tensor, routing: &Routing) {
        assert_eq!(out.cols, x.cols);
        self.counts.ran(Kernel::MixPlaces);
        let (used, cols) = (routing.shape.used, out.cols);
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            for at in row * used..(row + 1) * used {
                let (weight, x) = (routing.weights[at], x.row(routing.places[at] as usize));
                out.iter_mut().zip(x).for_each(|(o, v)| *o += weight * v);
            }
        });
    }

    fn read_routing(&mut self, routing: &Routing, experts: &mut [u32], weights: &mut [f32]) -> Result<()> {
        experts.copy_from_slice(&routing.experts[..experts.len()]);
        weights.copy_from_slice(&routing.weights[..weights.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_found_in_their_order_and_equals_in_theirs() {
        let (mut experts, mut weights) = ([9; 3], [0.0; 3]);
        choose(&[1.0, 3.0, 2.0, 3.0, -1.0], &mut experts, &mut weights);
        assert_eq!(experts, [1, 3, 2]);
        assert!(
            (weights.iter().sum::<f32>() - 1.0).abs() < 1e-6 && weights[0] == weights[1] && weights[1] > weights[2]
        );
        choose(&[1.0, f32::NAN, 2.0], &mut experts, &mut weights);
        assert!(experts.iter().all(|&expert| expert < 3) && weights.iter().all(|weight| weight.is_nan()));
    }

    #[test]
    fn places_are_sorted_by_expert() {
        let shape = ExpertShape { count: 4, used: 2 };
        let mut routing = Routing::new(3, shape, 128, Numerics::Float).unwrap();
        routing.experts.copy_from_slice(&[2, 0, 3, 2, 0, 2]);
        routing.sort(3);
        assert_eq!(routing.starts, [0, 2, 2, 5, 6]);
        assert_eq!(routing.active, [0, 2, 3]);
        assert_eq!(routing.owners, [0, 2, 0, 1, 2, 1]);
        assert_eq!(routing.places, [2, 0, 5, 3, 1, 4]);
    }
}
