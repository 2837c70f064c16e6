//! One layer: attention, then the gated feed-forward network, each added to the residual stream.

use crate::backend::{Backend, CacheShape, HeadNorm, Norm, Rotary};
use crate::error::Result;
use crate::format::Weights;
use crate::model::{Config, Model, Part, Role};
use crate::transformer::state::Activations;
use crate::transformer::{Capacity, gain, missing, weights_for};

/// The weights of one layer.
pub(super) struct Layer<B: Backend> {
    attention_norm: B::Tensor,              // [width]
    qkv: Projections<B>,                    // [heads.qkv_cols(), width]
    head_gains: Option<HeadGains<B>>,       // of the norms of query and key heads
    attention_sub_norm: Option<B::Tensor>,  // [heads.query_cols()]
    attention_output: B::Matrix,            // [width, heads.query_cols()]
    attention_post_norm: Option<B::Tensor>, // [width]
    ffn_norm: B::Tensor,                    // [width]
    gate_up: Projections<B>,                // [2 * ffn_width, width]
    ffn_sub_norm: Option<B::Tensor>,        // [ffn_width]
    down: B::Matrix,                        // [width, ffn_width]
    ffn_post_norm: Option<B::Tensor>,       // [width]
    is_windowed: bool,
}

struct HeadGains<B: Backend> {
    query: B::Tensor, // [head_dim]
    key: B::Tensor,   // [head_dim]
}

/// Matrices that take the same input; their outputs stand side by side.
enum Projections<B: Backend> {
    /// One matrix, stacked by rows.
    Stacked(B::Matrix),
    /// Each has a norm of its own before it.
    Apart(Vec<Projection<B>>),
}

struct Projection<B: Backend> {
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

impl<B: Backend> Layer<B> {
    /// Attention, and what it adds to the residual stream.
    pub(super) fn attention(
        &self,
        b: &mut B,
        a: &mut Activations<B>,
        cache: &mut B::Cache,
        config: &Config,
        stream_epsilon: f32,
    ) {
        let epsilon = config.norm_epsilon;
        let norm = Norm { gain: &self.attention_norm, epsilon: stream_epsilon };
        match &self.qkv {
            Projections::Stacked(w) => b.norm_matmul(&mut a.qkv, &mut a.normed, w, &a.hidden, norm),
            Projections::Apart(parts) => {
                let apart = a.apart.as_mut().expect("made for such layers");
                apart.project(b, &mut a.qkv, &mut a.normed, parts, &a.hidden, norm, epsilon);
            }
        }

        let rotations = a.window_rotations.as_ref().filter(|_| self.is_windowed).unwrap_or(&a.rotations);
        let norm = self.head_gains.as_ref().zip(config.head_norms).map(|(HeadGains { query, key }, order)| HeadNorm {
            query_gain: query,
            key_gain: key,
            epsilon,
            order,
        });
        let rotary = Rotary { rotations, pairs: config.rope.pairs, norm };
        b.rope_attend(&mut a.attended, &mut a.qkv, cache, rotary, config.heads);

        let sub_norm = self.attention_sub_norm.as_ref().map(|gain| Norm { gain, epsilon });
        let w = &self.attention_output;
        match self.attention_post_norm.as_ref().zip(a.branch.as_mut()) {
            None => b.norm_matmul_add(&mut a.hidden, &mut a.attended_q, w, &a.attended, sub_norm),
            Some((gain, branch)) => {
                optional_norm_matmul(b, branch, &mut a.attended_q, w, &a.attended, sub_norm);
                b.norm_add(&mut a.hidden, branch, Norm { gain, epsilon });
            }
        }
    }

    /// The feed-forward network, and what it adds to the residual stream.
    pub(super) fn feed_forward(&self, b: &mut B, a: &mut Activations<B>, config: &Config, stream_epsilon: f32) {
        let (epsilon, activation) = (config.norm_epsilon, config.activation);
        let norm = Norm { gain: &self.ffn_norm, epsilon: stream_epsilon };
        match &self.gate_up {
            Projections::Stacked(w) => {
                b.norm_matmul_glu(&mut a.product, &mut a.gate_up, &mut a.normed, w, &a.hidden, norm, activation);
            }
            Projections::Apart(parts) => {
                let apart = a.apart.as_mut().expect("made for such layers");
                apart.project(b, &mut a.gate_up, &mut a.normed, parts, &a.hidden, norm, epsilon);
                b.glu(&mut a.product, &a.gate_up, activation);
            }
        }

        let sub_norm = self.ffn_sub_norm.as_ref().map(|gain| Norm { gain, epsilon });
        match self.ffn_post_norm.as_ref().zip(a.branch.as_mut()) {
            None => b.norm_matmul_add(&mut a.hidden, &mut a.product_q, &self.down, &a.product, sub_norm),
            Some((gain, branch)) => {
                optional_norm_matmul(b, branch, &mut a.product_q, &self.down, &a.product, sub_norm);
                b.norm_add(&mut a.hidden, branch, Norm { gain, epsilon });
            }
        }
    }

    /// Room for the keys and values of the layer.
    pub(super) fn cache(&self, b: &mut B, config: &Config, capacity: Capacity) -> Result<B::Cache> {
        b.cache(CacheShape {
            slots: capacity.sequences,
            positions: capacity.positions,
            kv_heads: config.heads.kv_heads,
            head_dim: config.heads.head_dim,
            precision: capacity.cache,
            window: config.windows.as_ref().filter(|_| self.is_windowed).map(|windows| windows.positions),
        })
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        let projections = [&self.qkv, &self.gate_up].map(|projections| match projections {
            Projections::Stacked(w) => b.matrix_bytes(w),
            Projections::Apart(parts) => parts.iter().map(|part| b.matrix_bytes(&part.weights)).sum(),
        });
        projections.iter().sum::<u64>() + b.matrix_bytes(&self.attention_output) + b.matrix_bytes(&self.down)
    }

    pub(super) fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let config = model.config();
        let role = |part| Role::Layer(layer, part);
        let plain_gain = |b: &mut B, part| gain(b, model, role(part), 1.0);
        let optional_gain = |b: &mut B, part: Part, factor| match part.belongs_to(config) {
            true => gain(b, model, role(part), factor).map(Some),
            false => Ok(None),
        };
        let sub_norm = |b: &mut B, sub_norm, input_norm| {
            Ok::<_, crate::Error>(optional_gain(b, sub_norm, 1.0)?.or(optional_gain(b, input_norm, 1.0)?))
        };
        // What is added to the residual stream is scaled as the stream is: in the gain of the last norm, or else in the weights.
        let added = config.factors.residual / config.factors.embedding;
        let output = |b: &mut B, part| {
            let weights = weights_for(b, model, role(part))?.ok_or_else(|| missing(role(part)))?;
            match weights {
                Weights::Ternary(ternary) if !config.post_norms && added != 1.0 => {
                    b.matrix(&[Weights::Ternary(ternary.scaled(added)?)])
                }
                weights => b.matrix(&[weights]),
            }
        };
        let head_gains = match config.head_norms {
            Some(_) => {
                Some(HeadGains { query: plain_gain(b, Part::QueryHeadNorm)?, key: plain_gain(b, Part::KeyHeadNorm)? })
            }
            None => None,
        };
        let is_windowed = config.windows.as_ref().is_some_and(|windows| windows.covers(layer));
        Ok(Self {
            attention_norm: plain_gain(b, Part::AttentionNorm)?,
            qkv: Projections::load(b, model, layer, &Projections::<B>::QKV)?,
            head_gains,
            attention_sub_norm: sub_norm(b, Part::AttentionSubNorm, Part::AttentionOutputInputNorm)?,
            attention_output: output(b, Part::AttentionOutput)?,
            attention_post_norm: optional_gain(b, Part::AttentionPostNorm, added)?,
            ffn_norm: plain_gain(b, Part::FfnNorm)?,
            gate_up: Projections::load(b, model, layer, &Projections::<B>::GATE_UP)?,
            ffn_sub_norm: sub_norm(b, Part::FfnSubNorm, Part::DownInputNorm)?,
            down: output(b, Part::Down)?,
            ffn_post_norm: optional_gain(b, Part::FfnPostNorm, added)?,
            is_windowed,
        })
    }
}

impl<B: Backend> Projections<B> {
    /// The gain of a projection's own norm, and its weights.
    const QKV: [(Part, Part); 3] =
        [(Part::QueryInputNorm, Part::Query), (Part::KeyInputNorm, Part::Key), (Part::ValueInputNorm, Part::Value)];
    const GATE_UP: [(Part, Part); 2] = [(Part::GateInputNorm, Part::Gate), (Part::UpInputNorm, Part::Up)];

    fn load(b: &mut B, model: &Model, layer: usize, parts: &[(Part, Part)]) -> Result<Self> {
        let weights = |b: &B, part| {
            let role = Role::Layer(layer, part);
            weights_for(b, model, role)?.ok_or_else(|| missing(role))
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
fn optional_norm_matmul<B: Backend>(
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
