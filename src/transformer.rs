//! The forward pass, written once for every ternary transformer and every device.
//!
//! A layer reads as its definition (BitNet b1.58 2B4T, arXiv 2504.12285): norm, attention, projection, norm, gated
//! feed-forward, projection. Differences between architectures are data in the config and `Option`s in a layer.
//!
//! What never changes once it is loaded, a [`Transformer`], serves any number of sessions at once; what a step changes is the
//! [`State`] of one of them.
//!
//! Factors around the layers cost nothing here. The residual stream is held divided by the factor of the embeddings: norms do
//! not see it, except by their epsilon, and what layers add is scaled with the weights, at load.

mod attention;
mod bases;
mod delta_net;
mod experts;
mod layer;
mod projections;
mod state;

use std::future::poll_fn;
use std::ops::{ControlFlow, Range};

pub use layer::Memory;
pub use state::{Capacity, KeptState, State};

use crate::backend::{Backend, MOST_CANDIDATES, Row};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::model::{Config, Model, Role};
use crate::transformer::bases::Bases;
use crate::transformer::layer::{Around, Layer};
use crate::waiting::waited;

/// A model on a device: its weights.
pub struct Transformer<B: Backend> {
    config: Config,
    stream_epsilon: f32,     // of norms of the residual stream
    embedding: B::Matrix,    // [vocabulary, width]
    layers: Vec<Layer<B>>,   // [layers]
    bases: Bases<B>,         // of the layers' weights
    output_norm: B::Tensor,  // [width]
    head: Option<B::Matrix>, // [vocabulary, width]; None where it is tied to the embedding
}

/// The token ids of a step's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Known here, each below the vocabulary.
    Ids(&'a [u32]),
    /// Chosen by the step before, of which [`Wanted::Best`] was wanted, and which has as many rows as this one. Where it found no
    /// token, the row's values are unspecified.
    Chosen,
}

/// What is wanted of the rows that want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing yet: [`Transformer::head`] may be asked later.
    Nothing,
    /// The most likely token.
    Best,
    /// This many of the most likely tokens with their logits, at most [`MOST_CANDIDATES`].
    Candidates(usize),
    /// The same, and what the odds of all tokens add up to ([`Backend::totals`]).
    Totals(usize),
    /// All logits.
    Logits,
    /// No logits, but the features that the head would be given, after the last norm.
    Features,
}

impl<B: Backend> Transformer<B> {
    /// Puts a model on a device, layer by layer. `progress` is told the number of layers done, and of all, and may stop.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has too little memory, [`Error::Interrupted`] if `progress` stopped, otherwise those of [`Model::weights`].
    pub fn load(
        backend: &mut B,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        waited(Self::load_async(backend, model, progress))
    }

    /// [`Transformer::load`], waiting after each layer until the device has taken it.
    ///
    /// # Errors
    /// As [`Transformer::load`].
    pub async fn load_async(
        backend: &mut B,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let config = model.config().clone();
        let mut tell = |done| match progress(done, config.layers) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Interrupted),
        };
        tell(0)?;
        let weights = weights_for(backend, model, Role::Embedding)?.ok_or_else(|| missing(Role::Embedding))?;
        let mut embedding = backend.matrix(&[weights])?;
        let mut head = match weights_for(backend, model, Role::Head)? {
            Some(weights) => Some(backend.matrix(&[weights])?),
            None => None,
        };
        backend.prepare_head(head.as_mut().unwrap_or(&mut embedding), config.numerics)?;
        let output_norm = gain(backend, model, Role::OutputNorm, 1.0 / config.factors.logits)?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            tell(layer)?;
            layers.push(Layer::load(backend, model, layer)?);
            poll_fn(|context| backend.poll_done(context)).await;
        }
        tell(config.layers)?;
        let stream_epsilon = config.norm_epsilon / config.factors.embedding.powi(2);
        let bases = Bases::load(backend, &config)?;
        Ok(Self { config, stream_epsilon, embedding, layers, bases, output_norm, head })
    }

    /// The network.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What all layers share.
    fn around(&self) -> Around<'_> {
        Around { config: &self.config, stream_epsilon: self.stream_epsilon }
    }

    /// Bytes that the matrices take on the device, or in the map of their file.
    pub fn matrix_bytes(&self, b: &B) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.matrix_bytes(b)).sum();
        let head = self.head.as_ref().map_or(0, |head| b.matrix_bytes(head));
        layers + head + b.matrix_bytes(&self.embedding)
    }

    /// Runs one step, with the head if anything is wanted: afterwards the caches hold the rows, and what is wanted of those that
    /// want logits is ready.
    pub fn forward(&self, b: &mut B, s: &mut State<B>, input: Input, rows: &[Row], wanted: Wanted) {
        self.layers(b, s, input, rows);
        let selected = rows.iter().filter(|row| row.wants_logits).count();
        if selected > 0 && wanted != Wanted::Nothing {
            self.head(b, s, 0..selected, wanted);
        }
        b.end();
    }

    /// The layers of a step: from token ids to the residual stream, which stays until the next step.
    fn layers(&self, b: &mut B, s: &mut State<B>, input: Input, rows: &[Row]) {
        let a = &mut s.activations;
        b.begin(rows);
        b.rotations(&mut a.rotations, &s.rope);
        if let Some((rotations, windows)) = a.window_rotations.as_mut().zip(self.config.windows.as_ref()) {
            b.rotations(rotations, &windows.rope);
        }
        match input {
            Input::Ids(ids) => b.write_tokens(&mut a.tokens, ids),
            Input::Chosen => b.copy_tokens(&mut a.tokens, &a.best[s.latest], rows.len()),
        }
        match a.latent.as_mut().zip(self.bases.of(self.config.width)) {
            Some((latent, basis)) => {
                b.embed(latent, &self.embedding, &a.tokens);
                b.restore(&mut a.hidden, latent, basis);
            }
            None => b.embed(&mut a.hidden, &self.embedding, &a.tokens),
        }
        for (layer, memory) in self.layers.iter().zip(&mut s.memories) {
            layer.mix(b, a, memory, self.around());
            layer.feed_forward(b, a, self.around());
        }
        s.with_logits = 0..0;
    }

    /// The head, for some of the rows of the last step that want logits, counted in their order: as often as anything is wanted
    /// of them before the next step, at most [`Capacity::selected`] at once.
    pub fn head(&self, b: &mut B, s: &mut State<B>, selected: Range<usize>, wanted: Wanted) {
        let (a, head) = (&mut s.activations, self.head.as_ref().unwrap_or(&self.embedding));
        s.with_logits = 0..0;
        b.select(selected.clone());
        b.norm_selected(&mut a.selected, &a.hidden, &self.output_norm, self.stream_epsilon);
        let features = match a.turned.as_mut().zip(self.bases.of(self.config.width)) {
            Some((turned, basis)) if wanted != Wanted::Features => {
                b.rotate_selected(turned, &a.selected, basis);
                &*turned
            }
            _ => &a.selected,
        };
        match wanted {
            Wanted::Nothing | Wanted::Features => {}
            Wanted::Best => {
                s.latest = (s.latest + 1) % a.best.len();
                b.best(&mut a.best[s.latest], &mut a.logits, head, features);
            }
            Wanted::Candidates(count) => {
                assert!((1..=MOST_CANDIDATES).contains(&count));
                b.candidates(&mut a.top, &mut a.top_logits, count, &mut a.logits, head, features);
            }
            Wanted::Totals(count) => {
                assert!((1..=MOST_CANDIDATES).contains(&count));
                b.logits(&mut a.logits, head, features);
                b.top(&mut a.top, &mut a.top_logits, count, &a.logits);
                b.totals(&mut a.totals, &a.logits, &a.factors);
                s.with_logits = selected;
            }
            Wanted::Logits => {
                b.logits(&mut a.logits, head, features);
                s.with_logits = selected;
            }
        }
    }
}

/// The gain of a norm, times a factor.
fn gain<B: Backend>(backend: &mut B, model: &Model, role: Role, factor: f32) -> Result<B::Tensor> {
    let mut gain = model.floats(role)?.ok_or_else(|| missing(role))?;
    gain.iter_mut().for_each(|value| *value *= factor);
    backend.parameter(&gain)
}

/// The weights of a role; where the backend reads all of them anyway, they are looked through.
fn weights_for<B: Backend>(backend: &B, model: &Model, role: Role) -> Result<Option<Weights>> {
    match model.weights(role)? {
        Some(weights) if backend.reads_weights() => model.looked_through(role, weights).map(Some),
        weights => Ok(weights),
    }
}

fn missing(role: Role) -> Error {
    Error::Model(format!("the tensor \"{}\" is missing", role.gguf_name()))
}
