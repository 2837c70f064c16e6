//! The seam between the forward pass and the machine: about twenty verbs that a device implements.
//!
//! A backend owns its layout, its fusion and its scheduling. The CPU runs a verb when it is called; a GPU records it.
//! Verbs are destination first, then weights, then input. A step is described once, by [`Backend::begin`]: the verbs
//! work on that many rows of their tensors, which were allocated once for the largest step.
//!
//! Loading may fail and returns [`Result`]. A verb that gets a wrong shape has met a bug of this crate and panics: there
//! is no `?` in a forward pass. [`crate::reference`] implements the verbs in plain loops and is their definition.

use crate::error::Result;
use crate::format::Weights;
use crate::measure::Work;

/// One row of a step: one token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The cache slot of the row's sequence.
    pub sequence: u32,
    /// The token's place in its sequence, from 0. All earlier places are in the cache or in earlier rows of the step.
    pub position: u32,
    /// Whether the logits after this token are wanted.
    pub wants_logits: bool,
}

/// How the heads of one attention layer are cut from a row of `qkv`: `[heads | kv_heads | kv_heads] * head_dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`. Query head `h` reads key/value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features in a head; even.
    pub head_dim: usize,
}

impl Heads {
    /// Features of all query heads together.
    pub fn query_cols(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of all key heads (or all value heads) together.
    pub fn kv_cols(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Columns of a stacked query, key and value row.
    pub fn qkv_cols(&self) -> usize {
        self.query_cols() + 2 * self.kv_cols()
    }
}

/// Which two features of a head a rotation turns together (rotary position embedding, arXiv 2104.09864).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// `(i, i + dims/2)`: NeoX order; Hugging Face checkpoints and the `bitnet` architectures.
    Half,
    /// `(2i, 2i+1)`: GGUF files of architecture `llama`, whose query and key rows were permuted for it.
    Interleaved,
}

/// Rotary position embedding: the angle of pair `i` at position `p` is `p * frequencies[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which features form a pair.
    pub pairs: RopePairs,
    /// Radians a position, one for each pair: `theta^(-2i / dims)`, with any scaling already applied. At most
    /// `head_dim / 2`; features beyond the last pair are not turned.
    pub frequencies: Vec<f64>,
}

impl Rope {
    /// The frequencies `theta^(-2i / dims) / stretch` for the first `dims` features of a head; `dims` is even.
    pub fn new(pairs: RopePairs, theta: f64, dims: usize, stretch: f64) -> Self {
        let frequencies = (0..dims / 2).map(|i| theta.powf(-2.0 * i as f64 / dims as f64) / stretch).collect();
        Self { pairs, frequencies }
    }
}

/// The gate of a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `max(x, 0)²`: BitNet b1.58 2B-4T.
    SquaredRelu,
    /// `x / (1 + e^-x)`: the older BitNet models and the llama family.
    Silu,
}

/// The number format of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CachePrecision {
    /// IEEE half precision: half the memory and traffic.
    #[default]
    F16,
    /// Single precision: for comparing with a float reference.
    F32,
}

/// What one layer's cache must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Sequences that can be held at once.
    pub slots: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Features in a head.
    pub head_dim: usize,
    /// The number format of the entries.
    pub precision: CachePrecision,
}

impl CacheShape {
    /// Bytes of the keys and values together; `None` where that overflows.
    pub fn bytes(&self) -> Option<usize> {
        let entry = match self.precision {
            CachePrecision::F16 => 2,
            CachePrecision::F32 => 4,
        };
        [self.slots, self.positions, self.kv_heads, self.head_dim, 2, entry]
            .into_iter()
            .try_fold(1usize, |product, factor| product.checked_mul(factor))
    }
}

/// The norm before a product (RMSNorm, arXiv 1910.07467): `x * rsqrt(mean(x²) + epsilon) * gain`.
pub struct Norm<'a, B: Backend + ?Sized> {
    /// One factor a column, `[1, cols]`.
    pub gain: &'a B::Tensor,
    /// Added to the mean of the squares.
    pub epsilon: f32,
}

impl<B: Backend + ?Sized> Clone for Norm<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend + ?Sized> Copy for Norm<'_, B> {}

/// A machine that can run the forward pass. `rows` below is the number of rows of the current step, `selected` the
/// number of those that want logits.
pub trait Backend: Send {
    /// f32 `[max_rows, cols]`.
    type Tensor: Send;
    /// int8 `[max_rows, cols]`, with the multiplier 127 / max|x| of each row.
    type Quantized: Send;
    /// Weights `[out, in]` in this device's own layout.
    type Matrix: Send;
    /// Keys and values of one layer, for every slot.
    type Cache: Send;
    /// Token ids `[max_rows]`, on the device.
    type Tokens: Send;

    // Loading.

    /// An f32 tensor `[max_rows, cols]`, its contents unspecified.
    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Self::Tensor>;
    /// A constant vector as a tensor `[1, values.len()]`: the gain of a norm.
    fn parameter(&mut self, values: &[f32]) -> Result<Self::Tensor>;
    /// An int8 tensor `[max_rows, cols]`, its contents unspecified.
    fn quantized(&mut self, max_rows: usize, cols: usize) -> Result<Self::Quantized>;
    /// One matrix from parts stacked by rows (query, key and value; gate and up). All parts have the same columns.
    /// Parts that lie in the map of a file may be used in place.
    fn matrix(&mut self, parts: &[Weights]) -> Result<Self::Matrix>;
    /// Makes a matrix ready to be the head. Nothing need be done; a device may add what lets it choose tokens sooner.
    fn prepare_head(&mut self, _head: &mut Self::Matrix) -> Result<()> {
        Ok(())
    }
    /// An empty cache.
    fn cache(&mut self, shape: CacheShape) -> Result<Self::Cache>;
    /// Room for token ids.
    fn tokens(&mut self, max_rows: usize) -> Result<Self::Tokens>;

    // One step.

    /// Starts a step. All rows fit the tensors, slots and positions that were allocated.
    fn begin(&mut self, rows: &[Row]);
    /// `tokens[i] = chosen[i]` for the first `count`: what a step chose becomes the input of the next, on the device.
    fn copy_tokens(&mut self, tokens: &mut Self::Tokens, chosen: &Self::Tokens, count: usize);
    /// `out[row] = table[tokens[row]]`, as f32. `out: [rows, width]`, `table: [vocabulary, width]`.
    fn embed(&mut self, out: &mut Self::Tensor, table: &Self::Matrix, tokens: &Self::Tokens);
    /// RMSNorm, then int8: `x * rsqrt(mean(x²) + epsilon) * gain`, quantised as [`Backend::quantize`] does.
    fn norm_quantize(&mut self, out: &mut Self::Quantized, x: &Self::Tensor, gain: &Self::Tensor, epsilon: f32);
    /// int8 a row: `scale = 127 / max(max|x|, 1e-5)`, `out = clamp(round_half_even(x * scale), -128, 127)`
    /// (BitNet b1.58, arXiv 2402.17764).
    fn quantize(&mut self, out: &mut Self::Quantized, x: &Self::Tensor);
    /// `out = x wᵀ`: exact integer sums of trits and int8, times `weight scale / activation scale`. `w: [out, in]`
    /// ternary, `x: [rows, in]`, `out: [rows, out]`.
    fn matmul(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Quantized);
    /// `out += x wᵀ`, as [`Backend::matmul`].
    fn matmul_add(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Quantized);
    /// Cosines and sines of this step's positions: `out: [rows, 2 * pairs]`, the cosines first.
    fn rotations(&mut self, out: &mut Self::Tensor, rope: &Rope);
    /// Rotates the queries of `qkv` in place, and writes rotated keys and plain values to the cache at the rows'
    /// places. `qkv: [rows, heads.qkv_cols()]`, `rotations` from [`Backend::rotations`].
    fn rope_append(
        &mut self,
        qkv: &mut Self::Tensor,
        cache: &mut Self::Cache,
        rotations: &Self::Tensor,
        heads: Heads,
        pairs: RopePairs,
    );
    /// Causal attention of each row over its sequence's cache up to its own position:
    /// `softmax(q · k / √head_dim) · v`. `out: [rows, heads.query_cols()]`.
    fn attend(&mut self, out: &mut Self::Tensor, qkv: &Self::Tensor, cache: &Self::Cache, heads: Heads);
    /// `out = activation(gate) * up`. `gate_up: [rows, 2 * cols]`, the gate first; `out: [rows, cols]`.
    fn glu(&mut self, out: &mut Self::Tensor, gate_up: &Self::Tensor, activation: Activation);
    /// RMSNorm in f32 of the rows that want logits, packed together: `out: [selected, width]`.
    fn norm_selected(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, gain: &Self::Tensor, epsilon: f32);
    /// `out = x headᵀ` in f32. `x: [selected, width]`, `head: [vocabulary, width]`, `out: [selected, vocabulary]`.
    fn logits(&mut self, out: &mut Self::Tensor, head: &Self::Matrix, x: &Self::Tensor);
    /// The place of the largest logit of each row, the first of equals. NaN is passed over; where no logit is above −∞, the
    /// token is [`NO_TOKEN`]. `tokens: [selected]`.
    fn argmax(&mut self, tokens: &mut Self::Tokens, logits: &Self::Tensor);
    /// The `count` largest logits of each row and their tokens, best first, of equals the smaller token first. NaN and −∞
    /// are passed over; places that stay empty hold token 0 and −∞. `values: [selected, most]` and
    /// `tokens: [selected * most]`, of which the first `count` of each row are written.
    fn top(&mut self, tokens: &mut Self::Tokens, values: &mut Self::Tensor, count: usize, logits: &Self::Tensor);
    /// The most likely token of each row: [`Backend::logits`], then [`Backend::argmax`]. `logits` is left unspecified: a
    /// device that can tell the largest logit without computing all of them need not.
    fn best(&mut self, tokens: &mut Self::Tokens, logits: &mut Self::Tensor, head: &Self::Matrix, x: &Self::Tensor) {
        self.logits(logits, head, x);
        self.argmax(tokens, logits);
    }
    /// The `count` most likely tokens of each row and their logits: [`Backend::logits`], then [`Backend::top`]. `logits`
    /// is left unspecified, as by [`Backend::best`].
    fn candidates(
        &mut self,
        tokens: &mut Self::Tokens,
        values: &mut Self::Tensor,
        count: usize,
        logits: &mut Self::Tensor,
        head: &Self::Matrix,
        x: &Self::Tensor,
    ) {
        self.logits(logits, head, x);
        self.top(tokens, values, count, logits);
    }

    // Bigger verbs, whose definition is in the verbs above. A device overrides them where one run does it all.

    /// [`Backend::norm_quantize`], then [`Backend::matmul`]. `normed` is left unspecified.
    fn norm_matmul(
        &mut self,
        out: &mut Self::Tensor,
        normed: &mut Self::Quantized,
        w: &Self::Matrix,
        x: &Self::Tensor,
        norm: Norm<'_, Self>,
    ) {
        self.norm_quantize(normed, x, norm.gain, norm.epsilon);
        self.matmul(out, w, normed);
    }
    /// [`Backend::norm_quantize`] (or [`Backend::quantize`] without a norm), then [`Backend::matmul_add`]. `normed` is left
    /// unspecified.
    fn norm_matmul_add(
        &mut self,
        out: &mut Self::Tensor,
        normed: &mut Self::Quantized,
        w: &Self::Matrix,
        x: &Self::Tensor,
        norm: Option<Norm<'_, Self>>,
    ) {
        match norm {
            Some(norm) => self.norm_quantize(normed, x, norm.gain, norm.epsilon),
            None => self.quantize(normed, x),
        }
        self.matmul_add(out, w, normed);
    }
    /// [`Backend::norm_matmul`] to gates and ups, then [`Backend::glu`]. `gate_up` and `normed` are left unspecified.
    #[expect(clippy::too_many_arguments, reason = "what the three verbs take")]
    fn norm_matmul_glu(
        &mut self,
        out: &mut Self::Tensor,
        gate_up: &mut Self::Tensor,
        normed: &mut Self::Quantized,
        w: &Self::Matrix,
        x: &Self::Tensor,
        norm: Norm<'_, Self>,
        activation: Activation,
    ) {
        self.norm_matmul(gate_up, normed, w, x, norm);
        self.glu(out, gate_up, activation);
    }
    /// [`Backend::rope_append`], then [`Backend::attend`]. `qkv` is left unspecified.
    fn rope_attend(
        &mut self,
        out: &mut Self::Tensor,
        qkv: &mut Self::Tensor,
        cache: &mut Self::Cache,
        rotations: &Self::Tensor,
        heads: Heads,
        pairs: RopePairs,
    ) {
        self.rope_append(qkv, cache, rotations, heads, pairs);
        self.attend(out, qkv, cache, heads);
    }

    /// Ends the step: everything recorded is on its way.
    fn end(&mut self);

    // For reports.

    /// What was done since the backend was made. Empty where nothing is counted.
    fn work(&self) -> Work {
        Work::default()
    }
    /// Bytes of memory that a cache was given.
    fn cache_bytes(&self, cache: &Self::Cache) -> u64;
    /// Bytes of memory of its own that the device has given to this backend so far; none where it shares that of the process.
    fn device_bytes(&self) -> Option<u64> {
        None
    }

    // Between host and device. Only the `read_…` calls wait.

    /// Rows of a step that keep the device busy: how long prompts are cut.
    fn rows_at_once(&self) -> usize {
        128
    }
    /// How many steps of greedy decoding are worth starting before the first of them is read. None where verbs run when they
    /// are called; where they are recorded, enough to keep the device busy meanwhile.
    fn steps_ahead(&self) -> usize {
        0
    }
    /// Whether steps should be tried once after loading: so that what a device does at the first of a kind, such as compiling
    /// shaders, is done then, and what fails, fails then.
    fn wants_rehearsal(&self) -> bool {
        false
    }

    /// `tokens[i] = ids[i]`.
    fn write_tokens(&mut self, tokens: &mut Self::Tokens, ids: &[u32]);
    /// The first `ids.len()` tokens.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_tokens(&mut self, tokens: &Self::Tokens, ids: &mut [u32]) -> Result<()>;
    /// The first `values.len()` values of a tensor, row by row: logits for samplers, anything for tests.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_tensor(&mut self, tensor: &Self::Tensor, values: &mut [f32]) -> Result<()>;
    /// Overwrites the first values of a tensor.
    fn write_tensor(&mut self, tensor: &mut Self::Tensor, values: &[f32]);
    /// The first rows of a quantised tensor: `values: [n, cols]`, `scales: [n]` (the multipliers).
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_quantized(&mut self, q: &Self::Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()>;
    /// Overwrites the first rows of a quantised tensor, with any int8 (−128 too) and any multipliers.
    fn write_quantized(&mut self, q: &mut Self::Quantized, values: &[i8], scales: &[f32]);
}

/// The smallest `max|x|` that activations are scaled by, so that a row of zeros has a finite multiplier (1.27e7).
pub const SMALLEST_ABSMAX: f32 = 1e-5;

/// What [`Backend::argmax`] says of logits none of which is a number.
pub const NO_TOKEN: u32 = u32::MAX;
