//! The forward pass, written once for every ternary transformer and every device.
//!
//! A layer reads as its definition (BitNet b1.58 2B4T, arXiv 2504.12285): norm, attention, projection, norm, gated
//! feed-forward, projection. Differences between architectures are data in the config and `Option`s in a layer.

use crate::backend::{Backend, CachePrecision, CacheShape, Norm, Row};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::model::{Config, Model, Part, Role};

/// A model on a device: weights, activations and caches.
pub struct Transformer<B: Backend> {
    config: Config,
    embedding: B::Matrix,    // [vocabulary, width]
    layers: Vec<Layer<B>>,   // [layers]
    output_norm: B::Tensor,  // [width]
    head: Option<B::Matrix>, // [vocabulary, width]; None where it is tied to the embedding
    activations: Activations<B>,
    told: usize, // the place in `activations.best` of the step that told last
}

/// The weights and the cache of one layer.
struct Layer<B: Backend> {
    attention_norm: B::Tensor,             // [width]
    qkv: B::Matrix,                        // [heads.qkv_cols(), width]
    attention_sub_norm: Option<B::Tensor>, // [heads.query_cols()]
    attention_output: B::Matrix,           // [width, heads.query_cols()]
    ffn_norm: B::Tensor,                   // [width]
    gate_up: B::Matrix,                    // [2 * ffn_width, width]
    ffn_sub_norm: Option<B::Tensor>,       // [ffn_width]
    down: B::Matrix,                       // [width, ffn_width]
    cache: B::Cache,
}

/// Every intermediate value of a step, allocated once. `rows` and `selected` are the largest of any step.
struct Activations<B: Backend> {
    tokens: B::Tokens,        // [rows]
    rotations: B::Tensor,     // [rows, 2 * rope pairs]
    hidden: B::Tensor,        // [rows, width], the residual stream
    normed: B::Quantized,     // [rows, width]
    qkv: B::Tensor,           // [rows, heads.qkv_cols()]
    attended: B::Tensor,      // [rows, heads.query_cols()]
    attended_q: B::Quantized, // [rows, heads.query_cols()]
    gate_up: B::Tensor,       // [rows, 2 * ffn_width]
    product: B::Tensor,       // [rows, ffn_width]
    product_q: B::Quantized,  // [rows, ffn_width]
    selected: B::Tensor,      // [selected, width]
    logits: B::Tensor,        // [selected, vocabulary]
    best: Vec<B::Tokens>,     // [selected] each, of the latest steps by turns
    top: B::Tokens,           // [selected * MOST_CANDIDATES]
    top_logits: B::Tensor,    // [selected, MOST_CANDIDATES]
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
        let mut embedding = backend.matrix(&[dense(model, Role::Embedding)?])?;
        let mut head = match model.weights(Role::Head)? {
            Some(_) => Some(backend.matrix(&[dense(model, Role::Head)?])?),
            None => None,
        };
        backend.prepare_head(head.as_mut().unwrap_or(&mut embedding))?;
        let output_norm = gain(backend, model, Role::OutputNorm)?;
        let mut layers = Vec::new();
        for layer in 0..config.layers {
            progress(layer, config.layers);
            layers.push(Layer::load(backend, model, layer, capacity)?);
        }
        progress(config.layers, config.layers);
        let activations = Activations::new(backend, &config, capacity)?;
        Ok(Self { config, embedding, layers, output_norm, head, activations, told: 0 })
    }

    /// Runs one step: afterwards the caches hold the rows, and what the head was to tell of the rows that want logits is
    /// ready.
    pub fn forward(&mut self, b: &mut B, input: Input, rows: &[Row], telling: Telling) {
        let Config { heads, norm_epsilon: epsilon, ref rope, activation, .. } = self.config;
        let a = &mut self.activations;
        b.begin(rows);
        b.rotations(&mut a.rotations, rope);
        match input {
            Input::Ids(ids) => b.write_tokens(&mut a.tokens, ids),
            Input::Chosen => b.copy_tokens(&mut a.tokens, &a.best[self.told], rows.len()),
        }
        b.embed(&mut a.hidden, &self.embedding, &a.tokens);
        for layer in &mut self.layers {
            let norm = |gain| Norm { gain, epsilon };
            b.norm_matmul(&mut a.qkv, &mut a.normed, &layer.qkv, &a.hidden, norm(&layer.attention_norm));
            b.rope_attend(&mut a.attended, &mut a.qkv, &mut layer.cache, &a.rotations, heads, rope.pairs);
            let sub_norm = layer.attention_sub_norm.as_ref().map(norm);
            b.norm_matmul_add(&mut a.hidden, &mut a.attended_q, &layer.attention_output, &a.attended, sub_norm);

            let ffn_norm = norm(&layer.ffn_norm);
            b.norm_matmul_glu(
                &mut a.product,
                &mut a.gate_up,
                &mut a.normed,
                &layer.gate_up,
                &a.hidden,
                ffn_norm,
                activation,
            );
            let sub_norm = layer.ffn_sub_norm.as_ref().map(norm);
            b.norm_matmul_add(&mut a.hidden, &mut a.product_q, &layer.down, &a.product, sub_norm);
        }
        if rows.iter().any(|row| row.wants_logits) {
            b.norm_selected(&mut a.selected, &a.hidden, &self.output_norm, epsilon);
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
        self.layers.iter().map(|layer| b.cache_bytes(&layer.cache)).sum()
    }

    /// The residual stream after the last layer of the last step, `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub fn read_hidden(&self, b: &mut B, hidden: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.hidden, hidden)
    }
}

impl<B: Backend> Layer<B> {
    fn load(backend: &mut B, model: &Model, layer: usize, capacity: Capacity) -> Result<Self> {
        let heads = model.config().heads;
        let role = |part| Role::Layer(layer, part);
        let stacked = |backend: &mut B, parts: &[Part]| {
            let weights: Vec<Weights> = parts.iter().map(|&part| model.required(role(part))).collect::<Result<_>>()?;
            backend.matrix(&weights)
        };
        let sub_norm = |backend: &mut B, part| match model.config().sub_norms {
            true => gain(backend, model, role(part)).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            attention_norm: gain(backend, model, role(Part::AttentionNorm))?,
            qkv: stacked(backend, &[Part::Query, Part::Key, Part::Value])?,
            attention_sub_norm: sub_norm(backend, Part::AttentionSubNorm)?,
            attention_output: stacked(backend, &[Part::AttentionOutput])?,
            ffn_norm: gain(backend, model, role(Part::FfnNorm))?,
            gate_up: stacked(backend, &[Part::Gate, Part::Up])?,
            ffn_sub_norm: sub_norm(backend, Part::FfnSubNorm)?,
            down: stacked(backend, &[Part::Down])?,
            cache: backend.cache(CacheShape {
                slots: capacity.sequences,
                positions: capacity.positions,
                kv_heads: heads.kv_heads,
                head_dim: heads.head_dim,
                precision: capacity.cache,
            })?,
        })
    }
}

impl<B: Backend> Activations<B> {
    fn new(backend: &mut B, config: &Config, capacity: Capacity) -> Result<Self> {
        let Config { width, ffn_width, heads, .. } = *config;
        let Capacity { rows, selected, .. } = capacity;
        Ok(Self {
            tokens: backend.tokens(rows)?,
            rotations: backend.tensor(rows, 2 * config.rope.frequencies.len())?,
            hidden: backend.tensor(rows, width)?,
            normed: backend.quantized(rows, width)?,
            qkv: backend.tensor(rows, heads.qkv_cols())?,
            attended: backend.tensor(rows, heads.query_cols())?,
            attended_q: backend.quantized(rows, heads.query_cols())?,
            gate_up: backend.tensor(rows, 2 * ffn_width)?,
            product: backend.tensor(rows, ffn_width)?,
            product_q: backend.quantized(rows, ffn_width)?,
            selected: backend.tensor(selected, width)?,
            logits: backend.tensor(selected, config.vocabulary)?,
            best: (0..=backend.steps_ahead()).map(|_| backend.tokens(selected)).collect::<Result<_>>()?,
            top: backend.tokens(selected * MOST_CANDIDATES)?,
            top_logits: backend.tensor(selected, MOST_CANDIDATES)?,
        })
    }
}

fn gain<B: Backend>(backend: &mut B, model: &Model, role: Role) -> Result<B::Tensor> {
    let missing = || Error::Model(format!("the tensor \"{}\" is missing", role.gguf_name()));
    backend.parameter(&model.gain(role)?.ok_or_else(missing)?)
}

/// The embedding or the head.
fn dense(model: &Model, role: Role) -> Result<Weights> {
    match model.required(role)? {
        weights @ Weights::Dense(_) => Ok(weights),
        Weights::Ternary(_) => Err(Error::Unsupported(format!("a ternary \"{}\"", role.gguf_name()))),
    }
}
