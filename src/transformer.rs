//! The forward pass, written once for every ternary transformer and every device.
//!
//! A layer reads as its definition (BitNet b1.58 2B4T, arXiv 2504.12285): norm, attention, projection, norm, gated
//! feed-forward, projection. Differences between architectures are data in the config and `Option`s in a layer.
//!
//! Factors around the layers cost nothing here. The residual stream is held divided by the factor of the embeddings: norms do
//! not see it, except by their epsilon, and what layers add is scaled with the weights, at load.

mod layer;

use crate::backend::{Backend, CachePrecision, Rope, Row};
use crate::error::{Error, Result};
use crate::model::{Config, Model, Role};
use crate::transformer::layer::{Apart, Layer};

/// A model on a device: weights, activations and caches.
pub struct Transformer<B: Backend> {
    config: Config,
    stream_epsilon: f32,     // of norms of the residual stream
    rope: Rope,              // of layers that see all positions
    embedding: B::Matrix,    // [vocabulary, width]
    layers: Vec<Layer<B>>,   // [layers]
    output_norm: B::Tensor,  // [width]
    head: Option<B::Matrix>, // [vocabulary, width]; None where it is tied to the embedding
    activations: Activations<B>,
    told: usize, // the place in `activations.best` of the step that told last
}

/// Every intermediate value of a step, allocated once. `rows` and `selected` are the largest of any step.
struct Activations<B: Backend> {
    tokens: B::Tokens,                   // [rows]
    rotations: B::Tensor,                // [rows, 2 * rope pairs]
    window_rotations: Option<B::Tensor>, // the same, of layers that see only the latest positions
    hidden: B::Tensor,                   // [rows, width], the residual stream
    normed: B::Quantized,                // [rows, width]
    qkv: B::Tensor,                      // [rows, heads.qkv_cols()]
    attended: B::Tensor,                 // [rows, heads.query_cols()]
    attended_q: B::Quantized,            // [rows, heads.query_cols()]
    gate_up: B::Tensor,                  // [rows, 2 * ffn_width]
    product: B::Tensor,                  // [rows, ffn_width]
    product_q: B::Quantized,             // [rows, ffn_width]
    apart: Option<Apart<B>>,             // of projections with norms of their own
    branch: Option<B::Tensor>,           // [rows, width], where it is normed before it is added
    selected: B::Tensor,                 // [selected, width]
    logits: B::Tensor,                   // [selected, vocabulary]
    best: Vec<B::Tokens>,                // [selected] each, of the latest steps by turns
    top: B::Tokens,                      // [selected * MOST_CANDIDATES]
    top_logits: B::Tensor,               // [selected, MOST_CANDIDATES]
}

/// The token ids of a step's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Known here, each below the vocabulary.
    Ids(&'a [u32]),
    /// Chosen by the step before, which told [`Telling::Best`] of as many rows as this one has. Where it found no token, the
    /// row's values are unspecified.
    Chosen,
}

/// What the head is to tell of the rows that want logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The most likely token.
    Best,
    /// This many of the most likely tokens with their logits, at most [`MOST_CANDIDATES`].
    Candidates(usize),
    /// All logits.
    Logits,
    /// No logits, but the features that the head would be given, after the last norm.
    Features,
}

/// The most candidates a step can tell of a row: enough for the usual samplers, 2 KiB to bring back from a device.
pub const MOST_CANDIDATES: usize = 256;

/// The largest step and the longest sequences that room is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of one step.
    pub rows: usize,
    /// Rows of one step that want logits.
    pub selected: usize,
    /// Sequences held at once.
    pub sequences: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// The number format of the caches.
    pub cache: CachePrecision,
}

impl<B: Backend> Transformer<B> {
    /// Puts a model on a device, layer by layer. `progress` is told the number of layers done, and of all.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has too little memory, otherwise those of [`Model::weights`].
    pub fn load(
        backend: &mut B,
        model: &Model,
        capacity: Capacity,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let config = model.config().clone();
        let mut embedding = backend.matrix(&[model.required(Role::Embedding)?])?;
        let mut head = match model.weights(Role::Head)? {
            Some(weights) => Some(backend.matrix(&[weights])?),
            None => None,
        };
        backend.prepare_head(head.as_mut().unwrap_or(&mut embedding), capacity.selected, config.numerics)?;
        let output_norm = gain(backend, model, Role::OutputNorm, 1.0 / config.factors.logits)?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            progress(layer, config.layers);
            layers.push(Layer::load(backend, model, layer, capacity)?);
        }
        progress(config.layers, config.layers);
        let rope = config.rope_for(capacity.positions);
        let activations = Activations::new(backend, &config, &rope, capacity)?;
        let stream_epsilon = config.norm_epsilon / config.factors.embedding.powi(2);
        Ok(Self { config, stream_epsilon, rope, embedding, layers, output_norm, head, activations, told: 0 })
    }

    /// Runs one step: afterwards the caches hold the rows, and what the head was to tell of the rows that want logits is
    /// ready.
    pub fn forward(&mut self, b: &mut B, input: Input, rows: &[Row], telling: Telling) {
        let a = &mut self.activations;
        b.begin(rows);
        b.rotations(&mut a.rotations, &self.rope);
        if let Some((rotations, windows)) = a.window_rotations.as_mut().zip(self.config.windows.as_ref()) {
            b.rotations(rotations, &windows.rope);
        }
        match input {
            Input::Ids(ids) => b.write_tokens(&mut a.tokens, ids),
            Input::Chosen => b.copy_tokens(&mut a.tokens, &a.best[self.told], rows.len()),
        }
        b.embed(&mut a.hidden, &self.embedding, &a.tokens);
        for layer in &mut self.layers {
            layer.attention(b, a, &self.config, self.stream_epsilon);
            layer.feed_forward(b, a, &self.config, self.stream_epsilon);
        }
        if rows.iter().any(|row| row.wants_logits) {
            b.norm_selected(&mut a.selected, &a.hidden, &self.output_norm, self.stream_epsilon);
            let head = self.head.as_ref().unwrap_or(&self.embedding);
            match telling {
                Telling::Best => {
                    self.told = (self.told + 1) % a.best.len();
                    b.best(&mut a.best[self.told], &mut a.logits, head, &a.selected);
                }
                Telling::Candidates(count) => {
                    assert!((1..=MOST_CANDIDATES).contains(&count));
                    b.candidates(&mut a.top, &mut a.top_logits, count, &mut a.logits, head, &a.selected);
                }
                Telling::Logits => b.logits(&mut a.logits, head, &a.selected),
                Telling::Features => {}
            }
        }
        b.end();
    }

    /// The most likely next token of each row that wanted logits in a step that told [`Telling::Best`]: the last such step, or
    /// one up to [`Backend::steps_ahead`] of them `before`. `ids: [selected]`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_best(&self, b: &mut B, before: usize, ids: &mut [u32]) -> Result<()> {
        let best = &self.activations.best;
        assert!(before < best.len());
        b.read_tokens(&best[(self.told + best.len() - before) % best.len()], ids)
    }

    /// The candidates of each row that wanted logits in the last step, if it told [`Telling::Candidates`], best first:
    /// `ids` and `logits` are `[selected, MOST_CANDIDATES]`, of which the first of each row are filled.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_candidates(&self, b: &mut B, ids: &mut [u32], logits: &mut [f32]) -> Result<()> {
        b.read_tokens(&self.activations.top, ids)?;
        b.read_tensor(&self.activations.top_logits, logits)
    }

    /// The logits of the rows that wanted them in the last step, if it told [`Telling::Logits`]:
    /// `logits: [selected, vocabulary]`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_logits(&self, b: &mut B, logits: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.logits, logits)
    }

    /// Bytes of memory that the caches of all layers were given.
    pub fn cache_bytes(&self, b: &B) -> u64 {
        self.layers.iter().map(|layer| layer.cache_bytes(b)).sum()
    }

    /// The features of the rows that wanted logits in the last step, after the last norm: `features: [selected, width]`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_features(&self, b: &mut B, features: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.selected, features)
    }

    /// The residual stream after the last layer of the last step, `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_hidden(&self, b: &mut B, hidden: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.hidden, hidden)?;
        hidden.iter_mut().for_each(|value| *value *= self.config.factors.embedding);
        Ok(())
    }
}

impl<B: Backend> Activations<B> {
    fn new(backend: &mut B, config: &Config, rope: &Rope, capacity: Capacity) -> Result<Self> {
        let Config { width, ffn_width, heads, numerics, .. } = *config;
        let Capacity { rows, selected, .. } = capacity;
        Ok(Self {
            tokens: backend.tokens(rows)?,
            rotations: backend.tensor(rows, 2 * rope.frequencies.len())?,
            window_rotations: match &config.windows {
                Some(windows) => Some(backend.tensor(rows, 2 * windows.rope.frequencies.len())?),
                None => None,
            },
            hidden: backend.tensor(rows, width)?,
            normed: backend.quantized(rows, width, numerics)?,
            qkv: backend.tensor(rows, heads.qkv_cols())?,
            attended: backend.tensor(rows, heads.query_cols())?,
            attended_q: backend.quantized(rows, heads.query_cols(), numerics)?,
            gate_up: backend.tensor(rows, 2 * ffn_width)?,
            product: backend.tensor(rows, ffn_width)?,
            product_q: backend.quantized(rows, ffn_width, numerics)?,
            apart: if config.input_norms { Some(Apart::new(backend, config, rows)?) } else { None },
            branch: if config.post_norms { Some(backend.tensor(rows, width)?) } else { None },
            selected: backend.tensor(selected, width)?,
            logits: backend.tensor(selected, config.vocabulary)?,
            best: (0..=backend.steps_ahead()).map(|_| backend.tokens(selected)).collect::<Result<_>>()?,
            top: backend.tokens(selected * MOST_CANDIDATES)?,
            top_logits: backend.tensor(selected, MOST_CANDIDATES)?,
        })
    }
}

/// The gain of a norm, times a factor.
fn gain<B: Backend>(backend: &mut B, model: &Model, role: Role, factor: f32) -> Result<B::Tensor> {
    let missing = || Error::Model(format!("the tensor \"{}\" is missing", role.gguf_name()));
    let mut gain = model.gain(role)?.ok_or_else(missing)?;
    gain.iter_mut().for_each(|value| *value *= factor);
    backend.parameter(&gain)
}
