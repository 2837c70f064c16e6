//! A mixture of experts in the place of the feed-forward network (Maple): a router gives each row to a few of many networks, and what they
//! make is added with their weights.

use crate::backend::{Backend, Norm};
use crate::error::Result;
use crate::format::{Ternary, Weights};
use crate::model::{Config, Mixture, Model, Part, Role};
use crate::transformer::missing;
use crate::transformer::projections::linear;
use crate::transformer::state::Activations;

/// The weights of the experts of one layer.
pub(super) struct Experts<B: Backend> {
    router: B::Matrix,  // [count, width], of floats
    gate_up: B::Matrix, // [count, 2 * ffn_width, width]
    down: B::Matrix,    // [count, width, ffn_width]
    clamp: f32,
}

/// What such layers work with, in one step.
pub(super) struct ExpertActivations<B: Backend> {
    normed: B::Tensor,   // [rows, width]
    scores: B::Tensor,   // [rows, count]
    routing: B::Routing, // of rows
    gate_up: B::Tensor,  // [rows * used, 2 * ffn_width]
    units: B::Quantized, // [rows * used, ffn_width]
    outputs: B::Tensor,  // [rows * used, width]
}

impl<B: Backend> Experts<B> {
    pub(super) fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let mixture = model.config().mixture.as_ref().expect("a network with experts has their shape");
        let count = mixture.shape.count;
        let role = |part| Role::Layer(layer, part);
        model.floats(role(Part::Router))?.ok_or_else(|| missing(role(Part::Router)))?;
        let router = model.required(role(Part::Router))?;
        let experts = |b: &B, part| -> Result<Vec<Weights>> {
            match linear(b, model, role(part))? {
                Weights::Ternary(all) => {
                    Ok((0..count).map(|expert| Weights::Ternary(of_expert(&all, expert, count))).collect())
                }
                Weights::Dense(_) => unreachable!("a linear layer is ternary, which its model's form demands"),
            }
        };
        let (gates, ups) = (experts(b, Part::GateExperts)?, experts(b, Part::UpExperts)?);
        let gate_up: Vec<Weights> = gates.into_iter().zip(ups).flat_map(|(gate, up)| [gate, up]).collect();
        let downs = experts(b, Part::DownExperts)?;
        Ok(Self {
            router: b.matrix(&[router])?,
            gate_up: b.expert_matrix(&gate_up, count)?,
            down: b.expert_matrix(&downs, count)?,
            clamp: mixture.clamps[layer],
        })
    }

    /// What the experts make, added to the residual stream.
    pub(super) fn run(&self, b: &mut B, a: &mut Activations<B>, norm: Norm<'_, B>) {
        let e = a.experts.as_mut().expect("made for such layers");
        b.norm(&mut e.normed, &a.hidden, norm);
        b.dense_matmul(&mut e.scores, &self.router, &e.normed);
        b.route(&mut e.routing, &e.scores);
        b.quantize(&mut a.normed, &e.normed);
        b.expert_matmul(&mut e.gate_up, &self.gate_up, &a.normed, &mut e.routing);
        b.place_glu(&mut e.units, &mut e.gate_up, self.clamp, &e.routing);
        b.place_matmul(&mut e.outputs, &self.down, &e.units, &e.routing);
        b.mix_places(&mut a.hidden, &e.outputs, &e.routing);
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        [&self.router, &self.gate_up, &self.down].map(|matrix| b.matrix_bytes(matrix)).iter().sum()
    }
}

/// The rows of one of the experts that lie one behind the other.
fn of_expert(all: &Ternary, expert: usize, count: usize) -> Ternary {
    let rows = all.rows() / count;
    all.rows_between(expert * rows..(expert + 1) * rows)
}

impl<B: Backend> ExpertActivations<B> {
    pub(super) fn new(b: &mut B, config: &Config, mixture: &Mixture, rows: usize) -> Result<Self> {
        let Mixture { shape, ffn_width, .. } = *mixture;
        let places = rows.saturating_mul(shape.used);
        Ok(Self {
            normed: b.tensor(rows, config.width)?,
            scores: b.tensor(rows, shape.count)?,
            routing: b.routing(rows, shape, config.width, ffn_width, config.numerics)?,
            gate_up: b.tensor(places, 2 * ffn_width)?,
            units: b.quantized(places, ffn_width, config.numerics)?,
            outputs: b.tensor(places, config.width)?,
        })
    }
}
