//! A gated delta net as the mixer of a layer (arXiv 2412.06464, as in Qwen3.5): a convolution over the latest rows, then a memory of
//! fixed size for each head, which fades, is corrected by what it recalls wrongly, and is asked.

use crate::backend::{Backend, Decay, HeadGain, HeadOrder, Norm, RecurrentShape};
use crate::error::Result;
use crate::format::Weights;
use crate::model::{Config, DeltaNet as Shape, Model, Part, Role};
use crate::transformer::bases::Bases;
use crate::transformer::layer::Around;
use crate::transformer::projections::{linear, output};
use crate::transformer::state::Activations;
use crate::transformer::{Capacity, gain, missing};

/// The weights of a gated delta net in one layer.
pub(super) struct DeltaNet<B: Backend> {
    qkv: B::Matrix,         // [heads.qkv_cols(), width]
    gate: B::Matrix,        // [heads.value_cols(), width], of the outputs
    steps: B::Matrix,       // [2 * value_heads, width]: alpha, then beta, both of floats
    convolution: B::Tensor, // [taps, heads.qkv_cols()]
    rate: B::Tensor,        // [value_heads]
    bias: B::Tensor,        // [value_heads]
    norm: B::Tensor,        // [head_dim]
    output: B::Matrix,      // [width, heads.value_cols()]
    output_order: HeadOrder,
    shape: Shape,
}

/// What such layers work with, in one step.
pub(super) struct DeltaActivations<B: Backend> {
    normed: B::Tensor,    // [rows, width]
    qkv: B::Tensor,       // [rows, heads.qkv_cols()]
    convolved: B::Tensor, // [rows, heads.qkv_cols()]
    gates: B::Tensor,     // [rows, heads.value_cols()]
    steps: B::Tensor,     // [rows, 2 * value_heads]
    answers: B::Tensor,   // [rows, heads.value_cols()]
    gated: B::Tensor,
    gated_q: B::Quantized, // [rows, heads.value_cols()]
}

impl<B: Backend> DeltaNet<B> {
    pub(super) fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let shape = model.config().delta_net.clone().expect("a network with such layers has their shape");
        let is_grouped = model.config().hadamard.as_ref().is_some_and(|hadamard| hadamard.grouped_heads);
        let output_order = match is_grouped {
            true => HeadOrder::Grouped { key_heads: shape.heads.key_heads },
            false => HeadOrder::Tiled,
        };
        let role = |part| Role::Layer(layer, part);
        let floats = |b: &mut B, part| gain(b, model, role(part), 1.0);
        let dense = |part| {
            // Their values were looked at then, too.
            model.floats(role(part))?.ok_or_else(|| missing(role(part)))?;
            model.required(role(part))
        };
        let matrix = |b: &mut B, part| {
            let weights = linear(b, model, role(part))?;
            b.matrix(&[weights])
        };
        let steps: [Weights; 2] = [dense(Part::DeltaAlpha)?, dense(Part::DeltaBeta)?];
        let taps = model.floats(role(Part::DeltaConvolution))?.ok_or_else(|| missing(role(Part::DeltaConvolution)))?;
        // By tap, so that channels lie side by side.
        let by_tap = (0..shape.taps).flat_map(|tap| taps.iter().skip(tap).step_by(shape.taps)).copied();
        Ok(Self {
            qkv: matrix(b, Part::DeltaQkv)?,
            gate: matrix(b, Part::DeltaGate)?,
            steps: b.matrix(&steps)?,
            convolution: b.parameter(&by_tap.collect::<Vec<f32>>())?,
            rate: floats(b, Part::DeltaRate)?,
            bias: floats(b, Part::DeltaBias)?,
            norm: floats(b, Part::DeltaNorm)?,
            output: output(b, model, role(Part::DeltaOutput))?,
            output_order,
            shape,
        })
    }

    /// The delta rule, and what it adds to the residual stream.
    pub(super) fn run(
        &self,
        b: &mut B,
        a: &mut Activations<B>,
        state: &mut B::Recurrent,
        norm: Norm<'_, B>,
        around: Around<'_>,
    ) {
        let d = a.delta.as_mut().expect("made for such layers");
        b.norm_matmul(&mut d.qkv, &mut a.normed, &self.qkv, &a.hidden, norm);
        b.norm_matmul(&mut d.gates, &mut a.normed, &self.gate, &a.hidden, norm);
        b.norm(&mut d.normed, &a.hidden, norm);
        b.dense_matmul(&mut d.steps, &self.steps, &d.normed);

        b.convolve(&mut d.convolved, &d.qkv, &self.convolution, state);
        let decay = Decay { rate: &self.rate, bias: &self.bias };
        b.delta_rule(&mut d.answers, &d.convolved, &d.steps, decay, state);
        let norm = HeadGain { gain: &self.norm, epsilon: around.config.norm_epsilon };
        b.norm_gate(&mut d.gated, &d.answers, &d.gates, norm, self.output_order);
        b.norm_matmul_add(&mut a.hidden, &mut d.gated_q, &self.output, &d.gated, None);
    }

    /// Room for the states of the layer: of each slot the latest, and behind all of these a snapshot of each.
    pub(super) fn state(&self, b: &mut B, capacity: Capacity) -> Result<B::Recurrent> {
        b.recurrent(RecurrentShape { slots: 2 * capacity.sequences, taps: self.shape.taps, heads: self.shape.heads })
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        [&self.qkv, &self.gate, &self.steps, &self.output].map(|matrix| b.matrix_bytes(matrix)).iter().sum()
    }
}

impl<B: Backend> DeltaActivations<B> {
    pub(super) fn new(b: &mut B, config: &Config, shape: &Shape, bases: &Bases<B>, rows: usize) -> Result<Self> {
        let heads = shape.heads;
        Ok(Self {
            normed: b.tensor(rows, config.width)?,
            qkv: b.tensor(rows, heads.qkv_cols())?,
            convolved: b.tensor(rows, heads.qkv_cols())?,
            gates: b.tensor(rows, heads.value_cols())?,
            steps: b.tensor(rows, 2 * heads.value_heads)?,
            answers: b.tensor(rows, heads.value_cols())?,
            gated: b.tensor(rows, heads.value_cols())?,
            gated_q: bases.quantized(b, rows, heads.value_cols(), config.numerics)?,
        })
    }
}
