//! The verbs of experts in plain loops: place `row * used + i` is of the row's i-th expert.

use crate::backend::{ExpertShape, Experts, Numerics};
use crate::error::Result;
use crate::format::Weights;
use crate::reference::Reference;
use crate::reference::data::{Matrix, Quantized, Routing, Tensor};

impl Reference {
    fn expert_products(&self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &Routing, shares_rows: bool) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!((w.rows.len(), w.cols), (count * out.cols, x.cols));
        for place in 0..self.rows.len() * used {
            let first = routing.experts[place] as usize * out.cols;
            let row = if shares_rows { place / used } else { place };
            for (output, weights) in w.rows[first..first + out.cols].iter().enumerate() {
                out.row_mut(place)[output] = x.product(row, weights.ternary());
            }
        }
    }
}

impl Experts for Reference {
    type Routing = Routing;

    fn routing(
        &mut self,
        max_rows: usize,
        shape: ExpertShape,
        _cols: usize,
        _units: usize,
        _numerics: Numerics,
    ) -> Result<Routing> {
        let places = max_rows * shape.used;
        Ok(Routing { shape, experts: vec![u32::MAX; places], weights: vec![f32::NAN; places] })
    }

    fn expert_matrix(&mut self, parts: &[Weights], _experts: usize) -> Result<Matrix> {
        Ok(Matrix::new(parts))
    }

    fn route(&mut self, routing: &mut Routing, scores: &Tensor) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!(scores.cols, count);
        for row in 0..self.rows.len() {
            let scores = scores.row(row);
            let mut order: Vec<usize> = (0..count).collect();
            // A stable sort: equals stay in their order.
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let is_finite = scores.iter().all(|score| score.is_finite());
            let odds = |expert: usize| match is_finite {
                true => f64::from(scores[expert] - scores[order[0]]).exp(),
                false => f64::NAN,
            };
            let total: f64 = order[..used].iter().map(|&expert| odds(expert)).sum();
            for (i, &expert) in order[..used].iter().enumerate() {
                routing.experts[row * used + i] = expert as u32;
                routing.weights[row * used + i] = (odds(expert) / total) as f32;
            }
        }
    }

    fn expert_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &mut Routing) {
        self.expert_products(out, w, x, routing, true);
    }

    fn place_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &Routing) {
        self.expert_products(out, w, x, routing, false);
    }

    fn place_glu(&mut self, out: &mut Quantized, gate_up: &mut Tensor, clamp: f32, routing: &Routing) {
        assert_eq!(gate_up.cols, 2 * out.cols);
        for place in 0..self.rows.len() * routing.shape.used {
            let (gates, ups) = gate_up.row(place).split_at(out.cols);
            let unit = |(&gate, &up): (&f32, &f32)| {
                // Written so that NaN stays NaN.
                let gate = f64::from(if gate > clamp { clamp } else { gate });
                let up = f64::from(if up > clamp {
                    clamp
                } else if up < -clamp {
                    -clamp
                } else {
                    up
                });
                (gate / (1.0 + (-gate).exp()) * up) as f32
            };
            let units: Vec<f32> = gates.iter().zip(ups).map(unit).collect();
            out.set_row(place, &units);
        }
    }

    fn mix_places(&mut self, out: &mut Tensor, x: &Tensor, routing: &Routing) {
        let used = routing.shape.used;
        for row in 0..self.rows.len() {
            for col in 0..out.cols {
                let terms = (row * used..(row + 1) * used)
                    .map(|place| f64::from(routing.weights[place]) * f64::from(x.row(place)[col]));
                out.row_mut(row)[col] += terms.sum::<f64>() as f32;
            }
        }
    }

    fn read_routing(&mut self, routing: &Routing, experts: &mut [u32], weights: &mut [f32]) -> Result<()> {
        experts.copy_from_slice(&routing.experts[..experts.len()]);
        weights.copy_from_slice(&routing.weights[..weights.len()]);
        Ok(())
    }
}
