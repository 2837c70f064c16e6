//! The CPU as a device: each verb runs when it is called, on a pool of threads, with the fastest kernels there are.
//!
//! What a token reads is copied into huge pages where there are any. Every output value is computed by one thread, in an order that
//! depends neither on the number of threads nor on the other rows of the step: results are the same bits for any of both. Integer
//! sums and what is made of them are so for every kernel set where a row has one scale; other floats differ by their rounding.

mod aligned;
mod attention;
mod cores;
mod counts;
mod device;
mod disjoint;
mod experts;
mod floats;
mod head;
mod kernels;
mod matrix;
mod options;
mod pages;
mod pool;
mod product;
mod recurrence;
mod rotation;
mod scales;
mod screen;
mod tensor;
mod totals;
mod workers;

pub use attention::Cache;
pub use device::CpuDevice;
pub use experts::Routing;
pub(crate) use kernels::KEYS_TOGETHER;
pub use kernels::KernelSet;
pub use matrix::Matrix;
pub use options::{CpuOptions, HugePages, Screening};
pub(crate) use pages::huge_pages_are_given;
pub use recurrence::Recurrent;
pub use rotation::Basis;
pub use tensor::{Quantized, Tensor};

use std::ops::Range;

use crate::allocation::filled;
use crate::backend::{Activation, Backend, CachePlace, CacheShape, Heads, Norm, Numerics, Rope, Rotary, Row, Work};
use crate::cpu::attention::{Attention, Turning};
use crate::cpu::counts::{Counts, Kernel};
use crate::cpu::disjoint::Disjoint;
use crate::cpu::head::{ExactLogits, Screener};
use crate::cpu::kernels::Kernels;
use crate::cpu::pages::Pages;
use crate::cpu::workers::Workers;
use crate::error::Result;
use crate::format::Weights;
use crate::interrupt::Interrupt;

/// The CPU, as one session uses it.
pub struct Cpu {
    kernels: &'static dyn Kernels,
    workers: Workers,
    rows: Vec<Row>,       // of this step
    selected: Vec<usize>, // of those that want logits
    attention: attention::Room,
    head_input: Option<Quantized>, // of a ternary head, [most selected, width]
    screening: Screening,
    screener: Screener,
    pages: Pages,
    counts: Counts,
}

impl Cpu {
    /// Opens the CPU and computes on it.
    ///
    /// # Errors
    /// Those of [`CpuDevice::open`].
    pub fn new(options: &CpuOptions) -> Result<Self> {
        Ok(Self::on(&CpuDevice::open(options)?))
    }

    /// Computes on an opened CPU.
    pub fn on(device: &CpuDevice) -> Self {
        Self {
            kernels: device.kernels,
            workers: device.workers.clone(),
            rows: Vec::new(),
            selected: Vec::new(),
            attention: attention::Room::default(),
            head_input: None,
            screening: device.screening,
            screener: Screener::new(),
            pages: Pages::new(device.huge_pages),
            counts: Counts::new(),
        }
    }

    /// Threads that compute, the calling thread among them.
    pub fn threads(&self) -> usize {
        self.workers.threads()
    }

    /// The kernels in use.
    pub fn kernels(&self) -> KernelSet {
        self.kernels.set()
    }

    /// How many logits of heads with a screen were computed exactly, since the start.
    pub fn exact_logits(&self) -> u64 {
        self.screener.exact_logits
    }
}

impl Backend for Cpu {
    type Cache = Cache;
    type Tokens = Vec<u32>;

    fn sibling(&self) -> Self {
        let (workers, huge_pages) = (self.workers.clone(), self.pages.wanted());
        Self::on(&CpuDevice { kernels: self.kernels, workers, screening: self.screening, huge_pages })
    }

    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Tensor> {
        let tensor = Tensor::new(max_rows, cols)?;
        // So that no step allocates.
        self.rows.reserve(max_rows);
        self.selected.reserve(max_rows);
        self.attention.reserve_rows(max_rows);
        Ok(tensor)
    }

    fn parameter(&mut self, values: &[f32]) -> Result<Tensor> {
        Tensor::of(values)
    }

    fn quantized(&mut self, max_rows: usize, cols: usize, numerics: Numerics) -> Result<Quantized> {
        Quantized::new(max_rows, cols, numerics)
    }

    fn matrix(&mut self, parts: &[Weights]) -> Result<Matrix> {
        let mut matrix = Matrix::new(parts, &mut |bytes| self.pages.place(bytes, &self.workers))?;
        matrix.move_scales(&mut |bytes| self.pages.place_part(bytes, &self.workers));
        Ok(matrix)
    }

    fn reads_weights(&self) -> bool {
        self.pages.are_given()
    }

    fn prepare_head(&mut self, head: &mut Matrix, _numerics: Numerics) -> Result<()> {
        self.add_screen(head);
        if head.screen.is_none() {
            head.place_values(&mut |bytes| self.pages.place(bytes, &self.workers));
        }
        Ok(())
    }

    fn head_room(&mut self, head: &Matrix, selected: usize, numerics: Numerics) -> Result<()> {
        if head.dense().is_none() {
            self.head_input = Some(Quantized::new(selected, head.cols, numerics)?);
        }
        self.screener.reserve_ranking()?;
        match &head.screen {
            Some(growth) => self.screener.reserve(&growth.size()),
            None => Ok(()),
        }
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        Cache::new(shape)
    }

    fn attend_room(&mut self, cache: &Cache, heads: Heads) -> Result<()> {
        self.attention.reserve(cache, heads, self.workers.threads())
    }

    fn tokens(&mut self, max_rows: usize) -> Result<Vec<u32>> {
        filled(max_rows, u32::MAX)
    }

    fn begin(&mut self, rows: &[Row]) {
        self.counts.step(rows.len());
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.select(0..rows.len());
    }

    fn select(&mut self, selected: Range<usize>) {
        let wanting = (0..self.rows.len()).filter(|&row| self.rows[row].wants_logits);
        self.selected.clear();
        self.selected.extend(wanting.skip(selected.start).take(selected.len()));
    }

    fn copy_tokens(&mut self, tokens: &mut Vec<u32>, chosen: &Vec<u32>, count: usize) {
        tokens[..count].copy_from_slice(&chosen[..count]);
    }

    fn embed(&mut self, out: &mut Tensor, table: &Matrix, tokens: &Vec<u32>) {
        assert_eq!(out.cols, table.cols);
        self.counts.ran(Kernel::Embed);
        let (cols, tokens) = (out.cols, &tokens[..self.rows.len()]);
        self.workers.share_rows(out.rows_mut(tokens.len()), cols, &|row, out| {
            table.row_to_f32(tokens[row] as usize, out);
        });
    }

    fn norm(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        assert_eq!((out.cols, norm.gain.cols), (x.cols, x.cols));
        self.counts.ran(Kernel::Norm);
        let (kernels, cols) = (self.kernels, out.cols);
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            let x = x.row(row);
            kernels.norm(out, x, tensor::norm_factor(kernels, x, norm.epsilon), norm.gain.row(0));
        });
    }

    fn norm_add(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        assert_eq!((out.cols, norm.gain.cols), (x.cols, x.cols));
        self.counts.ran(Kernel::Norm);
        let (kernels, cols) = (self.kernels, out.cols);
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            let (x, gain) = (x.row(row), norm.gain.row(0));
            let factor = tensor::norm_factor(kernels, x, norm.epsilon);
            out.iter_mut().zip(x).zip(gain).for_each(|((o, v), g)| *o += v * factor * g);
        });
    }

    fn place(&mut self, out: &mut Tensor, first_col: usize, x: &Tensor) {
        for row in 0..self.rows.len() {
            out.row_mut(row)[first_col..first_col + x.cols].copy_from_slice(x.row(row));
        }
    }

    fn norm_quantize(&mut self, out: &mut Quantized, x: &Tensor, gain: &Tensor, epsilon: f32) {
        assert_eq!((out.cols, gain.cols), (x.cols, x.cols));
        self.counts.ran(Kernel::NormQuantize);
        let (kernels, out) = (self.kernels, out.split());
        self.workers.share(self.rows.len() * x.cols, self.rows.len(), &|row, _| {
            let factor = tensor::norm_factor(kernels, x.row(row), epsilon);
            // SAFETY: each row is one task.
            unsafe { out.row(row) }.norm_quantize(kernels, x.row(row), factor, gain.row(0));
        });
    }

    fn quantize(&mut self, out: &mut Quantized, x: &Tensor) {
        assert_eq!(out.cols, x.cols);
        self.counts.ran(Kernel::Quantize);
        let (kernels, out) = (self.kernels, out.split());
        self.workers.share(self.rows.len() * x.cols, self.rows.len(), &|row, _| {
            // SAFETY: each row is one task.
            unsafe { out.row(row) }.quantize(kernels, x.row(row));
        });
    }

    fn matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        self.product(out, w, x, false);
    }

    fn matmul_add(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        self.product(out, w, x, true);
    }

    fn rotations(&mut self, out: &mut Tensor, rope: &Rope) {
        let pairs = rope.frequencies.len();
        assert_eq!(out.cols, 2 * pairs);
        let rows = &self.rows;
        self.workers.share_rows(out.rows_mut(rows.len()), 2 * pairs, &|row, out| {
            let (cosines, sines) = out.split_at_mut(pairs);
            for ((cos, sin), frequency) in cosines.iter_mut().zip(sines).zip(&rope.frequencies) {
                let (s, c) = (f64::from(rows[row].position) * frequency).sin_cos();
                (*sin, *cos) = ((s * rope.magnitude) as f32, (c * rope.magnitude) as f32);
            }
        });
    }

    fn rope_append(&mut self, qkv: &mut Tensor, cache: &mut Cache, rotary: Rotary<'_, Self>, heads: Heads) {
        let rows = &self.rows[..];
        assert_eq!(qkv.cols, heads.qkv_cols());
        let turned = rotary.rotations.cols;
        assert!(turned <= heads.head_dim && turned.is_multiple_of(2));
        cache.check(heads, rows);
        self.counts.ran(Kernel::RopeAppend);
        let turning = Turning::of(self.kernels, rotary, rows.len());
        let (work, qkv, cache) = (rows.len() * qkv.cols, Disjoint::new(qkv.rows_mut(rows.len())), cache.split());
        self.workers.share(work, heads.kv_heads, &|kv_head, _| {
            // SAFETY: each key/value head is one task; `qkv` and the cache are borrowed for this run.
            unsafe { attention::rope_append_head(&qkv, &cache, rows, turning, heads, kv_head) };
        });
    }

    fn attend(&mut self, out: &mut Tensor, qkv: &Tensor, cache: &Cache, heads: Heads) {
        let rows = &self.rows[..];
        assert_eq!((qkv.cols, out.cols), (heads.qkv_cols(), heads.query_cols()));
        cache.check(heads, rows);
        // Of a cache that no room was made for, as tests have them.
        self.attention.reserve(cache, heads, self.workers.threads()).expect("there is memory for a few heads");
        let attention = Attention { kernels: self.kernels, rows, qkv, cache, heads };
        let read = attention.run(&self.workers, &mut self.attention, out.rows_mut(rows.len()));
        self.counts.read(Kernel::Attend, read * cache.position_bytes());
    }

    fn glu(&mut self, out: &mut Tensor, gate_up: &Tensor, activation: Activation) {
        assert_eq!(gate_up.cols, 2 * out.cols);
        self.counts.ran(Kernel::Glu);
        let (kernels, cols) = (self.kernels, out.cols);
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            let (gate, up) = gate_up.row(row).split_at(cols);
            match activation {
                Activation::SquaredRelu => kernels.squared_relu(out, gate, up),
                Activation::Silu => kernels.silu(out, gate, up),
                Activation::Gelu => kernels.gelu(out, gate, up),
            }
        });
    }

    fn norm_selected(&mut self, out: &mut Tensor, x: &Tensor, gain: &Tensor, epsilon: f32) {
        assert_eq!((out.cols, gain.cols), (x.cols, x.cols));
        self.counts.ran(Kernel::NormSelected);
        let (kernels, selected, cols) = (self.kernels, &self.selected, out.cols);
        self.workers.share_rows(out.rows_mut(selected.len()), cols, &|packed, out| {
            let x = x.row(selected[packed]);
            kernels.norm(out, x, tensor::norm_factor(kernels, x, epsilon), gain.row(0));
        });
    }

    fn logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor) {
        let selected = self.selected.len();
        match head.dense() {
            Some(_) => self.all_logits(out, head, x, 0..selected),
            None => self.ternary_logits(out, head, x, selected),
        }
    }

    fn argmax(&mut self, tokens: &mut Vec<u32>, logits: &Tensor) {
        self.counts.ran(Kernel::Choose);
        for (packed, token) in tokens[..self.selected.len()].iter_mut().enumerate() {
            *token = ExactLogits::All(logits.row(packed)).best(self.kernels);
        }
    }

    fn top(&mut self, tokens: &mut Vec<u32>, values: &mut Tensor, count: usize, logits: &Tensor) {
        self.counts.ran(Kernel::Choose);
        for row in 0..self.selected.len() {
            self.write_top(tokens, values, count, row, ExactLogits::All(logits.row(row)));
        }
    }

    fn best(&mut self, tokens: &mut Vec<u32>, logits: &mut Tensor, head: &Matrix, x: &Tensor) {
        self.counts.ran(Kernel::Choose);
        self.enough_logits(logits, head, x, 1, &mut |cpu, row, exact| tokens[row] = exact.best(cpu.kernels));
    }

    fn candidates(
        &mut self,
        tokens: &mut Vec<u32>,
        values: &mut Tensor,
        count: usize,
        logits: &mut Tensor,
        head: &Matrix,
        x: &Tensor,
    ) {
        self.counts.ran(Kernel::Choose);
        let write = &mut |cpu: &mut Self, row, exact: ExactLogits<'_>| cpu.write_top(tokens, values, count, row, exact);
        self.enough_logits(logits, head, x, count, write);
    }

    fn totals(&mut self, out: &mut Tensor, logits: &Tensor, factors: &Tensor) {
        self.add_odds(out, logits, factors);
    }

    fn end(&mut self) {}

    fn heed(&mut self, interrupt: Option<&Interrupt>) {
        self.workers.interrupt = interrupt.cloned();
    }

    fn read_cache(&mut self, cache: &Cache, place: CachePlace, keys: &mut [f32], values: &mut [f32]) -> Result<()> {
        cache.read(place, keys, values);
        Ok(())
    }

    fn write_cache(&mut self, cache: &mut Cache, place: CachePlace, keys: &[f32], values: &[f32]) {
        cache.write(place, keys, values);
    }

    fn copy_prefix(&mut self, cache: &mut Cache, from: u32, to: u32, positions: usize) -> Result<()> {
        cache.copy_prefix(from, to, positions);
        Ok(())
    }

    fn describe(&self) -> String {
        let screened = if self.screener.is_ready() { ", screened head" } else { "" };
        let plural = if self.threads() == 1 { "" } else { "s" };
        format!("cpu, {}, {} thread{plural}{screened}", self.kernels(), self.threads())
    }

    fn cache_shape(&self, cache: &Cache) -> CacheShape {
        cache.shape()
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> u64 {
        matrix.bytes_in_all()
    }

    fn work(&self) -> Work {
        self.counts.work()
    }

    fn cache_bytes(&self, cache: &Cache) -> u64 {
        cache.bytes()
    }

    fn write_tokens(&mut self, tokens: &mut Vec<u32>, ids: &[u32]) {
        tokens[..ids.len()].copy_from_slice(ids);
    }

    fn read_tokens(&mut self, tokens: &Vec<u32>, ids: &mut [u32]) -> Result<()> {
        ids.copy_from_slice(&tokens[..ids.len()]);
        Ok(())
    }

    fn read_rows(&mut self, tensor: &Tensor, first_row: usize, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&tensor.values[first_row * tensor.cols..][..values.len()]);
        Ok(())
    }

    fn write_tensor(&mut self, tensor: &mut Tensor, values: &[f32]) {
        tensor.values[..values.len()].copy_from_slice(values);
    }

    fn read_quantized(&mut self, q: &Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()> {
        for (values, row) in values.chunks_mut(q.cols).zip(q.values.chunks_exact(q.stride)) {
            values.copy_from_slice(&row[..values.len()]);
        }
        scales.copy_from_slice(&q.scales[..scales.len()]);
        Ok(())
    }

    fn write_quantized(&mut self, q: &mut Quantized, values: &[i8], scales: &[f32]) {
        let (kernels, cols, scales_a_row) = (self.kernels, q.cols, q.scales_a_row());
        assert_eq!(values.len() * scales_a_row, scales.len() * cols);
        let rows = q.split();
        for (row, (values, scales)) in values.chunks_exact(cols).zip(scales.chunks_exact(scales_a_row)).enumerate() {
            // SAFETY: one row after the other.
            let mut row = unsafe { rows.row(row) };
            row.values().copy_from_slice(values);
            row.finish(kernels, scales);
        }
    }
}
