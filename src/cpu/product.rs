//! A product of activations and ternary weights, cut into tasks.
//!
//! Few activation rows: a task is a strip of weight rows, which all of them pass over. Many, where the kernels have
//! spans: a task is a tile of activation rows and a span of weight rows, long enough to be worth what is prepared for it; what
//! is left of the activation rows is done in strips. Integer sums are exact either way, and floats are added in the same order,
//! so the cut changes no bit.

use std::ops::Range;

mod values;

use crate::backend::Numerics;
use crate::cpu::Cpu;
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::spans::{PANEL, PanelSums, SET, SPAN, SpanRoom};
use crate::cpu::kernels::{Kernels, SCALES_TOGETHER, TILE_ROWS};
use crate::cpu::matrix::{Matrix, OUTPUTS, Part, SUMS, Strip};
pub(crate) use crate::cpu::product::values::tile_values;
use crate::cpu::product::values::{block_scales, block_tile, scales_of_rows, tile};
use crate::cpu::tensor::{Quantized, Tensor};
use crate::cpu::workers::{Crew, WORTH_SHARING, run_until};

/// Fewest rows of a matrix for spans: what is prepared costs as much as so many rows save, tables about as much as 80.
const FEWEST_OUTPUTS: usize = 128;
/// Tasks for each thread, so that the last to end does not end late.
const TASKS_PER_THREAD: usize = 6;

impl Cpu {
    /// `out = x wᵀ`, or `out += x wᵀ` if `add`, for the rows of this step.
    pub(super) fn product(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, add: bool) {
        self.product_of(self.rows.len(), out, w, x, add, false);
    }

    /// The same for the first `rows` rows, counted as the head's if `is_head`.
    pub(super) fn product_of(
        &mut self,
        rows: usize,
        out: &mut Tensor,
        w: &Matrix,
        x: &Quantized,
        add: bool,
        is_head: bool,
    ) {
        assert_eq!((out.cols, w.cols), (w.rows, x.cols), "the shapes of a product fit");
        let Crew { pool, rooms } = &mut *self.workers.take();
        if self.kernels.span_rows(rows, x.numerics) > 0 {
            // By this thread for all, so that none allocates in a later step.
            rooms.iter_mut().for_each(|room| self.kernels.reserve(room, x.blocks()));
        }
        let (out, rooms) = (Disjoint::new(out.rows_mut(rows)), Disjoint::new(rooms));
        let product = Product { kernels: self.kernels, w, x, out, rows, add, rooms };
        let cut = product.cut(pool.threads());
        if cut.passes_of_spans() > 0 {
            let kernel = match x.numerics {
                _ if is_head => Kernel::TernaryHead,
                Numerics::Int8Groups => Kernel::SpanBlocks,
                _ => Kernel::SpanCodes,
            };
            self.counts.read(kernel, cut.passes_of_spans() * w.bytes);
        }
        if cut.has_strips() {
            let kernel = match x.numerics {
                _ if is_head => Kernel::TernaryHead,
                Numerics::Int8Rows if w.grouped => Kernel::DotCodesGrouped,
                Numerics::Int8Rows => Kernel::DotCodes,
                Numerics::Int8Groups => Kernel::DotBlocks,
                Numerics::Float => Kernel::DotFloats,
            };
            self.counts.read(kernel, w.bytes);
        }
        let run = |task, thread| {
            // SAFETY: each task is handed out once, a thread runs one at a time, and all is borrowed for this run.
            unsafe { product.run(cut, task, thread) };
        };
        match rows * w.rows * w.cols / 16 < WORTH_SHARING {
            true => (0..cut.tasks()).for_each(|task| run(task, 0)),
            false => run_until(self.workers.interrupt.as_ref(), pool, cut.tasks(), &run),
        }
    }
}

/// `out = x wᵀ`, or `out += x wᵀ` if `add`, for the first `rows` activation rows.
pub(crate) struct Product<'a> {
    pub(crate) kernels: &'a dyn Kernels,
    pub(crate) w: &'a Matrix,
    pub(crate) x: &'a Quantized,
    pub(crate) out: Disjoint<'a, f32>, // [rows, w.rows]
    pub(crate) rows: usize,
    pub(crate) add: bool,
    pub(crate) rooms: Disjoint<'a, SpanRoom>, // [threads], if the kernels have spans
}

/// How a product is cut: first tiles times spans, then the strips.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    tiles: usize,
    tile_rows: usize, // of all tiles but the last, whole sets
    rows_in_tiles: usize,
    span: usize, // rows of a span, at most, but for whole panels
    spans: usize,
    strips: usize,
}

impl Cut {
    pub(crate) fn tasks(&self) -> usize {
        self.tiles * self.spans + self.strips
    }

    /// How often all weights are read span by span.
    pub(crate) fn passes_of_spans(&self) -> usize {
        self.tiles
    }

    /// Whether some activation rows are multiplied strip by strip, which reads all weights once.
    pub(crate) fn has_strips(&self) -> bool {
        self.strips > 0
    }
}

/// What the outputs of a panel have one of each.
type Values = [f32; PANEL];

impl Product<'_> {
    /// Decides how to cut.
    pub(crate) fn cut(&self, threads: usize) -> Cut {
        let fits = match self.x.numerics {
            Numerics::Int8Groups => true,
            _ => !self.w.grouped, // there is one sum for all of a weight row
        };
        let rows_in_tiles = match fits && self.w.rows >= FEWEST_OUTPUTS {
            true => self.kernels.span_rows(self.rows, self.x.numerics),
            false => 0,
        };
        let limits = self.kernels.span_limits();
        let (sets, tiles) = (rows_in_tiles.div_ceil(SET), rows_in_tiles.div_ceil(limits.rows));
        let tile_rows = sets.div_ceil(tiles.max(1)) * SET;
        let span = (self.w.rows * tiles / (threads * TASKS_PER_THREAD)).clamp(limits.shortest, SPAN);
        let spans = self.w.parts.iter().map(|part| spans_of(part, span).0).sum();
        let strips = if rows_in_tiles < self.rows { self.w.strips() } else { 0 };
        Cut { tiles, tile_rows, rows_in_tiles, span, spans, strips }
    }

    /// Runs one task.
    ///
    /// # Safety
    /// No two calls with the same task may run at the same time, nor two with the same `thread`, nor anything else that
    /// uses `out` or `rooms`.
    pub(crate) unsafe fn run(&self, cut: Cut, task: usize, thread: usize) {
        if let Some(strip) = task.checked_sub(cut.tiles * cut.spans) {
            let Strip { part, rows: outputs } = &self.w.strips[strip];
            // SAFETY: a strip is one task, and tiles have other activation rows.
            return unsafe { self.strip(&self.w.parts[*part], outputs.clone(), cut.rows_in_tiles..self.rows) };
        }
        let (mut span, first) = (task / cut.tiles, task % cut.tiles * cut.tile_rows);
        let rows = first..cut.rows_in_tiles.min(first + cut.tile_rows);
        for part in &self.w.parts {
            let (spans, len) = spans_of(part, cut.span);
            if span < spans {
                let outputs = span * len..part.weights.rows().min((span + 1) * len);
                // SAFETY: each thread has its own, says the caller.
                let room = unsafe { self.rooms.cut(thread..thread + 1) };
                // SAFETY: a tile and a span are one task, and strips have other activation rows.
                return unsafe { self.span(&mut room[0], part, outputs, rows) };
            }
            span -= spans;
        }
    }

    /// # Safety
    /// Nothing else may use these columns of these rows of `out` meanwhile.
    unsafe fn strip(&self, part: &Part, outputs: Range<usize>, rows: Range<usize>) {
        let mut values = [0.0f32; SUMS];
        for first_output in outputs.clone().step_by(OUTPUTS) {
            let outputs = first_output..outputs.end.min(first_output + OUTPUTS);
            for first in rows.clone().step_by(TILE_ROWS) {
                let rows = first..rows.end.min(first + TILE_ROWS);
                let values = &mut values[..outputs.len() * rows.len()];
                let (outputs, tile_rows) = (outputs.clone(), rows.clone());
                tile_values(self.kernels, values, part, self.x, outputs.clone(), tile_rows);
                for (row, values) in rows.zip(values.chunks_exact(outputs.len())) {
                    // SAFETY: these columns are the caller's.
                    let out = unsafe { self.outputs(part, &outputs, row) };
                    match self.add {
                        true => out.iter_mut().zip(values).for_each(|(o, v)| *o += v),
                        false => out.copy_from_slice(values),
                    }
                }
            }
        }
    }

    /// # Safety
    /// As for [`Product::strip`].
    unsafe fn span(&self, room: &mut SpanRoom, part: &Part, outputs: Range<usize>, rows: Range<usize>) {
        let (x, w) = (self.x, part.trits());
        let blocks = x.blocks();
        if x.numerics == Numerics::Int8Groups {
            let tile = block_tile(w, x, &outputs, &rows, 0..blocks);
            let take_scales = |first: usize, scales: &mut [[f32; SCALES_TOGETHER]]| {
                block_scales(self.kernels, part, scales, outputs.start + first, 0..blocks);
            };
            return self.kernels.span_blocks(room, &tile, &take_scales, &mut |first, sums| {
                let scaled = |values: &mut [f32], sums: &Values, scales: &Values, _| {
                    values.iter_mut().zip(sums).zip(scales).for_each(|((value, sum), scale)| *value = sum * scale);
                };
                // SAFETY: these columns of these rows are the caller's.
                unsafe { self.write_panel(part, &outputs, &rows, first, sums, scaled) };
            });
        }
        let tile = tile(w, x, &outputs, &rows, 0..blocks, blocks);
        let mut take = |first: usize, sums: &PanelSums<i32>| {
            let scaled = |values: &mut [f32], sums: &[i32; PANEL], scales: &Values, row: usize| {
                self.kernels.scale_sums(values, sums, scales, x.scales[row]);
            };
            // SAFETY: as above.
            unsafe { self.write_panel(part, &outputs, &rows, first, sums, scaled) };
        };
        if !self.kernels.span_codes(room, &tile, &x.sums[rows.clone()], &mut take) {
            // A code that is no trit, which only unchecked files hold.
            // SAFETY: the same columns and rows.
            unsafe { self.strip(part, outputs, rows) };
        }
    }

    /// Writes the values of a panel of the weight rows `outputs`, the first of them `first`: `scaled(values, sums, scales of the weight
    /// rows, activation row)`.
    ///
    /// # Safety
    /// As for [`Product::strip`].
    unsafe fn write_panel<T: Copy>(
        &self,
        part: &Part,
        outputs: &Range<usize>,
        rows: &Range<usize>,
        first: usize,
        sums: &PanelSums<T>,
        scaled: impl Fn(&mut [f32], &[T; PANEL], &Values, usize),
    ) {
        let panel = outputs.start + first..outputs.end.min(outputs.start + first + PANEL);
        let (w, mut scales, mut values) = (part.trits(), [0.0; PANEL], [0.0; PANEL]);
        scales_of_rows(&mut scales[..panel.len()], w, panel.clone());
        for (row, sums) in rows.clone().zip(sums) {
            // SAFETY: these columns are the caller's.
            let out = unsafe { self.outputs(part, &panel, row) };
            match self.add {
                true => {
                    scaled(&mut values, sums, &scales, row);
                    out.iter_mut().zip(&values).for_each(|(o, v)| *o += v);
                }
                // Where they belong at once: a copy would wait for the stores before it.
                false => scaled(out, sums, &scales, row),
            }
        }
    }

    /// # Safety
    /// Nothing else may use these columns of this row of `out` meanwhile.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "as of `Disjoint::cut`, which it is")]
    unsafe fn outputs(&self, part: &Part, outputs: &Range<usize>, row: usize) -> &mut [f32] {
        let begin = row * self.w.rows + part.first_row + outputs.start;
        // SAFETY: the caller's promise.
        unsafe { self.out.cut(begin..begin + outputs.len()) }
    }
}

/// How many spans of at most `span` rows there are, and how long they are: equal lengths, rather than full ones and a short last one,
/// of whole panels.
fn spans_of(part: &Part, span: usize) -> (usize, usize) {
    let rows = part.weights.rows();
    let len = rows.div_ceil(rows.div_ceil(span)).next_multiple_of(PANEL);
    (rows.div_ceil(len), len)
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};

    use crate::backend::{Backend, Numerics, Row};
    use crate::cpu::kernels::{KernelSet, SCALED_BLOCKS};
    use crate::cpu::{Cpu, CpuOptions};
    use crate::format::{Scales, Ternary, Weights};

    /// Rows whose scales are not all at hand together: pieces of them are added as panels add whole rows.
    #[test]
    fn long_rows_of_blocks_give_the_same_bits_alone_and_with_many() {
        const ROWS: usize = 26;
        let (outputs, cols) = (130, (2 * SCALED_BLOCKS + 3) * 128);
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut random = || generator.next_u32() >> 16;
        let codes: Vec<u8> = (0..outputs * cols / 4).map(|_| random() as u8 & 0b1010_1010).collect();
        let values = (0..outputs * cols.div_ceil(256)).map(|_| 0.5 + (random() % 512) as f32 / 1024.0).collect();
        let scales = Scales::Groups { columns: 256, values };
        let weights = [Weights::Ternary(Ternary::new(outputs, cols, codes.into(), scales).unwrap())];
        let x: Vec<i8> = (0..ROWS * cols).map(|_| random() as i8).collect();
        let x_scales: Vec<f32> = (0..ROWS * cols / 128).map(|_| 1.0 + (random() % 100) as f32).collect();
        for kernels in KernelSet::available() {
            let options = CpuOptions { threads: Some(2), kernels: Some(kernels), ..CpuOptions::default() };
            let mut cpu = Cpu::new(&options).unwrap();
            let matrix = cpu.matrix(&weights).unwrap();
            let mut product = |rows: std::ops::Range<usize>| {
                let step = |i: usize| Row { sequence: 0, position: i as u32, wants_logits: false };
                cpu.begin(&(0..rows.len()).map(step).collect::<Vec<_>>());
                let mut q = cpu.quantized(rows.len(), cols, Numerics::Int8Groups).unwrap();
                let (x, x_scales) = (x.chunks(cols), x_scales.chunks(cols / 128));
                let x: Vec<&[i8]> = x.skip(rows.start).take(rows.len()).collect();
                let x_scales: Vec<&[f32]> = x_scales.skip(rows.start).take(rows.len()).collect();
                cpu.write_quantized(&mut q, &x.concat(), &x_scales.concat());
                let mut out = cpu.tensor(rows.len(), outputs).unwrap();
                cpu.matmul(&mut out, &matrix, &q);
                out.rows_mut(rows.len()).iter().map(|value| value.to_bits()).collect::<Vec<u32>>()
            };
            let together = product(0..ROWS);
            for row in 0..ROWS {
                assert_eq!(product(row..row + 1), together[row * outputs..][..outputs], "{kernels}: row {row}");
            }
        }
    }
}
