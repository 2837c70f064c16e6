//! What one session's steps change: activations, caches, and what the head told last.

use std::ops::Range;
use std::task::{Context, Poll, ready};

use crate::backend::{Backend, CachePrecision, MOST_CANDIDATES, Rope};
use crate::error::Result;
use crate::model::{Config, Hadamard};
use crate::transformer::Transformer;
#[cfg(doc)]
use crate::transformer::Wanted;
use crate::transformer::bases::Bases;
use crate::transformer::delta_net::DeltaActivations;
use crate::transformer::experts::ExpertActivations;
use crate::transformer::layer::Memory;
use crate::transformer::projections::Apart;

/// The state of one session: all that a step writes.
pub struct State<B: Backend> {
    pub(super) rope: Rope,               // of layers that see all positions
    pub(super) memories: Vec<Memory<B>>, // [layers]
    pub(super) activations: Activations<B>,
    slots: usize,                         // sequences held at once
    pub(super) latest: usize,             // the place in `activations.best` of the step that told last
    pub(super) with_logits: Range<usize>, // the selected rows whose logits `activations.logits` holds
}

/// A state of a recurrent layer that is kept of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptState {
    /// After the last position that was computed.
    Latest,
    /// The one that was [kept](State::keep_snapshot).
    Snapshot,
}

/// Every intermediate value of a step, allocated once. `rows` and `selected` are the largest of any step.
pub(super) struct Activations<B: Backend> {
    pub(super) tokens: B::Tokens,                     // [rows]
    pub(super) rotations: B::Tensor,                  // [rows, 2 * rope pairs]
    pub(super) window_rotations: Option<B::Tensor>,   // the same, of layers that see only the latest positions
    pub(super) latent: Option<B::Tensor>,             // [rows, width], embeddings in a rotated basis
    pub(super) hidden: B::Tensor,                     // [rows, width], the residual stream
    pub(super) normed: B::Quantized,                  // [rows, width]
    pub(super) qkv: B::Tensor,                        // [rows, heads.qkv_cols()]
    pub(super) attended: B::Tensor,                   // [rows, heads.query_cols()]
    pub(super) attended_q: B::Quantized,              // [rows, heads.query_cols()]
    pub(super) attention_gates: Option<B::Tensor>, // [rows, heads.query_cols()], where outputs of attention have some
    pub(super) delta: Option<DeltaActivations<B>>, // of recurrent layers
    pub(super) experts: Option<ExpertActivations<B>>, // of layers that have some
    pub(super) gate_up: B::Tensor,                 // [rows, 2 * ffn_width]
    pub(super) product: B::Tensor,                 // [rows, ffn_width]
    pub(super) product_q: B::Quantized,            // [rows, ffn_width]
    pub(super) apart: Option<Apart<B>>,            // of projections with norms of their own
    pub(super) branch: Option<B::Tensor>,          // [rows, width], where it is normed before it is added
    pub(super) selected: B::Tensor,                // [selected, width]
    pub(super) turned: Option<B::Tensor>,          // [selected, width], for a head in a rotated basis
    pub(super) logits: B::Tensor,                  // [selected, vocabulary]
    pub(super) best: Vec<B::Tokens>,               // [selected] each, of the latest steps by turns
    pub(super) top: B::Tokens,                     // [selected * MOST_CANDIDATES]
    pub(super) top_logits: B::Tensor,              // [selected, MOST_CANDIDATES]
    pub(super) factors: B::Tensor,                 // [selected, 1], inverse temperatures
    pub(super) totals: B::Tensor,                  // [selected, 2]
}

/// The largest step and the longest sequences that room is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of one step.
    pub rows: usize,
    /// Rows of one run of the head.
    pub selected: usize,
    /// Sequences held at once.
    pub sequences: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// The number format of the caches.
    pub cache: CachePrecision,
}

impl Capacity {
    /// About what the activations of one row of a step take, in bytes.
    pub(crate) fn row_bytes(config: &Config) -> u64 {
        let Config { width, ffn_width, heads, .. } = config;
        // As in `Activations`, with inputs of products in f32.
        let cols = [3 * width, heads.qkv_cols(), 2 * heads.query_cols(), 4 * ffn_width, 4 * heads.head_dim];
        let gates = if config.attention_gate { heads.query_cols() } else { 0 };
        let delta =
            config.delta_net.as_ref().map_or(0, |net| *width + 2 * net.heads.qkv_cols() + 4 * net.heads.value_cols());
        let experts = config.mixture.as_ref().map_or(0, |mixture| {
            let places = mixture.shape.used * (4 * mixture.ffn_width + 2 * width);
            places + width + mixture.shape.count
        });
        cols.into_iter().chain([gates, delta, experts]).map(|cols| 4 * cols as u64).sum::<u64>().max(1)
    }
}

impl<B: Backend> State<B> {
    /// Makes room on the device.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device has too little memory.
    pub fn new(b: &mut B, transformer: &Transformer<B>, capacity: Capacity) -> Result<Self> {
        let Transformer { config, layers, .. } = transformer;
        let head = transformer.head.as_ref().unwrap_or(&transformer.embedding);
        b.head_room(head, capacity.selected, config.numerics)?;
        let rope = config.rope_for(capacity.positions);
        let around = transformer.around();
        let memories = layers.iter().map(|layer| layer.memory(b, around, capacity)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            activations: Activations::new(b, config, &transformer.bases, &rope, capacity)?,
            rope,
            memories,
            slots: capacity.sequences,
            latest: 0,
            with_logits: 0..0,
        })
    }

    /// The inverse temperature of each row that wants logits, for [`Wanted::Totals`] of the step that comes next.
    pub fn write_factors(&mut self, b: &mut B, factors: &[f32]) {
        b.write_tensor(&mut self.activations.factors, factors);
    }

    /// The most likely next token of each row that wanted logits in a step of which [`Wanted::Best`] was wanted: the last such
    /// step, or one up to [`Backend::steps_ahead`] of them `before`. `ids: [selected]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn read_best(&self, b: &mut B, before: usize, ids: &mut [u32]) -> Result<()> {
        let best = &self.activations.best;
        assert!(before < best.len());
        b.read_tokens(&best[(self.latest + best.len() - before) % best.len()], ids)
    }

    /// Whether [`State::read_best`] would not have to block: see [`Backend::poll_tokens`].
    pub fn poll_best(&self, b: &mut B, before: usize, count: usize, context: &mut Context<'_>) -> Poll<()> {
        let best = &self.activations.best;
        b.poll_tokens(&best[(self.latest + best.len() - before) % best.len()], count, context)
    }

    /// Whether [`State::read_candidates`] of so many rows, and with `totals` [`State::read_totals`], would not have to block.
    pub fn poll_candidates(&self, b: &mut B, rows: usize, totals: bool, context: &mut Context<'_>) -> Poll<()> {
        let Activations { top, top_logits, totals: sums, .. } = &self.activations;
        ready!(b.poll_tokens(top, rows * MOST_CANDIDATES, context));
        ready!(b.poll_rows(top_logits, 0, rows * MOST_CANDIDATES, context));
        if totals { b.poll_rows(sums, 0, 2 * rows, context) } else { Poll::Ready(()) }
    }

    /// Whether [`State::read_logits`] would not have to block.
    pub fn poll_logits(
        &self,
        b: &mut B,
        selected: Range<usize>,
        vocabulary: usize,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let first = selected.start - self.with_logits.start;
        b.poll_rows(&self.activations.logits, first, selected.len() * vocabulary, context)
    }

    /// The candidates of each selected row, if [`Wanted::Candidates`] or [`Wanted::Totals`] was wanted, best first: `ids` and
    /// `logits` are `[selected, MOST_CANDIDATES]`, of which the first of each row are filled.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn read_candidates(&self, b: &mut B, ids: &mut [u32], logits: &mut [f32]) -> Result<()> {
        b.read_tokens(&self.activations.top, ids)?;
        b.read_tensor(&self.activations.top_logits, logits)
    }

    /// The totals of each selected row, if [`Wanted::Totals`] was wanted: `totals: [selected, 2]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn read_totals(&self, b: &mut B, totals: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.totals, totals)
    }

    /// Whether the logits of these selected rows are there to be read.
    pub fn has_logits(&self, selected: &Range<usize>) -> bool {
        self.with_logits.start <= selected.start && selected.end <= self.with_logits.end
    }

    /// The logits of selected rows that [`State::has_logits`]: `logits: [selected.len(), vocabulary]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn read_logits(&self, b: &mut B, selected: Range<usize>, logits: &mut [f32]) -> Result<()> {
        assert!(self.has_logits(&selected), "{:?} has no logits of {selected:?}", self.with_logits);
        b.read_rows(&self.activations.logits, selected.start - self.with_logits.start, logits)
    }

    /// The features of the rows that were selected last, after the last norm: `features: [selected, width]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn read_features(&self, b: &mut B, features: &mut [f32]) -> Result<()> {
        b.read_tensor(&self.activations.selected, features)
    }

    /// The first positions of one slot become those of another, or of itself, in all layers; recurrent ones get the state that is named,
    /// which must be that after these positions.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn copy_prefix(&mut self, b: &mut B, from: u32, to: u32, positions: usize, state: KeptState) -> Result<()> {
        let slots = self.slots as u32;
        self.memories.iter_mut().try_for_each(|memory| match (memory, state) {
            (Memory::Cache(_), _) if from == to => Ok(()),
            (Memory::Cache(cache), _) => b.copy_prefix(cache, from, to, positions),
            (Memory::Recurrent(states), KeptState::Latest) => b.copy_recurrent(states, from, to),
            (Memory::Recurrent(states), KeptState::Snapshot) => b.copy_recurrent(states, slots + from, to),
        })
    }

    /// Keeps the states of recurrent layers of a slot as its snapshot.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    pub fn keep_snapshot(&mut self, b: &mut B, slot: u32) -> Result<()> {
        let slots = self.slots as u32;
        self.memories.iter_mut().try_for_each(|memory| match memory {
            Memory::Cache(_) => Ok(()),
            Memory::Recurrent(states) => b.copy_recurrent(states, slot, slots + slot),
        })
    }

    /// What each layer keeps, `[layers]`.
    pub fn memories(&self) -> &[Memory<B>] {
        &self.memories
    }

    /// Bytes of memory that the caches and states of all layers were given.
    pub fn cache_bytes(&self, b: &B) -> u64 {
        let bytes = |memory: &Memory<B>| match memory {
            Memory::Cache(cache) => b.cache_bytes(cache),
            Memory::Recurrent(state) => b.recurrent_bytes(state),
        };
        self.memories.iter().map(bytes).sum()
    }
}

impl<B: Backend> Activations<B> {
    fn new(backend: &mut B, config: &Config, bases: &Bases<B>, rope: &Rope, capacity: Capacity) -> Result<Self> {
        let Config { width, ffn_width, heads, numerics, .. } = *config;
        let Capacity { rows, selected, .. } = capacity;
        let is_rotated = |table: fn(&Hadamard) -> bool| config.hadamard.as_ref().is_some_and(table);
        Ok(Self {
            tokens: backend.tokens(rows)?,
            rotations: backend.tensor(rows, 2 * rope.frequencies.len())?,
            window_rotations: match &config.windows {
                Some(windows) => Some(backend.tensor(rows, 2 * windows.rope.frequencies.len())?),
                None => None,
            },
            latent: if is_rotated(|hadamard| hadamard.embedding) { Some(backend.tensor(rows, width)?) } else { None },
            hidden: backend.tensor(rows, width)?,
            normed: bases.quantized(backend, rows, width, numerics)?,
            qkv: backend.tensor(rows, heads.qkv_cols())?,
            attended: backend.tensor(rows, heads.query_cols())?,
            attended_q: bases.quantized(backend, rows, heads.query_cols(), numerics)?,
            attention_gates: match config.attention_gate {
                true => Some(backend.tensor(rows, heads.query_cols())?),
                false => None,
            },
            delta: match &config.delta_net {
                Some(shape) => Some(DeltaActivations::new(backend, config, shape, bases, rows)?),
                None => None,
            },
            experts: match &config.mixture {
                Some(mixture) => Some(ExpertActivations::new(backend, config, mixture, rows)?),
                None => None,
            },
            gate_up: backend.tensor(rows, 2 * ffn_width)?,
            product: backend.tensor(rows, ffn_width)?,
            product_q: bases.quantized(backend, rows, ffn_width, numerics)?,
            apart: if config.input_norms { Some(Apart::new(backend, config, rows)?) } else { None },
            branch: if config.post_norms { Some(backend.tensor(rows, width)?) } else { None },
            selected: backend.tensor(selected, width)?,
            turned: if is_rotated(|hadamard| hadamard.head) { Some(backend.tensor(selected, width)?) } else { None },
            logits: backend.tensor(selected, config.vocabulary)?,
            best: (0..=backend.steps_ahead()).map(|_| backend.tokens(selected)).collect::<Result<_>>()?,
            top: backend.tokens(selected * MOST_CANDIDATES)?,
            top_logits: backend.tensor(selected, MOST_CANDIDATES)?,
            factors: backend.tensor(selected, 1)?,
            totals: backend.tensor(selected, 2)?,
        })
    }
}
