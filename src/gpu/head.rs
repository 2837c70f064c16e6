//! Both ends of a model: the rows of the embedding, the products of the head, and the tokens that are chosen from them.

use crate::backend::{Backend, MOST_CANDIDATES, Numerics, Reads};
use crate::error::Result;
use crate::gpu::buffers::Buffer;
use crate::gpu::layout::{elementwise, grid, matvec_shape};
use crate::gpu::product::Rows;
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::{Format, Output, Shader};
use crate::gpu::{Gpu, Matrix, Tensor, Tokens, step};

/// Logits that one workgroup looks at for the best.
pub(super) const STRETCH: usize = 4096;

impl Gpu {
    /// One dispatch for each shard of the table: each writes the rows whose tokens it holds.
    pub(super) fn look_up(&mut self, out: &mut Tensor, table: &Matrix, tokens: &Tokens) {
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
            let groups = elementwise(rows, table.cols);
            self.run(Shader::Embed { table: table.format }, &params, &buffers, groups, 0);
        }
    }

    /// Makes room for the input of a ternary head.
    pub(super) fn ternary_head_room(&mut self, head: &Matrix, rows: usize, numerics: Numerics) -> Result<()> {
        self.head_input = Some(self.quantized(rows, head.cols, numerics)?);
        if self.selected_count.is_none() {
            self.selected_count = Some(self.storage("step", step::COUNT_BYTES)?);
        }
        Ok(())
    }

    /// The product of a ternary head, as linear layers have it.
    fn ternary_head_product(&mut self, out: &Tensor, head: &Matrix, x: &Tensor) {
        let input = self.head_input.take().expect("room was made for a ternary head");
        let step = self.selected_count.clone().expect("made with the input");
        self.quantize_rows(&input, x, None, self.selected.len());
        let rows = Rows { count: self.selected.len(), step: &step, reads: Reads::Head };
        self.product(out, head, &input, Output::Store, &rows);
        self.head_input = Some(input);
    }

    pub(super) fn head_product(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor) {
        assert_eq!((out.cols, head.cols), (head.rows, x.cols));
        assert!(self.selected.len() <= out.max_rows && self.selected.len() <= x.max_rows);
        if head.format == Format::Ternary {
            return self.ternary_head_product(out, head, x);
        }
        self.dense_product(out, head, x, self.selected.len(), false);
    }

    /// The products with dense weights: of the first `rows` rows, which are those that want logits, packed together, or `all`.
    pub(super) fn dense_product(&mut self, out: &Tensor, head: &Matrix, x: &Tensor, rows: usize, all: bool) {
        assert_eq!((out.cols, head.cols), (head.rows, x.cols));
        assert_ne!(head.format, Format::Ternary, "the weights are dense");
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
            let shape = matvec_shape(rows, shard.rows, self.device.0.few_rows.wide);
            let [x_groups, y_groups, _] = grid(shard.rows.div_ceil(shape.outputs_of_group()));
            let groups = [x_groups, y_groups, rows.div_ceil(shape.rows as usize)];
            let buffers = [&step, &shard.weights, &shard.scales, &x.buffer, &out.buffer];
            let bytes = (shard.rows * head.row_bytes) as u64;
            let shader = Shader::Logits { head: head.format, shape, aligned: head.cols.is_multiple_of(4), all };
            let reads = if all { Reads::Nothing } else { Reads::Head };
            self.recorder.dispatch(&Dispatch { shader, params: &params, buffers: &buffers, groups, bytes, reads });
        }
    }

    pub(super) fn choose_best(&mut self, tokens: &mut Tokens, logits: &Tensor) {
        assert!(self.selected.len() <= tokens.max_rows && self.selected.len() <= logits.max_rows);
        let best = self.best_of_stretches(&logits.buffer, logits.cols);
        let stretches = logits.cols.div_ceil(STRETCH);
        let params = [stretches as u32, stretches as u32];
        self.run(Shader::ArgmaxLast, &params, &[&best, &tokens.buffer], [1, self.selected.len(), 1], 0);
        self.bring(&tokens.buffer, self.selected.len() * 4);
    }

    /// The best of each stretch of the selected rows' values, `[selected, stretches]`: its key and its token.
    pub(super) fn best_of_stretches(&mut self, values: &Buffer, cols: usize) -> Buffer {
        let (selected, stretches) = (self.selected.len(), cols.div_ceil(STRETCH));
        let best = self.scratch(|gpu| &mut gpu.stretches, "stretches", (selected * stretches * 8) as u64);
        let params = [cols as u32, STRETCH as u32];
        self.run(Shader::ArgmaxFirst, &params, &[values, &best], [stretches, selected, 1], 0);
        best
    }

    pub(super) fn choose_top(&mut self, tokens: &mut Tokens, values: &mut Tensor, count: usize, logits: &Tensor) {
        let selected = self.selected.len();
        assert!(count <= MOST_CANDIDATES && values.cols == MOST_CANDIDATES);
        assert!(selected * MOST_CANDIDATES <= tokens.max_rows && selected <= values.max_rows.min(logits.max_rows));
        let (found, params) = self.top_of_stretches(&logits.buffer, logits.cols, count);
        let buffers = [&found, &tokens.buffer, &values.buffer];
        self.run(Shader::TopLast, &params, &buffers, [1, selected, 1], 0);
        self.bring(&tokens.buffer, selected * MOST_CANDIDATES * 4);
        self.bring(&values.buffer, selected * MOST_CANDIDATES * 4);
    }

    /// The `count`-th best of the selected rows' values, `[selected]`: its key and its token.
    pub(super) fn last_of_top(&mut self, values: &Buffer, cols: usize, count: usize) -> Buffer {
        let selected = self.selected.len();
        let (found, params) = self.top_of_stretches(values, cols, count);
        let last = self.scratch(|gpu| &mut gpu.floor, "floors", selected as u64 * 8);
        self.run(Shader::TopFloor, &params, &[&found, &last], [1, selected, 1], 0);
        last
    }

    /// The `count` best of each stretch, and the parameters of the shader that finds the best of them.
    fn top_of_stretches(&mut self, values: &Buffer, cols: usize, count: usize) -> (Buffer, [u32; 3]) {
        let (selected, stretches) = (self.selected.len(), cols.div_ceil(STRETCH));
        let found = stretches * count;
        let best = self.scratch(|gpu| &mut gpu.stretches, "stretches", (selected * found * 8) as u64);
        let params = [cols, count, STRETCH].map(|n| n as u32);
        self.run(Shader::TopFirst, &params, &[values, &best], [stretches, selected, 1], 0);
        (best, [found, count, found].map(|n| n as u32))
    }

    pub(super) fn add_odds(&mut self, out: &mut Tensor, logits: &Tensor, factors: &Tensor) {
        let selected = self.selected.len();
        assert!(out.cols == 2 && factors.cols == 1);
        assert!([out.max_rows, logits.max_rows, factors.max_rows].iter().all(|&rows| selected <= rows));
        let buffers = [&logits.buffer, &factors.buffer, &out.buffer];
        self.run(Shader::Totals, &[logits.cols as u32], &buffers, [selected, 1, 1], 0);
        self.bring(&out.buffer, selected * 8);
    }

    /// Makes ready for the host what a step chose, in the same submit. A failure is told by the read that follows.
    fn bring(&mut self, from: &Buffer, bytes: usize) {
        if let Err(fault) = self.recorder.stage(from, 0, bytes as u64) {
            self.recorder.fail(fault);
        }
    }
}
