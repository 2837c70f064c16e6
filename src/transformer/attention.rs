//! Attention as the mixer of a layer: every row sees the keys and values of those before it.

use crate::backend::{Backend, CacheShape, HeadNorm, Norm, Rotary};
use crate::error::Result;
use crate::model::{Model, Part, Role};
use crate::transformer::layer::Around;
use crate::transformer::projections::{Projections, halves, linear, optional_norm_matmul, output};
use crate::transformer::state::Activations;
use crate::transformer::{Capacity, gain};

/// The weights of attention in one layer.
pub(super) struct Attention<B: Backend> {
    qkv: Projections<B>,              // [heads.qkv_cols(), width]
    gate: Option<B::Matrix>,          // [heads.query_cols(), width], of the outputs
    head_gains: Option<HeadGains<B>>, // of the norms of query and key heads
    sub_norm: Option<B::Tensor>,      // [heads.query_cols()]
    output: B::Matrix,                // [width, heads.query_cols()]
    post_norm: Option<B::Tensor>,     // [width]
    is_windowed: bool,
}

struct HeadGains<B: Backend> {
    query: B::Tensor, // [head_dim]
    key: B::Tensor,   // [head_dim]
}

impl<B: Backend> Attention<B> {
    pub(super) fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let config = model.config();
        let role = |part| Role::Layer(layer, part);
        let optional_gain = |b: &mut B, part: Part, factor| match part.is_in(config, layer) {
            true => gain(b, model, role(part), factor).map(Some),
            false => Ok(None),
        };
        let head_gains = match config.head_norms {
            Some(_) => {
                let plain_gain = |b: &mut B, part| gain(b, model, role(part), 1.0);
                Some(HeadGains { query: plain_gain(b, Part::QueryHeadNorm)?, key: plain_gain(b, Part::KeyHeadNorm)? })
            }
            None => None,
        };
        let gate = match config.attention_gate {
            true => {
                let queries = linear(b, model, role(Part::Query))?;
                Some(b.matrix(&[halves(&queries, config, 1)])?)
            }
            false => None,
        };
        let sub_norm = optional_gain(b, Part::AttentionSubNorm, 1.0)?;
        let post_norm = match config.post_norms {
            true => optional_gain(b, Part::AttentionPostNorm, config.factors.residual / config.factors.embedding)?,
            false => None,
        };
        Ok(Self {
            qkv: Projections::load(b, model, layer, &Projections::<B>::QKV)?,
            gate,
            head_gains,
            sub_norm: match sub_norm {
                Some(gain) => Some(gain),
                None => optional_gain(b, Part::AttentionOutputInputNorm, 1.0)?,
            },
            output: output(b, model, role(Part::AttentionOutput))?,
            post_norm,
            is_windowed: config.windows.as_ref().is_some_and(|windows| windows.covers(layer)),
        })
    }

    /// Attention, and what it adds to the residual stream.
    pub(super) fn run(
        &self,
        b: &mut B,
        a: &mut Activations<B>,
        cache: &mut B::Cache,
        norm: Norm<'_, B>,
        around: Around<'_>,
    ) {
        let (config, epsilon) = (around.config, around.config.norm_epsilon);
        self.qkv.norm_matmul(b, &mut a.qkv, &mut a.normed, &mut a.apart, &a.hidden, norm, epsilon);

        let rotations = a.window_rotations.as_ref().filter(|_| self.is_windowed).unwrap_or(&a.rotations);
        let head_norm = self
            .head_gains
            .as_ref()
            .zip(config.head_norms)
            .map(|(HeadGains { query, key }, order)| HeadNorm { query_gain: query, key_gain: key, epsilon, order });
        let rotary = Rotary { rotations, pairs: config.rope.pairs, norm: head_norm };
        b.rope_attend(&mut a.attended, &mut a.qkv, cache, rotary, config.heads);
        if let Some((w, gates)) = self.gate.as_ref().zip(a.attention_gates.as_mut()) {
            b.norm_matmul(gates, &mut a.normed, w, &a.hidden, norm);
            b.gate(&mut a.attended, gates);
        }

        let sub_norm = self.sub_norm.as_ref().map(|gain| Norm { gain, epsilon });
        match self.post_norm.as_ref().zip(a.branch.as_mut()) {
            None => b.norm_matmul_add(&mut a.hidden, &mut a.attended_q, &self.output, &a.attended, sub_norm),
            Some((gain, branch)) => {
                optional_norm_matmul(b, branch, &mut a.attended_q, &self.output, &a.attended, sub_norm);
                b.norm_add(&mut a.hidden, branch, Norm { gain, epsilon });
            }
        }
    }

    /// Room for the keys and values of the layer.
    pub(super) fn cache(&self, b: &mut B, around: Around<'_>, capacity: Capacity) -> Result<B::Cache> {
        let config = around.config;
        let cache = b.cache(CacheShape {
            slots: capacity.sequences,
            positions: capacity.positions,
            kv_heads: config.heads.kv_heads,
            head_dim: config.heads.head_dim,
            precision: capacity.cache,
            window: config.windows.as_ref().filter(|_| self.is_windowed).map(|windows| windows.positions),
        })?;
        b.attend_room(&cache, config.heads)?;
        Ok(cache)
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        let gate = self.gate.as_ref().map_or(0, |gate| b.matrix_bytes(gate));
        self.qkv.matrix_bytes(b) + gate + b.matrix_bytes(&self.output)
    }
}
