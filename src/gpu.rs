//! The GPU as a device: each verb appends dispatches to the step's command buffer, and one submit sends them.
//!
//! Integer sums, and the int8 activations that they are made of, are the same as everywhere. Weights are uploaded in the
//! canonical packing; a step's rows are described in one small buffer, so that commands and bind groups do not change with
//! positions. The base path needs core WebGPU only: no subgroups, no f16 arithmetic, bindings of 128 MiB.

mod adapter;
mod bandwidth;
mod buffers;
mod context;
mod layout;
mod matrix;
mod pipeline_cache;
mod profile;
mod recorder;
mod shader;
mod step;

pub(crate) use adapter::variable;
pub use adapter::{Adapter, GpuKind};
pub use bandwidth::copy_bandwidth;
pub use buffers::{Cache, Quantized, Tensor, Tokens};
pub use context::{GpuDevice, GpuOptions};
pub use matrix::Matrix;
pub use profile::ShaderTime;
pub use recorder::GpuCounters;
pub use shader::Dot;

use crate::backend::{Activation, Backend, CacheShape, Heads, Norm, Rope, RopePairs, Row};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::format::ternary::padded;
use crate::gpu::buffers::Buffer;
use crate::gpu::layout::{Attention, ELEMENTWISE_THREADS, TILE, grid, matvec_shape, norm_matvec_shape};
use crate::gpu::matrix::Shard;
use crate::gpu::recorder::{Dispatch, Recorder};
use crate::gpu::shader::{Cached, Format, Input, Output, Product, Shader};
use crate::transformer::MOST_CANDIDATES;

/// A GPU that computes one model's steps.
#[derive(Debug)]
pub struct Gpu {
    device: GpuDevice,
    recorder: Recorder,
    rows: Vec<Row>,
    selected: usize,
    step: Option<Buffer>,            // struct Step: header, then [most rows] entries
    attention_parts: Option<Buffer>, // of contexts that several workgroups share
    stretches: Option<Buffer>,       // the best of each stretch of logits
    words: Vec<u32>,                 // to be written
    floats: Vec<f32>,
    next_id: u64,
    unsent: usize, // bytes uploaded since the last submit
    fuses: bool,
}

/// Rows of activations up to which weights are read once for each 8 of them, straight into registers. More rows are worth
/// unpacking a tile of weights for.
const MATVEC_ROWS: usize = 32;
/// Steps that are sent before the first is read: while the host waits for one, the device has the next, and the one after it
/// is being recorded.
const STEPS_AHEAD: usize = 2;
/// Logits that one workgroup looks at for the best.
const STRETCH: usize = 4096;
/// Uploads after which the device is waited for, so that staging memory is used again.
const MOST_UNSENT: usize = 128 << 20;

impl Gpu {
    /// Computes on an opened GPU.
    pub fn new(device: &GpuDevice) -> Self {
        Self {
            device: device.clone(),
            recorder: Recorder::new(device),
            rows: Vec::new(),
            selected: 0,
            step: None,
            attention_parts: None,
            stretches: None,
            words: Vec::new(),
            floats: Vec::new(),
            next_id: 0,
            unsent: 0,
            fuses: true,
        }
    }

    /// The same, with every verb in the plain steps that define it, and no step sent before the last was read: for comparing.
    pub fn plain(device: &GpuDevice) -> Self {
        Self { fuses: false, ..Self::new(device) }
    }

    /// What was done so far.
    pub fn counters(&self) -> GpuCounters {
        self.recorder.counters()
    }

    /// Times every shader from now on. Steps are slower meanwhile: each dispatch is a pass of its own.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has no timestamps.
    pub fn profile(&mut self) -> Result<()> {
        self.recorder.profile()
    }

    /// The times of the shaders since [`Gpu::profile`], the longest first.
    pub fn shader_times(&self) -> Vec<ShaderTime> {
        self.recorder.profiler().map(profile::Profiler::times).unwrap_or_default()
    }

    /// The device, for people.
    pub(crate) fn describe(&self) -> String {
        let dot = match self.device.0.dot {
            Dot::Packed => "packed dot products",
            Dot::Float => "float dot products",
        };
        format!("gpu, {}, {dot}", self.device.adapter().name())
    }

    fn storage(&mut self, label: &str, bytes: u64) -> Result<Buffer> {
        use wgpu::BufferUsages as Usage;
        let raw = self.device.0.buffer(label, bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)?;
        self.next_id += 1;
        Ok(Buffer { id: self.next_id, raw })
    }

    fn floats(&mut self, label: &str, rows: usize, cols: usize) -> Result<Buffer> {
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Error::Device(format!("{label} [{rows}, {cols}] is too large")))?;
        self.storage(label, bytes as u64)
    }

    /// Scratch memory that grows as steps do.
    fn scratch(&mut self, place: fn(&mut Self) -> &mut Option<Buffer>, label: &str, bytes: u64) -> Buffer {
        if let Some(buffer) = place(self).as_ref().filter(|buffer| buffer.raw.size() >= bytes) {
            return buffer.clone();
        }
        let made = self.storage(label, bytes.next_power_of_two().max(1 << 12)).or_else(|fault| {
            self.recorder.fail(fault);
            self.storage(label, 0)
        });
        let buffer = made.expect("a device has room for 16 bytes");
        *place(self) = Some(buffer.clone());
        buffer
    }

    fn step(&self) -> Buffer {
        self.step.clone().expect("a step has begun")
    }

    fn run(&mut self, shader: Shader, params: &[u32], buffers: &[&Buffer], groups: [usize; 3], bytes: u64) {
        self.recorder.dispatch(&Dispatch { shader, params, buffers, groups, bytes });
    }

    fn quantize_rows(&mut self, out: &mut Quantized, x: &Tensor, gain: Option<(&Tensor, f32)>) {
        let rows = self.rows.len();
        assert_eq!(out.cols, x.cols);
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        let (gain, epsilon) = gain.unwrap_or((x, 0.0));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let params = [x.cols as u32, (out.words() / 4) as u32, epsilon.to_bits()];
        let shader = Shader::NormQuantize { norm: !std::ptr::eq(gain, x) };
        self.run(shader, &params, &[&x.buffer, &gain.buffer, &out.values, &out.facts], [rows, 1, 1], 0);
    }

    fn product(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, output: Output) {
        let rows = self.rows.len();
        assert_eq!((out.cols, w.cols), (w.rows, x.cols), "the shapes of a product fit");
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        let product = self.kind_of_product(w, output);
        let step = self.step();
        for shard in &w.shards {
            let params = product_params(w, shard, out.cols);
            let bytes = (shard.rows * w.row_bytes) as u64;
            if rows <= MATVEC_ROWS {
                let shape = matvec_shape(rows, shard.rows);
                let [x_groups, y_groups, _] = grid(shard.rows.div_ceil(shape.outputs_of_group()));
                let groups = [x_groups, y_groups, rows.div_ceil(shape.rows as usize)];
                let buffers = [&step, &shard.weights, &shard.scales, &out.buffer, &x.values, &x.facts];
                self.run(Shader::Matvec { product, shape, input: Input::Quantized }, &params, &buffers, groups, bytes);
            } else {
                let groups = [shard.rows.div_ceil(TILE), rows.div_ceil(TILE), 1];
                let buffers = [&step, &shard.weights, &shard.scales, &x.values, &x.facts, &out.buffer];
                self.run(Shader::Matmul { product }, &params[..6], &buffers, groups, bytes);
            }
        }
    }

    /// The product of a step's one row, normalised and quantised on the way; false where that cannot be done in one.
    fn norm_product(
        &mut self,
        out: &mut Tensor,
        w: &Matrix,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
        output: Output,
    ) -> bool {
        let glu = matches!(output, Output::Glu(_));
        let shape = norm_matvec_shape(w.cols, w.rows, glu).filter(|_| self.fuses && self.rows.len() == 1);
        let Some(shape) = shape.filter(|_| !glu || w.shards.len() == 1) else { return false };
        assert_eq!(
            (if glu { 2 * out.cols } else { out.cols }, x.cols),
            (w.rows, w.cols),
            "the shapes of a product fit"
        );
        let (gain, epsilon) = norm.as_ref().map_or((x, 0.0), |norm| (norm.gain, norm.epsilon));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let product = self.kind_of_product(w, output);
        let input = Input::Floats { norm: norm.is_some(), vectors: (padded(w.cols) / 16) as u32 };
        let step = self.step();
        for shard in &w.shards {
            let mut params = product_params(w, shard, out.cols);
            (params[6], params[7]) = (w.cols as u32, epsilon.to_bits());
            let results = if glu { shard.rows / 2 } else { shard.rows };
            let of_group = if glu { shape.outputs_of_group() / 2 } else { shape.outputs_of_group() };
            let buffers = [&step, &shard.weights, &shard.scales, &out.buffer, &x.buffer, &gain.buffer];
            let bytes = (shard.rows * w.row_bytes) as u64;
            self.run(
                Shader::Matvec { product, shape, input },
                &params,
                &buffers,
                grid(results.div_ceil(of_group)),
                bytes,
            );
        }
        true
    }

    fn kind_of_product(&self, w: &Matrix, output: Output) -> Product {
        assert_eq!(w.format, Format::Ternary, "a linear layer is ternary");
        Product { output, grouped: w.row_scales > 1, dot: self.device.0.dot }
    }

    /// Attention, after or while the rows are appended to the cache.
    fn attention(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        cache: &Cache,
        heads: Heads,
        append: Option<(&Tensor, RopePairs)>,
    ) {
        let rows = self.rows.len();
        self.assert_attention(qkv, cache, heads);
        assert!(out.cols == heads.query_cols() && rows <= out.max_rows);
        let longest = self.rows.iter().map(|row| row.position as usize + 1).max().unwrap_or(0);
        let attention = Attention::new(&cache.shape, heads, rows, longest, self.device.0.largest_binding);
        let scale = (1.0 / (heads.head_dim as f64).sqrt()) as f32;
        let chunks = attention.chunks as u32;
        let params = [
            heads.heads as u32,
            heads.kv_heads as u32,
            cache.shape.positions as u32,
            attention.splits as u32,
            chunks,
            scale.to_bits(),
            append.map_or(0, |(rotations, _)| rotations.cols as u32 / 2),
        ];
        let entry =
            cache.shape.bytes().expect("counted when it was made") / (cache.shape.slots * cache.shape.positions).max(1);
        let bytes = self.rows.iter().map(|row| (row.position as u64 + 1) * entry as u64).sum();
        let groups = [heads.kv_heads * attention.heads.groups as usize, attention.splits, rows];
        let (step, whole) = (self.step(), attention.splits == 1);
        let result = match whole {
            true => out.buffer.clone(),
            false => self.scratch(|gpu| &mut gpu.attention_parts, "attention", attention.parts_bytes(heads, rows)),
        };
        match append {
            None => {
                let buffers = [&step, &cache.keys, &qkv.buffer, &result, &cache.values];
                self.run(Shader::Attend { cut: attention.heads, append: None }, &params, &buffers, groups, bytes);
            }
            Some((rotations, pairs)) => {
                let shader = Shader::Attend { cut: attention.heads, append: Some(pairs) };
                let buffers = [&step, &rotations.buffer, &qkv.buffer, &result, &cache.keys, &cache.values];
                self.run(shader, &params, &buffers, groups, bytes);
            }
        }
        if !whole {
            let merge = Shader::AttendMerge { head_dim: heads.head_dim as u32 };
            let params = [heads.heads as u32, chunks];
            self.run(merge, &params, &[&step, &result, &out.buffer], [heads.heads, rows, 1], 0);
        }
    }
}

/// The `Params` of matvec, without those of a norm; matmul has the first six.
fn product_params(w: &Matrix, shard: &Shard, outputs: usize) -> [u32; 8] {
    let group = w.group.div_ceil(64);
    [w.pieces(), shard.rows, shard.first, outputs, group, w.row_scales, 0, 0].map(|n| n as u32)
}

impl matrix::Uploader for Gpu {
    fn buffer(&mut self, label: &str, bytes: u64) -> Result<Buffer> {
        self.storage(label, bytes)
    }

    fn upload(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.device.0.queue.write_buffer(&to.raw, offset, bytes);
        self.unsent += bytes.len();
        if self.unsent > MOST_UNSENT {
            self.unsent = 0;
            self.device.0.queue.submit([]);
            let waited = self.device.0.device.poll(wgpu::PollType::wait_indefinitely());
            self.device.0.check()?;
            waited.map_err(|cause| Error::Device(format!("the weights cannot be uploaded: {cause}")))?;
        }
        self.device.0.check()
    }

    fn largest_shard(&self) -> u64 {
        self.device.0.largest_shard
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Quantized = Quantized;
    type Matrix = Matrix;
    type Cache = Cache;
    type Tokens = Tokens;

    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor { max_rows, cols, buffer: self.floats("activations", max_rows, cols)? })
    }

    fn parameter(&mut self, values: &[f32]) -> Result<Tensor> {
        let mut tensor = self.tensor(1, values.len())?;
        self.write_tensor(&mut tensor, values);
        Ok(tensor)
    }

    fn quantized(&mut self, max_rows: usize, cols: usize) -> Result<Quantized> {
        let words = padded(cols) / 4;
        let (values, facts) = (self.floats("activations", max_rows, words)?, self.floats("scales", max_rows, 2)?);
        Ok(Quantized { max_rows, cols, values, facts })
    }

    fn matrix(&mut self, parts: &[Weights]) -> Result<Matrix> {
        Matrix::upload(parts, self)
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        if Attention::fitting(&shape, shape.kv_heads).is_none() {
            return Err(Error::Unsupported(format!("heads of {} features on a GPU", shape.head_dim)));
        }
        let bytes = shape.bytes().ok_or_else(|| Error::Device("a cache of more bytes than can be counted".into()))?;
        let half = bytes as u64 / 2;
        Ok(Cache { shape, keys: self.storage("a cache", half)?, values: self.storage("a cache", half)? })
    }

    fn tokens(&mut self, max_rows: usize) -> Result<Tokens> {
        let mut tokens = Tokens { max_rows, buffer: self.floats("token ids", max_rows, 1)? };
        self.write_tokens(&mut tokens, &vec![u32::MAX; max_rows]);
        Ok(tokens)
    }

    fn begin(&mut self, rows: &[Row]) {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        let mut words = std::mem::take(&mut self.words);
        self.selected = step::describe(rows, &mut words);
        let step = self.scratch(|gpu| &mut gpu.step, "step", words.len() as u64 * 4);
        self.recorder.write(&step, bytemuck::cast_slice(&words));
        self.words = words;
    }

    fn copy_tokens(&mut self, tokens: &mut Tokens, chosen: &Tokens, count: usize) {
        assert!(count <= tokens.max_rows && count <= chosen.max_rows);
        self.recorder.copy(&tokens.buffer, &chosen.buffer, count as u64 * 4);
    }

    fn embed(&mut self, out: &mut Tensor, table: &Matrix, tokens: &Tokens) {
        let rows = self.rows.len();
        assert_eq!(out.cols, table.cols);
        assert!(rows <= out.max_rows && rows <= tokens.max_rows);
        for shard in &table.shards {
            let params = [
                table.cols as u32,
                shard.first as u32,
                shard.rows as u32,
                (table.row_bytes / 4) as u32,
                table.group as u32,
                table.row_scales as u32,
            ];
            let buffers = [&tokens.buffer, &shard.weights, &shard.scales, &out.buffer];
            let groups = [table.cols.div_ceil(ELEMENTWISE_THREADS), rows, 1];
            self.run(Shader::Embed { table: table.format }, &params, &buffers, groups, 0);
        }
    }

    fn norm_quantize(&mut self, out: &mut Quantized, x: &Tensor, gain: &Tensor, epsilon: f32) {
        self.quantize_rows(out, x, Some((gain, epsilon)));
    }

    fn quantize(&mut self, out: &mut Quantized, x: &Tensor) {
        self.quantize_rows(out, x, None);
    }

    fn matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        self.product(out, w, x, Output::Store);
    }

    fn matmul_add(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        self.product(out, w, x, Output::Add);
    }

    fn rotations(&mut self, out: &mut Tensor, rope: &Rope) {
        let pairs = rope.frequencies.len();
        assert_eq!(out.cols, 2 * pairs);
        assert!(self.rows.len() <= out.max_rows);
        let mut floats = std::mem::take(&mut self.floats);
        floats.clear();
        for row in &self.rows {
            let turns = || rope.frequencies.iter().map(|frequency| f64::from(row.position) * frequency);
            floats.extend(turns().map(|angle| angle.cos() as f32));
            floats.extend(turns().map(|angle| angle.sin() as f32));
        }
        self.recorder.write(&out.buffer, bytemuck::cast_slice(&floats));
        self.floats = floats;
    }

    fn rope_append(&mut self, qkv: &mut Tensor, cache: &mut Cache, rotations: &Tensor, heads: Heads, pairs: RopePairs) {
        let rows = self.rows.len();
        self.assert_attention(qkv, cache, heads);
        assert!(rotations.cols <= heads.head_dim && rows <= rotations.max_rows);
        let params = [heads.heads, heads.kv_heads, rotations.cols / 2, cache.shape.positions].map(|n| n as u32);
        let cached = Cached { precision: cache.shape.precision, head_dim: heads.head_dim as u32 };
        let shader = Shader::RopeAppend { cache: cached, pairs };
        let buffers = [&self.step(), &rotations.buffer, &qkv.buffer, &cache.keys, &cache.values];
        self.run(shader, &params, &buffers, [heads.heads + 2 * heads.kv_heads, rows, 1], 0);
    }

    fn attend(&mut self, out: &mut Tensor, qkv: &Tensor, cache: &Cache, heads: Heads) {
        self.attention(out, qkv, cache, heads, None);
    }

    fn glu(&mut self, out: &mut Tensor, gate_up: &Tensor, activation: Activation) {
        let rows = self.rows.len();
        assert_eq!(gate_up.cols, 2 * out.cols);
        assert!(rows <= out.max_rows && rows <= gate_up.max_rows);
        let shader = Shader::Glu { activation };
        let groups = [out.cols.div_ceil(ELEMENTWISE_THREADS), rows, 1];
        self.run(shader, &[out.cols as u32], &[&gate_up.buffer, &out.buffer], groups, 0);
    }

    fn norm_selected(&mut self, out: &mut Tensor, x: &Tensor, gain: &Tensor, epsilon: f32) {
        assert!(out.cols == x.cols && gain.cols == x.cols && self.selected <= out.max_rows);
        let params = [x.cols as u32, epsilon.to_bits()];
        let buffers = [&self.step(), &x.buffer, &gain.buffer, &out.buffer];
        self.run(Shader::NormSelected, &params, &buffers, [self.selected, 1, 1], 0);
    }

    fn logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor) {
        assert_eq!((out.cols, head.cols), (head.rows, x.cols));
        assert!(self.selected <= out.max_rows && self.selected <= x.max_rows);
        let step = self.step();
        for shard in &head.shards {
            let params = [
                head.pieces() as u32,
                shard.rows as u32,
                shard.first as u32,
                out.cols as u32,
                head.cols as u32,
                head.group as u32,
                head.row_scales as u32,
            ];
            let shape = matvec_shape(self.selected, shard.rows);
            let [x_groups, y_groups, _] = grid(shard.rows.div_ceil(shape.outputs_of_group()));
            let groups = [x_groups, y_groups, self.selected.div_ceil(shape.rows as usize)];
            let buffers = [&step, &shard.weights, &shard.scales, &x.buffer, &out.buffer];
            let bytes = (shard.rows * head.row_bytes) as u64;
            let shader = Shader::Logits { head: head.format, shape, aligned: head.cols.is_multiple_of(4) };
            self.run(shader, &params, &buffers, groups, bytes);
        }
    }

    fn argmax(&mut self, tokens: &mut Tokens, logits: &Tensor) {
        assert!(self.selected <= tokens.max_rows && self.selected <= logits.max_rows);
        let stretches = logits.cols.div_ceil(STRETCH);
        let bytes = (self.selected * stretches * 8) as u64;
        let best = self.scratch(|gpu| &mut gpu.stretches, "stretches", bytes);
        let params = [logits.cols as u32, STRETCH as u32];
        self.run(Shader::ArgmaxFirst, &params, &[&logits.buffer, &best], [stretches, self.selected, 1], 0);
        let params = [stretches as u32, stretches as u32];
        self.run(Shader::ArgmaxLast, &params, &[&best, &tokens.buffer], [1, self.selected, 1], 0);
        self.bring(&tokens.buffer, self.selected * 4);
    }

    fn top(&mut self, tokens: &mut Tokens, values: &mut Tensor, count: usize, logits: &Tensor) {
        assert!(count <= MOST_CANDIDATES && values.cols == MOST_CANDIDATES);
        assert!(self.selected * MOST_CANDIDATES <= tokens.max_rows && self.selected <= values.max_rows);
        let params = [logits.cols as u32, count as u32];
        let buffers = [&logits.buffer, &tokens.buffer, &values.buffer];
        self.run(Shader::Top, &params, &buffers, [self.selected, 1, 1], 0);
        self.bring(&tokens.buffer, self.selected * MOST_CANDIDATES * 4);
        self.bring(&values.buffer, self.selected * MOST_CANDIDATES * 4);
    }

    fn norm_matmul(&mut self, out: &mut Tensor, normed: &mut Quantized, w: &Matrix, x: &Tensor, norm: Norm<'_, Self>) {
        if !self.norm_product(out, w, x, Some(norm), Output::Store) {
            self.norm_quantize(normed, x, norm.gain, norm.epsilon);
            self.matmul(out, w, normed);
        }
    }

    fn norm_matmul_add(
        &mut self,
        out: &mut Tensor,
        normed: &mut Quantized,
        w: &Matrix,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
    ) {
        if !self.norm_product(out, w, x, norm, Output::Add) {
            self.quantize_rows(normed, x, norm.map(|norm| (norm.gain, norm.epsilon)));
            self.matmul_add(out, w, normed);
        }
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
        if !self.norm_product(out, w, x, Some(norm), Output::Glu(activation)) {
            self.norm_matmul(gate_up, normed, w, x, norm);
            self.glu(out, gate_up, activation);
        }
    }

    fn rope_attend(
        &mut self,
        out: &mut Tensor,
        qkv: &mut Tensor,
        cache: &mut Cache,
        rotations: &Tensor,
        heads: Heads,
        pairs: RopePairs,
    ) {
        // A row must not need what another row of the step appends.
        let apart = self
            .rows
            .iter()
            .enumerate()
            .all(|(i, row)| i < MATVEC_ROWS && self.rows[..i].iter().all(|other| other.sequence != row.sequence));
        if self.fuses && apart {
            assert!(rotations.cols <= heads.head_dim && self.rows.len() <= rotations.max_rows);
            self.attention(out, qkv, cache, heads, Some((rotations, pairs)));
        } else {
            self.rope_append(qkv, cache, rotations, heads, pairs);
            self.attend(out, qkv, cache, heads);
        }
    }

    fn end(&mut self) {
        self.recorder.submit();
    }

    fn rows_at_once(&self) -> usize {
        // A software adapter computes on a CPU.
        if self.device.adapter().is_software() { 128 } else { 512 }
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
        self.recorder.read(&tokens.buffer, bytemuck::cast_slice_mut(ids))
    }

    fn read_tensor(&mut self, tensor: &Tensor, values: &mut [f32]) -> Result<()> {
        assert!(values.len() <= tensor.max_rows * tensor.cols);
        self.recorder.read(&tensor.buffer, bytemuck::cast_slice_mut(values))
    }

    fn write_tensor(&mut self, tensor: &mut Tensor, values: &[f32]) {
        assert!(values.len() <= tensor.max_rows * tensor.cols);
        self.recorder.write(&tensor.buffer, bytemuck::cast_slice(values));
    }

    fn read_quantized(&mut self, q: &Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()> {
        let (row_bytes, rows) = (q.words() * 4, scales.len());
        assert!(rows <= q.max_rows && values.len() == rows * q.cols);
        let mut padded = vec![0i8; rows * row_bytes];
        self.recorder.read(&q.values, bytemuck::cast_slice_mut(&mut padded))?;
        for (to, from) in values.chunks_exact_mut(q.cols).zip(padded.chunks_exact(row_bytes)) {
            to.copy_from_slice(&from[..q.cols]);
        }
        let mut facts = vec![[0f32; 2]; rows];
        self.recorder.read(&q.facts, bytemuck::cast_slice_mut(&mut facts))?;
        scales.iter_mut().zip(facts).for_each(|(scale, fact)| *scale = fact[0]);
        Ok(())
    }

    fn write_quantized(&mut self, q: &mut Quantized, values: &[i8], scales: &[f32]) {
        let (row_bytes, rows) = (q.words() * 4, scales.len());
        assert!(rows <= q.max_rows && values.len() == rows * q.cols);
        let mut padded = vec![0i8; rows * row_bytes];
        let mut facts = Vec::with_capacity(rows);
        let rows = padded.chunks_exact_mut(row_bytes).zip(values.chunks_exact(q.cols));
        for ((to, from), scale) in rows.zip(scales) {
            to[..q.cols].copy_from_slice(from);
            let sum: i32 = from.iter().map(|&v| i32::from(v)).sum();
            facts.push([scale.to_bits(), sum as u32]);
        }
        self.recorder.write(&q.values, bytemuck::cast_slice(&padded));
        self.recorder.write(&q.facts, bytemuck::cast_slice(&facts));
    }
}

impl Gpu {
    /// What the shaders of attention take for granted.
    fn assert_attention(&self, qkv: &Tensor, cache: &Cache, heads: Heads) {
        let shape = &cache.shape;
        assert_eq!((heads.kv_heads, heads.head_dim), (shape.kv_heads, shape.head_dim));
        assert!(qkv.cols == heads.qkv_cols() && self.rows.len() <= qkv.max_rows);
        let inside = |row: &Row| (row.sequence as usize) < shape.slots && (row.position as usize) < shape.positions;
        assert!(self.rows.iter().all(inside), "a row lies outside the cache");
    }

    /// Makes ready for the host what a step chose, in the same submit. A failure is told by the read that follows.
    fn bring(&mut self, from: &Buffer, bytes: usize) {
        if let Err(fault) = self.recorder.stage(from, bytes as u64) {
            self.recorder.fail(fault);
        }
    }
}
