//! One layer: what mixes rows, attention or a recurrence, then the gated feed-forward network, each added to the residual stream.

use crate::backend::{Backend, Norm};
use crate::error::Result;
use crate::model::{Config, Model, Part, Role};
use crate::transformer::attention::Attention;
use crate::transformer::delta_net::DeltaNet;
use crate::transformer::experts::Experts;
use crate::transformer::projections::{Projections, optional_norm_matmul, output};
use crate::transformer::state::Activations;
use crate::transformer::{Capacity, gain};

/// The weights of one layer.
pub(super) struct Layer<B: Backend> {
    mixer_norm: B::Tensor, // [width]
    mixer: Mixer<B>,
    ffn_norm: B::Tensor, // [width]
    feed_forward: FeedForward<B>,
}

/// What makes features of features, row by row.
enum FeedForward<B: Backend> {
    Dense(Dense<B>),
    Experts(Experts<B>),
}

/// One gated network.
struct Dense<B: Backend> {
    gate_up: Projections<B>,      // [2 * ffn_width, width]
    sub_norm: Option<B::Tensor>,  // [ffn_width]
    down: B::Matrix,              // [width, ffn_width]
    post_norm: Option<B::Tensor>, // [width]
}

/// What lets rows know of those before them.
enum Mixer<B: Backend> {
    Attention(Attention<B>),
    DeltaNet(DeltaNet<B>),
}

/// What a layer keeps of each sequence.
pub enum Memory<B: Backend> {
    /// Keys and values of every position.
    Cache(B::Cache),
    /// A state of fixed size, as the latest row left it.
    Recurrent(B::Recurrent),
}

/// What all layers share.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) config: &'a Config,
    pub(super) stream_epsilon: f32, // of norms of the residual stream
}

impl<B: Backend> Layer<B> {
    /// What rows learn of those before them, added to the residual stream.
    pub(super) fn mix(&self, b: &mut B, a: &mut Activations<B>, memory: &mut Memory<B>, around: Around<'_>) {
        let norm = Norm { gain: &self.mixer_norm, epsilon: around.stream_epsilon };
        match (&self.mixer, memory) {
            (Mixer::Attention(attention), Memory::Cache(cache)) => attention.run(b, a, cache, norm, around),
            (Mixer::DeltaNet(net), Memory::Recurrent(state)) => net.run(b, a, state, norm, around),
            _ => unreachable!("a layer's memory is of its own kind"),
        }
    }

    /// The feed-forward network, and what it adds to the residual stream.
    pub(super) fn feed_forward(&self, b: &mut B, a: &mut Activations<B>, around: Around<'_>) {
        let norm = Norm { gain: &self.ffn_norm, epsilon: around.stream_epsilon };
        match &self.feed_forward {
            FeedForward::Dense(dense) => dense.run(b, a, norm, around),
            FeedForward::Experts(experts) => experts.run(b, a, norm),
        }
    }

    /// Room for what the layer keeps of each sequence.
    pub(super) fn memory(&self, b: &mut B, around: Around<'_>, capacity: Capacity) -> Result<Memory<B>> {
        match &self.mixer {
            Mixer::Attention(attention) => attention.cache(b, around, capacity).map(Memory::Cache),
            Mixer::DeltaNet(net) => net.state(b, capacity).map(Memory::Recurrent),
        }
    }

    /// Bytes of the matrices.
    pub(super) fn matrix_bytes(&self, b: &B) -> u64 {
        let mixer = match &self.mixer {
            Mixer::Attention(attention) => attention.matrix_bytes(b),
            Mixer::DeltaNet(net) => net.matrix_bytes(b),
        };
        let feed_forward = match &self.feed_forward {
            FeedForward::Dense(dense) => dense.gate_up.matrix_bytes(b) + b.matrix_bytes(&dense.down),
            FeedForward::Experts(experts) => experts.matrix_bytes(b),
        };
        mixer + feed_forward
    }

    pub(super) fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let config = model.config();
        let role = |part| Role::Layer(layer, part);
        let plain_gain = |b: &mut B, part| gain(b, model, role(part), 1.0);
        Ok(Self {
            mixer_norm: plain_gain(b, Part::AttentionNorm)?,
            mixer: match config.is_recurrent(layer) {
                true => Mixer::DeltaNet(DeltaNet::load(b, model, layer)?),
                false => Mixer::Attention(Attention::load(b, model, layer)?),
            },
            ffn_norm: match Part::FfnNorm.is_in(config, layer) {
                true => plain_gain(b, Part::FfnNorm)?,
                false => plain_gain(b, Part::AttentionPostNorm)?,
            },
            feed_forward: match config.mixture {
                Some(_) => FeedForward::Experts(Experts::load(b, model, layer)?),
                None => FeedForward::Dense(Dense::load(b, model, layer)?),
            },
        })
    }
}

impl<B: Backend> Dense<B> {
    fn load(b: &mut B, model: &Model, layer: usize) -> Result<Self> {
        let config = model.config();
        let optional_gain = |b: &mut B, part: Part, factor| match part.is_in(config, layer) {
            true => gain(b, model, Role::Layer(layer, part), factor).map(Some),
            false => Ok(None),
        };
        let sub_norm = optional_gain(b, Part::FfnSubNorm, 1.0)?;
        Ok(Self {
            gate_up: Projections::load(b, model, layer, &Projections::<B>::GATE_UP)?,
            sub_norm: match sub_norm {
                Some(gain) => Some(gain),
                None => optional_gain(b, Part::DownInputNorm, 1.0)?,
            },
            down: output(b, model, Role::Layer(layer, Part::Down))?,
            post_norm: optional_gain(b, Part::FfnPostNorm, config.factors.residual / config.factors.embedding)?,
        })
    }

    fn run(&self, b: &mut B, a: &mut Activations<B>, norm: Norm<'_, B>, around: Around<'_>) {
        let (epsilon, activation) = (around.config.norm_epsilon, around.config.activation);
        match &self.gate_up {
            Projections::Stacked(w) => {
                b.norm_matmul_glu(&mut a.product, &mut a.gate_up, &mut a.normed, w, &a.hidden, norm, activation);
            }
            apart => {
                apart.norm_matmul(b, &mut a.gate_up, &mut a.normed, &mut a.apart, &a.hidden, norm, epsilon);
                b.glu(&mut a.product, &a.gate_up, activation);
            }
        }

        let sub_norm = self.sub_norm.as_ref().map(|gain| Norm { gain, epsilon });
        match self.post_norm.as_ref().zip(a.branch.as_mut()) {
            None => b.norm_matmul_add(&mut a.hidden, &mut a.product_q, &self.down, &a.product, sub_norm),
            Some((gain, branch)) => {
                optional_norm_matmul(b, branch, &mut a.product_q, &self.down, &a.product, sub_norm);
                b.norm_add(&mut a.hidden, branch, Norm { gain, epsilon });
            }
        }
    }
}
