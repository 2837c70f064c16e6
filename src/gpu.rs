//! The GPU as a device: each verb appends dispatches to the step's command buffer, and one submit sends them.
//!
//! Integer sums, and the int8 activations that they are made of, are the same as everywhere. Weights are uploaded in the
//! canonical packing; a step's rows are described in one small buffer, so that commands and bind groups do not change with
//! positions. The base path needs core WebGPU only: no subgroups, no f16 arithmetic, bindings of 128 MiB.

mod adapter;
mod attention;
mod bandwidth;
mod buffers;
mod cache_file;
mod check;
mod context;
mod cooperative;
mod experts;
mod head;
mod kind;
mod layout;
mod limits;
mod matrix;
mod memory;
mod pace;
mod pipeline_cache;
mod pipelines;
mod product;
mod profile;
mod recorder;
mod recurrence;
mod rotation;
mod scopes;
mod screen;
mod shader;
mod state;
mod step;
mod transfer;
#[cfg(not(target_arch = "wasm32"))]
mod trial;

use std::ops::Range;
#[cfg(target_arch = "wasm32")]
use std::task::{Context, Poll};

pub use crate::backend::{GpuCounters, ShaderTime};
pub use adapter::Adapter;
pub use bandwidth::copy_bandwidth;
pub use buffers::{Cache, Quantized, Tensor, Tokens};
pub use context::{GpuDevice, GpuOptions};
pub use experts::Routing;
pub use kind::GpuKind;
pub use matrix::Matrix;
pub use recurrence::Recurrent;
pub use rotation::Basis;
pub use shader::Dot;
pub use state::Gpu;

use crate::backend::{Activation, Backend, CachePlace, CacheShape, Heads, Norm, Numerics, Rope, Rotary, Row, Work};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::gpu::limits::MOST_GROUPS;
use crate::gpu::product::Rows;
use crate::gpu::shader::{Output, Shader};
use crate::interrupt::Interrupt;

/// Rows of activations up to which weights are read once for each 8 of them, straight into registers. More rows are worth
/// unpacking a tile of weights for.
const MATVEC_ROWS: usize = 32;
/// Steps that are sent before the first is read: while the host waits for one, the device has the next, and the one after it
/// is being recorded.
const STEPS_AHEAD: usize = 2;

impl Backend for Gpu {
    type Cache = Cache;
    type Tokens = Tokens;

    fn sibling(&self) -> Self {
        Self { fuses: self.fuses, ..Self::new(&self.device) }
    }

    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor { max_rows, cols, buffer: self.floats("activations", max_rows, cols)? })
    }

    fn parameter(&mut self, values: &[f32]) -> Result<Tensor> {
        let mut tensor = self.tensor(1, values.len())?;
        self.write_tensor(&mut tensor, values);
        Ok(tensor)
    }

    fn quantized(&mut self, max_rows: usize, cols: usize, numerics: Numerics) -> Result<Quantized> {
        let values = self.floats("activations", max_rows, buffers::words(cols, numerics))?;
        let facts = self.floats("scales", max_rows, 2 * buffers::scales_a_row(cols, numerics))?;
        Ok(Quantized { numerics, max_rows, cols, values, facts, rotated: None })
    }

    fn matrix(&mut self, parts: &[Weights]) -> Result<Matrix> {
        Matrix::upload(parts, self)
    }

    fn reads_weights(&self) -> bool {
        true
    }

    fn prepare_head(&mut self, head: &mut Matrix, _numerics: Numerics) -> Result<()> {
        self.add_screen(head)
    }

    fn head_room(&mut self, head: &Matrix, selected: usize, numerics: Numerics) -> Result<()> {
        match head.format == shader::Format::Ternary {
            true => self.ternary_head_room(head, selected, numerics),
            false => Ok(()),
        }
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        self.make_cache(shape)
    }

    fn attend_room(&mut self, cache: &Cache, heads: Heads) -> Result<()> {
        match heads.heads + 2 * heads.kv_heads > MOST_GROUPS as usize {
            true => Err(Error::Unsupported(format!("{} heads on a GPU", heads.heads))),
            false => self.make_attention_room(cache, heads),
        }
    }

    fn tokens(&mut self, max_rows: usize) -> Result<Tokens> {
        let mut tokens = Tokens { max_rows, buffer: self.floats("token ids", max_rows, 1)? };
        self.write_tokens(&mut tokens, &vec![u32::MAX; max_rows]);
        Ok(tokens)
    }

    fn begin(&mut self, rows: &[Row]) {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.recorder.expect(rows.len());
        self.steps += 1;
        self.computed_rows += rows.len() as u64;
        self.selected = 0..rows.iter().filter(|row| row.wants_logits).count();
        self.describe_step();
    }

    fn select(&mut self, selected: Range<usize>) {
        if self.selected != selected {
            self.selected = selected;
            self.describe_step();
        }
    }

    fn copy_tokens(&mut self, tokens: &mut Tokens, chosen: &Tokens, count: usize) {
        assert!(count <= tokens.max_rows && count <= chosen.max_rows);
        self.recorder.copy((&tokens.buffer, 0), (&chosen.buffer, 0), count as u64 * 4);
    }

    fn embed(&mut self, out: &mut Tensor, table: &Matrix, tokens: &Tokens) {
        self.look_up(out, table, tokens);
    }

    fn norm(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        self.norm_rows(out, x, norm, self.rows.len(), Shader::Norm { selected: false, add: false });
    }

    fn norm_add(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        self.norm_rows(out, x, norm, self.rows.len(), Shader::Norm { selected: false, add: true });
    }

    fn place(&mut self, out: &mut Tensor, first_col: usize, x: &Tensor) {
        self.place_columns(out, first_col, x);
    }

    fn norm_quantize(&mut self, out: &mut Quantized, x: &Tensor, gain: &Tensor, epsilon: f32) {
        self.take_rows(out, x, Some(Norm { gain, epsilon }));
    }

    fn quantize(&mut self, out: &mut Quantized, x: &Tensor) {
        self.take_rows(out, x, None);
    }

    fn matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        let step = self.step();
        self.product(out, w, x, Output::Store, &Rows::of_step(self.rows.len(), &step));
    }

    fn matmul_add(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        let step = self.step();
        self.product(out, w, x, Output::Add, &Rows::of_step(self.rows.len(), &step));
    }

    fn rotations(&mut self, out: &mut Tensor, rope: &Rope) {
        self.write_rotations(out, rope);
    }

    fn rope_append(&mut self, qkv: &mut Tensor, cache: &mut Cache, rotary: Rotary<'_, Self>, heads: Heads) {
        self.append(qkv, cache, rotary, heads);
    }

    fn attend(&mut self, out: &mut Tensor, qkv: &Tensor, cache: &Cache, heads: Heads) {
        self.attention(out, qkv, cache, heads, None);
    }

    fn glu(&mut self, out: &mut Tensor, gate_up: &Tensor, activation: Activation) {
        self.gated_unit(out, gate_up, activation);
    }

    fn norm_selected(&mut self, out: &mut Tensor, x: &Tensor, gain: &Tensor, epsilon: f32) {
        self.norm_rows(
            out,
            x,
            Norm { gain, epsilon },
            self.selected.len(),
            Shader::Norm { selected: true, add: false },
        );
    }

    fn logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor) {
        self.head_product(out, head, x);
    }

    fn argmax(&mut self, tokens: &mut Tokens, logits: &Tensor) {
        self.choose_best(tokens, logits);
    }

    fn top(&mut self, tokens: &mut Tokens, values: &mut Tensor, count: usize, logits: &Tensor) {
        self.choose_top(tokens, values, count, logits);
    }

    fn norm_matmul(&mut self, out: &mut Tensor, normed: &mut Quantized, w: &Matrix, x: &Tensor, norm: Norm<'_, Self>) {
        self.fused_product(out, normed, w, x, Some(norm), Output::Store);
    }

    fn norm_matmul_add(
        &mut self,
        out: &mut Tensor,
        normed: &mut Quantized,
        w: &Matrix,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
    ) {
        self.fused_product(out, normed, w, x, norm, Output::Add);
    }

    fn norm_matmul_glu(
        &mut self,
        out: &mut Tensor,
        gate_up: &mut Tensor,
        normed: &mut Quantized,
        w: &Matrix,
        x: &Tensor,
        norm: Norm<'_, Self>,
        activation: Activation,
    ) {
        self.fused_glu(out, gate_up, normed, w, x, norm, activation);
    }

    fn rope_attend(
        &mut self,
        out: &mut Tensor,
        qkv: &mut Tensor,
        cache: &mut Cache,
        rotary: Rotary<'_, Self>,
        heads: Heads,
    ) {
        if !self.append_and_attend(out, qkv, cache, rotary, heads) {
            self.rope_append(qkv, cache, rotary, heads);
            self.attend(out, qkv, cache, heads);
        }
    }

    fn best(&mut self, tokens: &mut Tokens, logits: &mut Tensor, head: &Matrix, x: &Tensor) {
        if !self.enough_logits(logits, head, x, 1) {
            self.logits(logits, head, x);
        }
        self.argmax(tokens, logits);
    }

    fn candidates(
        &mut self,
        tokens: &mut Tokens,
        values: &mut Tensor,
        count: usize,
        logits: &mut Tensor,
        head: &Matrix,
        x: &Tensor,
    ) {
        if !self.enough_logits(logits, head, x, count) {
            self.logits(logits, head, x);
        }
        self.top(tokens, values, count, logits);
    }

    fn totals(&mut self, out: &mut Tensor, logits: &Tensor, factors: &Tensor) {
        self.add_odds(out, logits, factors);
    }

    fn end(&mut self) {
        self.recorder.submit();
    }

    fn heed(&mut self, interrupt: Option<&Interrupt>) {
        self.recorder.heed(interrupt);
    }

    fn wait(&mut self) -> Result<()> {
        self.recorder.wait()
    }

    #[cfg(target_arch = "wasm32")]
    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.recorder.poll_wait(context)
    }

    #[cfg(target_arch = "wasm32")]
    fn poll_tokens(&mut self, tokens: &Tokens, count: usize, context: &mut Context<'_>) -> Poll<()> {
        self.recorder.poll_read(&tokens.buffer, 0, count as u64 * 4, context)
    }

    #[cfg(target_arch = "wasm32")]
    fn poll_rows(&mut self, tensor: &Tensor, first_row: usize, count: usize, context: &mut Context<'_>) -> Poll<()> {
        let first = first_row * tensor.cols;
        self.recorder.poll_read(&tensor.buffer, first as u64 * 4, count as u64 * 4, context)
    }

    fn read_cache(&mut self, cache: &Cache, place: CachePlace, keys: &mut [f32], values: &mut [f32]) -> Result<()> {
        self.read_slot(cache, place, keys, values)
    }

    fn write_cache(&mut self, cache: &mut Cache, place: CachePlace, keys: &[f32], values: &[f32]) {
        self.write_slot(cache, place, keys, values);
    }

    fn copy_prefix(&mut self, cache: &mut Cache, from: u32, to: u32, positions: usize) -> Result<()> {
        self.copy_slot(cache, from, to, positions)
    }

    fn describe(&self) -> String {
        self.device.describe()
    }

    fn cache_shape(&self, cache: &Cache) -> CacheShape {
        cache.shape
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> u64 {
        matrix.bytes()
    }

    fn gpu_counters(&self) -> Option<GpuCounters> {
        Some(self.recorder.counters())
    }

    fn profile(&mut self) -> Result<()> {
        self.recorder.profile()
    }

    fn shader_times(&self) -> Vec<ShaderTime> {
        self.recorder.profiler().map(profile::Profiler::times).unwrap_or_default()
    }

    fn work(&self) -> Work {
        let ran = self.recorder.kernels().iter().filter(|kernel| kernel.calls > 0);
        Work { steps: self.steps, rows: self.computed_rows, kernels: ran.copied().collect() }
    }

    fn cache_bytes(&self, cache: &Cache) -> u64 {
        cache.keys.raw.size() + cache.values.raw.size()
    }

    fn device_bytes(&self) -> Option<u64> {
        Some(self.allocated)
    }

    fn rows_at_once(&self) -> usize {
        // A software adapter computes on a CPU.
        if self.device.adapter().is_software() { 128 } else { 512 }
    }

    fn rows_cost(&self, rows: usize) -> f64 {
        rows as f64 // nothing is drafted at full price: no GPU was measured yet, and drafts waste steps that were sent ahead
    }

    fn steps_ahead(&self) -> usize {
        if self.fuses { STEPS_AHEAD } else { 0 }
    }

    fn wants_rehearsal(&self) -> bool {
        true
    }

    fn write_tokens(&mut self, tokens: &mut Tokens, ids: &[u32]) {
        assert!(ids.len() <= tokens.max_rows);
        self.recorder.write(&tokens.buffer, bytemuck::cast_slice(ids));
    }

    fn read_tokens(&mut self, tokens: &Tokens, ids: &mut [u32]) -> Result<()> {
        assert!(ids.len() <= tokens.max_rows);
        self.recorder.read(&tokens.buffer, 0, bytemuck::cast_slice_mut(ids))
    }

    fn read_rows(&mut self, tensor: &Tensor, first_row: usize, values: &mut [f32]) -> Result<()> {
        let first = first_row * tensor.cols;
        assert!(first + values.len() <= tensor.max_rows * tensor.cols);
        self.recorder.read(&tensor.buffer, first as u64 * 4, bytemuck::cast_slice_mut(values))
    }

    fn write_tensor(&mut self, tensor: &mut Tensor, values: &[f32]) {
        assert!(values.len() <= tensor.max_rows * tensor.cols);
        self.recorder.write(&tensor.buffer, bytemuck::cast_slice(values));
    }

    fn read_quantized(&mut self, q: &Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()> {
        self.read_int8(q, values, scales)
    }

    fn write_quantized(&mut self, q: &mut Quantized, values: &[i8], scales: &[f32]) {
        self.write_int8(q, values, scales);
    }
}
