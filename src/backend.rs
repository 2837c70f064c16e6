//! The seam between the forward pass and the machine: about twenty verbs that a device implements.
//!
//! A backend owns its layout, its fusion and its scheduling. The CPU runs a verb when it is called; a GPU records it.
//! Verbs are destination first, then weights, then input. A step is described once, by [`Backend::begin`]: the verbs
//! work on that many rows of their tensors, which were allocated once for the largest step.
//!
//! Loading may fail and returns [`Result`]. A verb that gets a wrong shape has met a bug of this crate and panics: there
//! is no `?` in a forward pass. [`crate::reference`] implements the verbs in plain loops and is their definition.

mod experts;
mod operands;
mod recurrence;
mod rotation;
mod shapes;
mod work;

use std::ops::Range;
use std::task::{Context, Poll};

pub use experts::{ExpertShape, Experts};
pub use operands::{HeadNorm, Norm, Rotary};
pub(crate) use recurrence::LENGTH_EPSILON;
pub use recurrence::{Decay, DeltaHeads, HeadGain, HeadOrder, Recurrence, RecurrentShape};
pub use rotation::{MOST_BLOCK, Rotation};
pub(crate) use shapes::Misfit;
pub use shapes::{Activation, CachePrecision, CacheShape, HeadNormOrder, Heads, Numerics, Rope, RopePairs, Row};
pub use work::{GpuCounters, KernelCount, Reads, ShaderTime, Work};

use crate::error::{Error, Result};
use crate::format::Weights;
use crate::interrupt::Interrupt;

/// What a backend keeps numbers in.
pub trait Storage: Send {
    /// f32 `[max_rows, cols]`.
    type Tensor: Send + Sync;
    /// The input of linear layers `[max_rows, cols]`, as its [`Numerics`] say: int8 with the multiplier 127 / max|x| of each
    /// row or group, or f32.
    type Quantized: Send + Sync;
    /// Weights `[out, in]` in this device's own layout.
    type Matrix: Send + Sync;
}

/// A machine that can run the forward pass. The verbs that only some networks need are those of [`Recurrence`], [`Rotation`] and
/// [`Experts`]. `rows` below is the number of rows of the current step, `selected` the
/// number of those that want logits and were not left out by [`Backend::select`].
///
/// A value of this type belongs to one session: it holds what a step works with. What is loaded belongs to the device, and
/// every [`sibling`](Backend::sibling) may use it, from any thread.
pub trait Backend: Recurrence + Rotation + Experts {
    /// Keys and values of one layer, for every slot.
    type Cache: Send + Sync;
    /// Token ids `[max_rows]`, on the device.
    type Tokens: Send + Sync;

    /// Another backend on the same device, for another session: what this one loaded serves both, what it works with does not.
    fn sibling(&self) -> Self
    where
        Self: Sized;

    // Loading.

    /// An f32 tensor `[max_rows, cols]`, its contents unspecified.
    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Self::Tensor>;
    /// A constant vector as a tensor `[1, values.len()]`: the gain of a norm.
    fn parameter(&mut self, values: &[f32]) -> Result<Self::Tensor>;
    /// An input of linear layers `[max_rows, cols]`, its contents unspecified.
    fn quantized(&mut self, max_rows: usize, cols: usize, numerics: Numerics) -> Result<Self::Quantized>;
    /// One matrix from parts stacked by rows (query, key and value; gate and up). All parts have the same columns.
    /// Parts that lie in the map of a file may be used in place.
    fn matrix(&mut self, parts: &[Weights]) -> Result<Self::Matrix>;
    /// Whether making a matrix reads all of its bytes, as far as is known before, so that they may as well be looked at. Where they
    /// stay in the map of a file, most of it was not read yet.
    fn reads_weights(&self) -> bool {
        false
    }
    /// Makes a matrix ready to be a head: a ternary one takes its inputs as `numerics` says. A device may add what lets it
    /// choose tokens sooner.
    fn prepare_head(&mut self, head: &mut Self::Matrix, numerics: Numerics) -> Result<()>;
    /// Makes room in this backend to compute at most `selected` rows with a head that was prepared, by it or by a sibling.
    fn head_room(&mut self, head: &Self::Matrix, selected: usize, numerics: Numerics) -> Result<()>;
    /// An empty cache.
    fn cache(&mut self, shape: CacheShape) -> Result<Self::Cache>;
    /// Makes room in this backend to attend to a cache with so many query heads, for steps of any size.
    fn attend_room(&mut self, cache: &Self::Cache, heads: Heads) -> Result<()> {
        let _ = (cache, heads);
        Ok(())
    }
    /// Room for token ids.
    fn tokens(&mut self, max_rows: usize) -> Result<Self::Tokens>;

    // One step.

    /// Starts a step. All rows fit the tensors, slots and positions that were allocated.
    fn begin(&mut self, rows: &[Row]);
    /// Of the rows that want logits, in their order, leaves only these to the verbs that work on `selected` rows; until the next
    /// [`Backend::select`] or [`Backend::begin`].
    fn select(&mut self, selected: Range<usize>);
    /// `tokens[i] = chosen[i]` for the first `count`: what a step chose becomes the input of the next, on the device.
    fn copy_tokens(&mut self, tokens: &mut Self::Tokens, chosen: &Self::Tokens, count: usize);
    /// `out[row] = table[tokens[row]]`, as f32. `out: [rows, width]`, `table: [vocabulary, width]`.
    fn embed(&mut self, out: &mut Self::Tensor, table: &Self::Matrix, tokens: &Self::Tokens);
    /// RMSNorm in f32 of every row: `out = x * rsqrt(mean(x²) + epsilon) * gain`.
    fn norm(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, norm: Norm<'_, Self>);
    /// `out +=` [`Backend::norm`] of `x`.
    fn norm_add(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, norm: Norm<'_, Self>);
    /// Copies `x: [rows, cols]` to the columns of `out` from `first_col` on.
    fn place(&mut self, out: &mut Self::Tensor, first_col: usize, x: &Self::Tensor);
    /// [`Backend::norm`], quantised as [`Backend::quantize`] does.
    fn norm_quantize(&mut self, out: &mut Self::Quantized, x: &Self::Tensor, gain: &Self::Tensor, epsilon: f32);
    /// int8 for each row, or for each 128 columns of it, as `out` was made: `scale = 127 / max(max|x|, 1e-5)`,
    /// `out = clamp(round_half_even(x * scale), -128, 127)` (BitNet b1.58, arXiv 2402.17764). Or f32, which is a copy. Values that
    /// are not finite have no int8: where one is among those of a scale, the scale is NaN, and so is what is made of them.
    fn quantize(&mut self, out: &mut Self::Quantized, x: &Self::Tensor);
    /// `out = x wᵀ`: exact integer sums of trits and int8 over the columns that share their scales, times
    /// `weight scale / activation scale`. `w: [out, in]` ternary, `x: [rows, in]`, `out: [rows, out]`.
    fn matmul(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Quantized);
    /// `out += x wᵀ`, as [`Backend::matmul`].
    fn matmul_add(&mut self, out: &mut Self::Tensor, w: &Self::Matrix, x: &Self::Quantized);
    /// Cosines and sines of this step's positions, times the magnitude: `out: [rows, 2 * pairs]`, the cosines first.
    fn rotations(&mut self, out: &mut Self::Tensor, rope: &Rope);
    /// Norms and rotates the queries of `qkv` in place, and writes normed and rotated keys and plain values to the cache at
    /// the rows' places. `qkv: [rows, heads.qkv_cols()]`. A head that has no place in the cache's number format, because a feature
    /// is too large for it or all are too small to keep 8 bits, is held as NaN: what attends to it is no number.
    fn rope_append(&mut self, qkv: &mut Self::Tensor, cache: &mut Self::Cache, rotary: Rotary<'_, Self>, heads: Heads);
    /// Causal attention of each row over its sequence's cache up to its own position, and no further back than the cache's
    /// window: `softmax(q · k / √head_dim) · v`; NaN where a score is not finite. `out: [rows, heads.query_cols()]`.
    fn attend(&mut self, out: &mut Self::Tensor, qkv: &Self::Tensor, cache: &Self::Cache, heads: Heads);
    /// `out = activation(gate) * up`. `gate_up: [rows, 2 * cols]`, the gate first; `out: [rows, cols]`.
    fn glu(&mut self, out: &mut Self::Tensor, gate_up: &Self::Tensor, activation: Activation);
    /// RMSNorm in f32 of the rows that want logits, packed together: `out: [selected, width]`.
    fn norm_selected(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, gain: &Self::Tensor, epsilon: f32);
    /// `out = x headᵀ`: in f32 with a dense head, as [`Backend::quantize`] and [`Backend::matmul`] with a ternary one.
    /// `x: [selected, width]`, `head: [vocabulary, width]`, `out: [selected, vocabulary]`.
    fn logits(&mut self, out: &mut Self::Tensor, head: &Self::Matrix, x: &Self::Tensor);
    /// The place of the largest logit of each row, the first of equals; [`NO_TOKEN`] where a logit is not finite.
    /// `tokens: [selected]`.
    fn argmax(&mut self, tokens: &mut Self::Tokens, logits: &Self::Tensor);
    /// The `count` largest logits of each row and their tokens, best first, of equals the smaller token first. Places that stay
    /// empty hold token 0 and −∞; where a logit is not finite, all hold [`NO_TOKEN`] and NaN. `values: [selected, most]`
    /// and `tokens: [selected * most]`, of which the first `count` of each row are written.
    fn top(&mut self, tokens: &mut Self::Tokens, values: &mut Self::Tensor, count: usize, logits: &Self::Tensor);
    /// What the odds of all tokens add up to: `out[row] = [Σ exp(l − m), Σ exp((l − m) · factor)]` over the row's logits `l`, the
    /// largest of which is `m`; NaN where a logit is not finite. (The logarithm of the first, plus `m`, is the log-sum-exp.)
    /// `out: [selected, 2]`, `factors: [selected, 1]`, inverse temperatures.
    fn totals(&mut self, out: &mut Self::Tensor, logits: &Self::Tensor, factors: &Self::Tensor);
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
        rotary: Rotary<'_, Self>,
        heads: Heads,
    ) {
        self.rope_append(qkv, cache, rotary, heads);
        self.attend(out, qkv, cache, heads);
    }

    /// Ends the step: everything recorded is on its way.
    fn end(&mut self);

    /// From now on, with an interrupt, verbs may leave undone what they should do once that is set, and reading gives
    /// [`Error::Interrupted`]: whoever asked for it throws away what was computed meanwhile. Without one,
    /// they no longer may.
    fn heed(&mut self, interrupt: Option<&Interrupt>) {
        let _ = interrupt;
    }

    /// Waits until all that was recorded is done.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    // Where nothing may block, which is in a browser, these tell when the calls that wait would not. Elsewhere those wait, and these
    // are ready at any time. A device that failed is ready: the call tells how.

    /// Whether all that was recorded is done.
    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let _ = context;
        Poll::Ready(())
    }
    /// Whether the first `count` tokens can be read: [`Backend::read_tokens`].
    fn poll_tokens(&mut self, tokens: &Self::Tokens, count: usize, context: &mut Context<'_>) -> Poll<()> {
        let _ = (tokens, count, context);
        Poll::Ready(())
    }
    /// Whether `count` values of a tensor can be read: [`Backend::read_rows`].
    fn poll_rows(
        &mut self,
        tensor: &Self::Tensor,
        first_row: usize,
        count: usize,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let _ = (tensor, first_row, count, context);
        Poll::Ready(())
    }

    // Between steps.

    /// The first `positions` of one head of one slot of a cache, keys and values: `[positions, head_dim]` each.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_cache(
        &mut self,
        cache: &Self::Cache,
        place: CachePlace,
        keys: &mut [f32],
        values: &mut [f32],
    ) -> Result<()>;
    /// Overwrites what [`Backend::read_cache`] reads. What it read is written back as it was, bit for bit.
    fn write_cache(&mut self, cache: &mut Self::Cache, place: CachePlace, keys: &[f32], values: &[f32]);
    /// Copies the first `positions` of slot `from` over those of slot `to`: what several sequences begin with is computed once.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn copy_prefix(&mut self, cache: &mut Self::Cache, from: u32, to: u32, positions: usize) -> Result<()> {
        let CacheShape { kv_heads, head_dim, .. } = self.cache_shape(cache);
        let (mut keys, mut values) = (vec![0.0; positions * head_dim], vec![0.0; positions * head_dim]);
        for kv_head in 0..kv_heads {
            let place = |slot| CachePlace { slot, kv_head, positions };
            self.read_cache(cache, place(from), &mut keys, &mut values)?;
            self.write_cache(cache, place(to), &keys, &values);
        }
        Ok(())
    }

    // For reports.

    /// The device, and in which of its ways it is used, for people: "cpu, avx2, 2 threads".
    fn describe(&self) -> String {
        std::any::type_name::<Self>().into()
    }

    /// What was done since the backend was made. Empty where nothing is counted.
    fn work(&self) -> Work {
        Work::default()
    }
    /// What a cache was made for.
    fn cache_shape(&self, cache: &Self::Cache) -> CacheShape;
    /// Bytes of memory that a cache was given.
    fn cache_bytes(&self, cache: &Self::Cache) -> u64;
    /// Bytes that a matrix takes, and what was added to it as a head: in memory of its own, or in the map of its file.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> u64;
    /// Bytes of memory of its own that the device has given to this backend so far; none where it shares that of the process.
    fn device_bytes(&self) -> Option<u64> {
        None
    }
    /// What a GPU did since the backend was made; none elsewhere.
    fn gpu_counters(&self) -> Option<GpuCounters> {
        None
    }
    /// Times every shader from now on, which slows each step down.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where no shaders run, or their device has no clock.
    fn profile(&mut self) -> Result<()> {
        Err(Error::refused(format!("\"{}\" runs no shaders that could be timed; choose a GPU", self.describe())))
    }
    /// What each shader took since [`Backend::profile`], the longest first.
    fn shader_times(&self) -> Vec<ShaderTime> {
        Vec::new()
    }

    // Between host and device. Only the `read_…` calls wait.

    /// Rows of a step that keep the device busy: how long prompts are cut.
    fn rows_at_once(&self) -> usize {
        128
    }
    /// What a step of so many rows takes, in steps of one: what drafts are weighed against. By default what was measured on a CPU of two
    /// cores (Cascade Lake, the shape of BitNet 2B-4T).
    fn rows_cost(&self, rows: usize) -> f64 {
        const MEASURED: [(usize, f64); 6] = [(1, 1.0), (2, 1.29), (3, 1.43), (4, 1.6), (8, 3.01), (16, 5.75)];
        let upper = MEASURED.iter().position(|&(most, _)| rows <= most).unwrap_or(MEASURED.len() - 1).max(1);
        let [(few, low), (many, high)] = [MEASURED[upper - 1], MEASURED[upper]];
        low + (high - low) * (rows as f64 - few as f64) / (many - few) as f64
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
    /// `values.len()` values of a tensor, row by row, from the beginning of a row on: logits for samplers.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_rows(&mut self, tensor: &Self::Tensor, first_row: usize, values: &mut [f32]) -> Result<()>;
    /// The first `values.len()` values of a tensor, row by row.
    ///
    /// # Errors
    /// As [`Backend::read_rows`].
    fn read_tensor(&mut self, tensor: &Self::Tensor, values: &mut [f32]) -> Result<()> {
        self.read_rows(tensor, 0, values)
    }
    /// Overwrites the first values of a tensor.
    fn write_tensor(&mut self, tensor: &mut Self::Tensor, values: &[f32]);
    /// The first rows of a quantised tensor: `values: [n, cols]` and the multipliers, `scales: [n]`, or
    /// `[n, cols.div_ceil(128)]` where groups have their own. Meaningless where it holds f32.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device was lost.
    fn read_quantized(&mut self, q: &Self::Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()>;
    /// Overwrites the first rows of a quantised tensor, with any int8 (−128 too) and any multipliers.
    fn write_quantized(&mut self, q: &mut Self::Quantized, values: &[i8], scales: &[f32]);
}

/// The smallest `max|x|` that activations are scaled by, so that a row of zeros has a finite multiplier (1.27e7).
pub const SMALLEST_ABSMAX: f32 = 1e-5;

/// What [`Backend::argmax`] says of logits that are not all finite numbers.
pub const NO_TOKEN: u32 = u32::MAX;

/// The most candidates a step can tell of a row: enough for the usual samplers, 2 KiB to bring back from a device.
pub const MOST_CANDIDATES: usize = 256;

/// The first positions of one key/value head of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePlace {
    /// The slot of a sequence.
    pub slot: u32,
    /// The key/value head.
    pub kv_head: usize,
    /// How many positions, from 0 on.
    pub positions: usize,
}
