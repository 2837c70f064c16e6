//! The verbs of recurrent layers: the gated delta net (arXiv 2412.06464) as Qwen3.5 has it. A layer keeps a state of fixed size for
//! each sequence where attention keeps keys and values of every position: it cannot be cut back to an earlier position.
//!
//! Of the rows of a step that belong to one sequence, each comes behind the one before it. A row at position 0 begins with an empty
//! state, whatever the slot held; any other row continues with what the row before it left.

use crate::backend::Storage;
use crate::error::Result;

/// How the heads of a gated delta net are cut from a row: `[key_heads | key_heads | value_heads] * head_dim`, queries first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Query heads, and as many key heads.
    pub key_heads: usize,
    /// Value heads; a multiple of `key_heads`. Value head `h` reads key head `h % key_heads`.
    pub value_heads: usize,
    /// Features in a head of either kind; a multiple of 4 and at most [`DeltaHeads::LARGEST`].
    pub head_dim: usize,
}

impl DeltaHeads {
    /// The most features in a head.
    pub const LARGEST: usize = 256;

    /// Features of all query heads together, or of all key heads.
    pub fn key_cols(&self) -> usize {
        self.key_heads * self.head_dim
    }

    /// Features of all value heads together.
    pub fn value_cols(&self) -> usize {
        self.value_heads * self.head_dim
    }

    /// Columns of a row of queries, keys and values: the channels of the convolution.
    pub fn qkv_cols(&self) -> usize {
        2 * self.key_cols() + self.value_cols()
    }
}

/// What the state of one layer must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentShape {
    /// Sequences that can be held at once.
    pub slots: usize,
    /// Rows that the convolution sees, its own the last of them; at least 2.
    pub taps: usize,
    /// How the heads are cut.
    pub heads: DeltaHeads,
}

impl RecurrentShape {
    /// Values of the earlier rows of one sequence that the convolution needs, `[taps - 1, heads.qkv_cols()]`.
    pub fn earlier(&self) -> usize {
        (self.taps - 1) * self.heads.qkv_cols()
    }

    /// Values of the memories of one sequence, `[value_heads, head_dim (of keys), head_dim (of values)]`.
    pub fn memories(&self) -> usize {
        self.heads.value_cols() * self.heads.head_dim
    }

    /// Bytes of all slots; `None` where that overflows.
    pub fn bytes(&self) -> Option<usize> {
        (self.earlier() + self.memories()).checked_mul(self.slots)?.checked_mul(4)
    }
}

/// Where each value head goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadOrder {
    /// Where it is: of each key head one in turn.
    Tiled,
    /// Beside the others of its key head: head `h` of so many key heads to `h % key_heads * (heads / key_heads) + h / key_heads`.
    Grouped {
        /// Heads of keys.
        key_heads: usize,
    },
}

impl HeadOrder {
    /// The place of head `head` of `heads`.
    pub(crate) fn place(self, head: usize, heads: usize) -> usize {
        match self {
            HeadOrder::Tiled => head,
            HeadOrder::Grouped { key_heads } => head % key_heads * (heads / key_heads) + head / key_heads,
        }
    }
}

/// The norm of each head by itself.
pub struct HeadGain<'a, B: Storage + ?Sized> {
    /// One factor a feature, `[1, head_dim]`.
    pub gain: &'a B::Tensor,
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

impl<B: Storage + ?Sized> Clone for HeadGain<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Storage + ?Sized> Copy for HeadGain<'_, B> {}

/// How fast the memories of a layer fade.
pub struct Decay<'a, B: Storage + ?Sized> {
    /// `−exp(A_log)` of each value head, `[1, value_heads]`.
    pub rate: &'a B::Tensor,
    /// Added to the time steps before the softplus, `[1, value_heads]`.
    pub bias: &'a B::Tensor,
}

impl<B: Storage + ?Sized> Clone for Decay<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Storage + ?Sized> Copy for Decay<'_, B> {}

/// The verbs of recurrent layers, on the rows of the current step.
pub trait Recurrence: Storage {
    /// The states of one layer, for every slot: in f32, which half precision is too coarse for.
    type Recurrent: Send + Sync;

    /// States of unspecified contents.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for them, [`crate::Error::Unsupported`] for heads that the device has no loops for.
    fn recurrent(&mut self, shape: RecurrentShape) -> Result<Self::Recurrent>;
    /// `out = x wᵀ` in f32, of dense weights and all rows. `w: [out, in]`, `x: [rows, in]`, `out: [rows, out]`.
    fn dense_matmul(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Tensor);
    /// The causal convolution of each channel by itself, then SiLU: `out = silu(Σ_j weights[j] · x[taps − 1 − j rows earlier])`; rows
    /// before the first of a sequence are 0. The last rows of `x` become the state. `x` and `out`: `[rows, channels]`,
    /// `weights: [taps, channels]`, for the channels `heads.qkv_cols()`.
    fn convolve(
        &mut self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        weights: &Self::Tensor,
        state: &mut Self::Recurrent,
    );
    /// The gated delta rule. Of each value head with its memory `S: [keys, values]`, its key and query brought to length 1
    /// (`x / √(Σx² + 1e-6)`), the query divided by `√head_dim`, and of `steps: [rows, 2 * value_heads]` its time step `a` and, behind
    /// those of all heads, `b`:
    ///
    /// `S ← exp(rate · softplus(a + bias)) S`, `u = sigmoid(b) (v − Sᵀk)`, `S ← S + k uᵀ`, `out = Sᵀq`.
    ///
    /// `qkv: [rows, heads.qkv_cols()]`, `out: [rows, heads.value_cols()]`.
    fn delta_rule(
        &mut self,
        out: &mut Self::Tensor,
        qkv: &Self::Tensor,
        steps: &Self::Tensor,
        decay: Decay<'_, Self>,
        state: &mut Self::Recurrent,
    );
    /// RMSNorm of each head by itself, times SiLU of its gates, at the place that `order` gives the head:
    /// `out = x * rsqrt(mean(x²) + epsilon) * gain * silu(gates)`. All `[rows, cols]`, a multiple of the columns of
    /// `gain: [1, head_dim]`.
    fn norm_gate(
        &mut self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        gates: &Self::Tensor,
        norm: HeadGain<'_, Self>,
        order: HeadOrder,
    );
    /// `x = x * sigmoid(gates)`; both `[rows, cols]`.
    fn gate(&mut self, x: &mut Self::Tensor, gates: &Self::Tensor);

    /// The state of slot `from` becomes that of slot `to`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn copy_recurrent(&mut self, state: &mut Self::Recurrent, from: u32, to: u32) -> Result<()>;
    /// The state of a slot: earlier rows `[taps - 1, heads.qkv_cols()]`, the oldest first, and memories
    /// `[value_heads, head_dim (of keys), head_dim (of values)]`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_recurrent(
        &mut self,
        state: &Self::Recurrent,
        slot: u32,
        earlier: &mut [f32],
        memories: &mut [f32],
    ) -> Result<()>;
    /// Bytes of memory that the states were given.
    fn recurrent_bytes(&self, state: &Self::Recurrent) -> u64;
}

/// Added to the squares of a query or a key that is brought to length 1.
pub(crate) const LENGTH_EPSILON: f32 = 1e-6;
