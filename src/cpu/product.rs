//! A product of activations and ternary weights, cut into tasks.
//!
//! Few activation rows: a task is a strip of weight rows, which all of them pass over. Many, where the kernels have
//! tables: a task is a tile of activation rows and a span of weight rows, long enough to be worth the tables; what is
//! left of the activation rows is done in strips. Integer sums are exact either way, so the cut changes no bit.

use std::ops::Range;

mod values;

use crate::backend::Numerics;
use crate::cpu::Cpu;
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::tables::{SETS, SPAN, TABLE_ROWS, Tables};
use crate::cpu::kernels::{Kernels, TILE_ROWS};
use crate::cpu::matrix::{Matrix, OUTPUTS, Part, SUMS, Strip};
use crate::cpu::product::values::tile;
pub(crate) use crate::cpu::product::values::tile_values;
use crate::cpu::tensor::{Quantized, Tensor};
use crate::cpu::workers::{Crew, WORTH_SHARING, run_until};
use crate::format::{Scales, Ternary, Weights};

/// Fewest rows of a matrix for tables: building them costs about as much as 80 rows save.
const FEWEST_OUTPUTS: usize = 128;
/// A span is not cut shorter than this to give every thread work.
const SHORTEST_SPAN: usize = 320;
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
        let Crew { pool, tables } = &mut *self.workers.take();
        if self.kernels.fewest_table_rows().is_some_and(|fewest| rows >= fewest) {
            // By this thread for all, so that none allocates in a later step.
            tables.iter_mut().for_each(|tables| self.kernels.reserve(tables, x.blocks()));
        }
        let (out, tables) = (Disjoint::new(out.rows_mut(rows)), Disjoint::new(tables));
        let product = Product { kernels: self.kernels, w, x, out, rows, add, tables };
        let cut = product.cut(pool.threads());
        if cut.passes_of_tables() > 0 {
            let kernel = if is_head { Kernel::TernaryHead } else { Kernel::DotTables };
            self.counts.read(kernel, cut.passes_of_tables() * w.bytes);
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
    pub(crate) tables: Disjoint<'a, Tables>, // [threads], if the kernels have tables
}

/// How a product is cut: first tiles times spans, then the strips.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    tiles: usize,
    tile_rows: usize, // of all tiles but the last, whole sets
    rows_in_tiles: usize,
    span: usize, // rows of a span, at most
    spans: usize,
    strips: usize,
}

impl Cut {
    pub(crate) fn tasks(&self) -> usize {
        self.tiles * self.spans + self.strips
    }

    /// How often all weights are read by look-ups in tables.
    pub(crate) fn passes_of_tables(&self) -> usize {
        self.tiles
    }

    /// Whether some activation rows are multiplied strip by strip, which reads all weights once.
    pub(crate) fn has_strips(&self) -> bool {
        self.strips > 0
    }
}

impl Product<'_> {
    /// Decides how to cut.
    pub(crate) fn cut(&self, threads: usize) -> Cut {
        let whole_rows = self.x.numerics == Numerics::Int8Rows;
        let with_tables = whole_rows && self.w.rows >= FEWEST_OUTPUTS && self.w.parts.iter().all(|part| !grouped(part));
        let sets = match self.kernels.fewest_table_rows().filter(|&fewest| with_tables && self.rows >= fewest) {
            Some(_) => self.rows / TABLE_ROWS + usize::from(self.rows % TABLE_ROWS >= self.kernels.fewest_in_set()),
            None => 0,
        };
        let tiles = sets.div_ceil(SETS);
        let tile_rows = sets.div_ceil(tiles.max(1)) * TABLE_ROWS;
        let rows_in_tiles = self.rows.min(sets * TABLE_ROWS);
        let span = (self.w.rows * tiles / (threads * TASKS_PER_THREAD)).clamp(SHORTEST_SPAN, SPAN);
        let spans = self.w.parts.iter().map(|part| spans_of(part, span)).sum();
        let strips = if rows_in_tiles < self.rows { self.w.strips() } else { 0 };
        Cut { tiles, tile_rows, rows_in_tiles, span, spans, strips }
    }

    /// Runs one task.
    ///
    /// # Safety
    /// No two calls with the same task may run at the same time, nor two with the same `thread`, nor anything else that
    /// uses `out` or `tables`.
    pub(crate) unsafe fn run(&self, cut: Cut, task: usize, thread: usize) {
        if let Some(strip) = task.checked_sub(cut.tiles * cut.spans) {
            let Strip { part, rows: outputs } = &self.w.strips[strip];
            // SAFETY: a strip is one task, and tiles have other activation rows.
            return unsafe { self.strip(&self.w.parts[*part], outputs.clone(), cut.rows_in_tiles..self.rows) };
        }
        let (mut span, first) = (task / cut.tiles, task % cut.tiles * cut.tile_rows);
        let rows = first..cut.rows_in_tiles.min(first + cut.tile_rows);
        for part in &self.w.parts {
            let spans = spans_of(part, cut.span);
            if span < spans {
                // Equal lengths, rather than full ones and a short last one.
                let len = part.weights.rows().div_ceil(spans);
                let outputs = span * len..part.weights.rows().min((span + 1) * len);
                // SAFETY: each thread has its own, says the caller.
                let tables = unsafe { self.tables.cut(thread..thread + 1) };
                // SAFETY: a tile and a span are one task, and strips have other activation rows.
                return unsafe { self.span(&mut tables[0], part, outputs, rows) };
            }
            span -= spans;
        }
    }

    /// # Safety
    /// Nothing else may use these columns of these rows of `out` meanwhile.
    unsafe fn strip(&self, part: &Part, outputs: Range<usize>, rows: Range<usize>) {
        let (x, w) = (self.x, ternary(part));
        let mut values = [0.0f32; SUMS];
        for first_output in outputs.clone().step_by(OUTPUTS) {
            let outputs = first_output..outputs.end.min(first_output + OUTPUTS);
            for first in rows.clone().step_by(TILE_ROWS) {
                let rows = first..rows.end.min(first + TILE_ROWS);
                let values = &mut values[..outputs.len() * rows.len()];
                let (outputs, tile_rows) = (outputs.clone(), rows.clone());
                tile_values(self.kernels, values, w, x, outputs.clone(), tile_rows);
                for (row, values) in rows.zip(values.chunks_exact(outputs.len())) {
                    // SAFETY: these columns are the caller's.
                    unsafe { self.write(part, &outputs, row, values) };
                }
            }
        }
    }

    /// # Safety
    /// As for [`Product::strip`].
    unsafe fn span(&self, tables: &mut Tables, part: &Part, outputs: Range<usize>, rows: Range<usize>) {
        let (x, w) = (self.x, ternary(part));
        let blocks = x.blocks();
        if !self.kernels.dot_tables(tables, &tile(w, x, &outputs, &rows, 0..blocks, blocks)) {
            // A code that is no trit, which only unchecked files hold.
            // SAFETY: the same columns and rows.
            return unsafe { self.strip(part, outputs, rows) };
        }
        let mut values = [0.0f32; OUTPUTS];
        for first in outputs.clone().step_by(OUTPUTS) {
            let strip = first..outputs.end.min(first + OUTPUTS);
            let values = &mut values[..strip.len()];
            for (i, row) in rows.clone().enumerate() {
                let sums = &tables.sums[i / TABLE_ROWS][first - outputs.start..];
                for ((value, output), sums) in values.iter_mut().zip(strip.clone()).zip(sums) {
                    *value = sums[i % TABLE_ROWS] as f32 * (w.scale(output, 0) / x.scales[row]);
                }
                // SAFETY: these columns are the caller's.
                unsafe { self.write(part, &strip, row, values) };
            }
        }
    }

    /// # Safety
    /// Nothing else may use these columns of this row of `out` meanwhile.
    unsafe fn write(&self, part: &Part, outputs: &Range<usize>, row: usize, values: &[f32]) {
        let begin = row * self.w.rows + part.first_row + outputs.start;
        // SAFETY: the caller's promise.
        let out = unsafe { self.out.cut(begin..begin + values.len()) };
        if self.add {
            out.iter_mut().zip(values).for_each(|(o, v)| *o += *v);
        } else {
            out.copy_from_slice(values);
        }
    }
}

fn ternary(part: &Part) -> &Ternary {
    let Weights::Ternary(w) = &part.weights else { panic!("a linear layer is ternary") };
    w
}

/// Whether scales change within a weight row; tables have one sum for all of it.
fn grouped(part: &Part) -> bool {
    matches!(ternary(part).scales(), Scales::Groups { .. })
}

/// Spans of at most `span` rows.
fn spans_of(part: &Part, span: usize) -> usize {
    part.weights.rows().div_ceil(span)
}
