//! Matrices that take the same input: stacked, or each behind a norm of its own.

use crate::backend::{Backend, Norm};
use crate::error::Result;
use crate::format::Weights;
use crate::model::{Config, Model, Part, Role};
use crate::transformer::{gain, missing, weights_for};

/// Matrices that take the same input; their outputs stand side by side.
pub(super) enum Projections<B: Backend> {
    /// One matrix, stacked by rows.
    Stacked(B::Matrix),
    /// Each has a norm of its own before it.
    Apart(Vec<Projection<B>>),
}

pub(super) struct Projection<B: Backend> {
    gain: B::Tensor,
    weights: B::Matrix,
    first_col: usize, // of its outputs
    cols: usize,      // theirs
}

/// What projections with norms of their own work with.
pub(super) struct Apart<B: Backend> {
    normed: B::Tensor,       // [rows, width], after the norm that they share
    outputs: Vec<B::Tensor>, // [rows, cols] for each number of columns
    cols: Vec<usize>,        // theirs
}

impl<B: Backend> Projections<B> {
    /// The gain of a projection's own norm, and its weights.
    pub(super) const QKV: [(Part, Part); 3] =
        [(Part::QueryInputNorm, Part::Query), (Part::KeyInputNorm, Part::Key), (Part::ValueInputNorm, Part::Value)];
    pub(super) const GATE_UP: [(Part, Part); 2] = [(Part::GateInputNorm, Part::Gate), (Part::UpInputNorm, Part::Up)];

    pub(super) fn load(b: &mut B, model: &Model, layer: usize, parts: &[(Part, Part)]) -> Result<Self> {
        let weights = |b: &B, part| {
            let weights = linear(b, model, Role::Layer(layer, part))?;
            // The rows of gates between those of queries are another matrix.
            Ok(match part {
                Part::Query if model.config().attention_gate => halves(&weights, model.config(), 0),
                _ => weights,
            })
        };
        if !model.config().input_norms {
            let stacked: Vec<Weights> = parts.iter().map(|&(_, part)| weights(b, part)).collect::<Result<_>>()?;
            return Ok(Self::Stacked(b.matrix(&stacked)?));
        }
        let mut first_col = 0;
        let mut projections = Vec::with_capacity(parts.len());
        for &(norm, part) in parts {
            let weights = weights(b, part)?;
            let gain = gain(b, model, Role::Layer(layer, norm), 1.0)?;
            let (cols, weights) = (weights.rows(), b.matrix(&[weights])?);
            projections.push(Projection { gain, weights, first_col, cols });
            first_col += cols;
        }
        Ok(Self::Apart(projections))
    }
}

impl<B: Backend> Projections<B> {
    /// `out`, side by side: the products with the norm of `x`. `apart` is there where the parts have norms of their own, of `epsilon`.
    #[expect(
        clippy::too_many_arguments,
        reason = "what `norm_matmul` takes, and what parts with norms of their own need"
    )]
    pub(super) fn norm_matmul(
        &self,
        b: &mut B,
        out: &mut B::Tensor,
        normed: &mut B::Quantized,
        apart: &mut Option<Apart<B>>,
        x: &B::Tensor,
        norm: Norm<'_, B>,
        epsilon: f32,
    ) {
        match self {
            Projections::Stacked(w) => b.norm_matmul(out, normed, w, x, norm),
            Projections::Apart(parts) => {
                let apart = apart.as_mut().expect("made for such layers");
                apart.project(b, out, normed, parts, x, norm, epsilon);
            }
        }
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        match self {
            Projections::Stacked(w) => b.matrix_bytes(w),
            Projections::Apart(parts) => parts.iter().map(|part| b.matrix_bytes(&part.weights)).sum(),
        }
    }
}

impl<B: Backend> Apart<B> {
    pub(super) fn new(b: &mut B, config: &Config, rows: usize) -> Result<Self> {
        let mut cols = vec![config.heads.query_cols(), config.heads.kv_cols(), config.ffn_width];
        cols.sort_unstable();
        cols.dedup();
        let outputs = cols.iter().map(|&cols| b.tensor(rows, cols)).collect::<Result<_>>()?;
        Ok(Self { normed: b.tensor(rows, config.width)?, outputs, cols })
    }

    /// `out`, side by side: each part's product with the norm of its own over the norm that all share.
    #[expect(clippy::too_many_arguments, reason = "what `norm_matmul` takes, for several matrices with two norms")]
    fn project(
        &mut self,
        b: &mut B,
        out: &mut B::Tensor,
        normed: &mut B::Quantized,
        parts: &[Projection<B>],
        x: &B::Tensor,
        norm: Norm<'_, B>,
        epsilon: f32,
    ) {
        b.norm(&mut self.normed, x, norm);
        for Projection { gain, weights, first_col, cols } in parts {
            let place = self.cols.binary_search(cols).expect("room for every number of columns");
            let output = &mut self.outputs[place];
            b.norm_matmul(output, normed, weights, &self.normed, Norm { gain, epsilon });
            b.place(out, *first_col, output);
        }
    }
}

/// [`Backend::norm_matmul`], or the product alone where there is no norm.
pub(super) fn optional_norm_matmul<B: Backend>(
    b: &mut B,
    out: &mut B::Tensor,
    normed: &mut B::Quantized,
    w: &B::Matrix,
    x: &B::Tensor,
    norm: Option<Norm<'_, B>>,
) {
    match norm {
        Some(norm) => b.norm_matmul(out, normed, w, x, norm),
        None => {
            b.quantize(normed, x);
            b.matmul(out, w, normed);
        }
    }
}

/// The weights of a linear layer that must be there.
pub(super) fn linear<B: Backend>(b: &B, model: &Model, role: Role) -> Result<Weights> {
    weights_for(b, model, role)?.ok_or_else(|| missing(role))
}

/// Every other part of a head's size among the rows, the first or those behind it: the queries, or their gates.
pub(super) fn halves(weights: &Weights, config: &Config, first: usize) -> Weights {
    let head_dim = config.heads.head_dim;
    let row = |row: usize| (2 * (row / head_dim) + first) * head_dim + row % head_dim;
    let order: Vec<usize> = (0..weights.rows() / 2).map(row).collect();
    match weights {
        Weights::Ternary(ternary) => Weights::Ternary(ternary.rows_of(&order)),
        Weights::Dense(_) => unreachable!("a linear layer is ternary, which its model's form demands"),
    }
}

/// The matrix of an output projection. What is added to the residual stream is scaled as the stream is: in the gain of the last norm,
/// or else in the weights.
pub(super) fn output<B: Backend>(b: &mut B, model: &Model, role: Role) -> Result<B::Matrix> {
    let config = model.config();
    let added = config.factors.residual / config.factors.embedding;
    match linear(b, model, role)? {
        Weights::Ternary(ternary) if !config.post_norms && added != 1.0 => {
            b.matrix(&[Weights::Ternary(ternary.scaled(added)?)])
        }
        weights => b.matrix(&[weights]),
    }
}
