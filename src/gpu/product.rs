//! Products of ternary weights: quantised activations or floats in, one dispatch for each shard of the weights.

use crate::backend::{Activation, Backend, Norm, Numerics, Reads};
use crate::gpu::buffers::Buffer;
use crate::gpu::cooperative::Cooperative;
use crate::gpu::layout::{Way, elementwise, grid, matvec_shape, norm_matvec_shape};
use crate::gpu::limits::TILE;
use crate::gpu::matrix::Shard;
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::{Format, Input, Output, Product, RowsOf, Scaling, Shader, Shape};
use crate::gpu::{Gpu, MATVEC_ROWS, Matrix, Quantized, Tensor};

/// The rows that a product is made of: those of the step, or those that want logits, packed together.
pub(super) struct Rows<'a> {
    pub(super) count: usize,
    /// The same count, for shaders: `struct Step`, of which products know nothing else.
    pub(super) step: &'a Buffer,
    /// What the weights count as.
    pub(super) reads: Reads,
}

impl<'a> Rows<'a> {
    /// Those of the step.
    pub(super) fn of_step(count: usize, step: &'a Buffer) -> Self {
        Self { count, step, reads: Reads::Trits }
    }
}

impl Gpu {
    /// The first `rows` rows of `x`, normed or not, as linear layers take them.
    pub(super) fn quantize_rows(&mut self, out: &Quantized, x: &Tensor, norm: Option<Norm<'_, Self>>, rows: usize) {
        assert_eq!(out.cols, x.cols);
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        let (gain, epsilon) = norm.map_or((x, 0.0), |norm| (norm.gain, norm.epsilon));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let (cols, norm) = (x.cols as u32, norm.is_some());
        let int8 = [&x.buffer, &gain.buffer, &out.values, &out.facts];
        match out.numerics {
            Numerics::Int8Rows => {
                self.run(Shader::NormQuantize { norm, cols }, &[epsilon.to_bits()], &int8, [rows, 1, 1], 0);
            }
            Numerics::Int8Groups => {
                self.run(Shader::NormQuantizeBlocks { norm, cols }, &[epsilon.to_bits()], &int8, [rows, 1, 1], 0);
            }
            Numerics::Float if norm => {
                let buffers = [&self.step(), &x.buffer, &gain.buffer, &out.values];
                let shader = Shader::Norm { selected: false, add: false };
                self.run(shader, &[cols, out.words() as u32, epsilon.to_bits()], &buffers, [rows, 1, 1], 0);
            }
            Numerics::Float => {
                let (words, groups) = (out.words() as u32, elementwise(rows, out.words()));
                self.run(Shader::Place, &[cols, words, 0, words], &[&x.buffer, &out.values], groups, 0);
            }
        }
    }

    pub(super) fn product(&mut self, out: &Tensor, w: &Matrix, x: &Quantized, output: Output, rows: &Rows<'_>) {
        assert_eq!((out.cols, w.cols), (w.rows, x.cols), "the shapes of a product fit");
        assert!(rows.count <= out.max_rows && rows.count <= x.max_rows);
        let reads = rows.reads;
        for shard in &w.shards {
            if rows.count > MATVEC_ROWS && x.numerics != Numerics::Float {
                let shader = self.tiled(w, x.numerics, output, (rows.count, shard.rows));
                self.multiply_tiles(out, w, shard, x, rows, shader);
                continue;
            }
            let params = product_params(w, shard, out.cols);
            let bytes = (shard.rows * w.row_bytes) as u64;
            let wide = self.device.0.few_rows.wide;
            let shape = matvec_shape(rows.count, shard.rows, wide).for_pieces(w.pieces());
            if x.numerics == Numerics::Float {
                assert_eq!(w.format, Format::Ternary, "a linear layer is ternary");
                let shader = Shader::MatvecFloats { output, shape, of: RowsOf::Step };
                let buffers = [rows.step, &shard.weights, &shard.scales, &x.values, &out.buffer];
                let (params, groups) = (&params[..7], matvec_groups(shape, shard, rows));
                self.recorder.dispatch(&Dispatch { shader, params, buffers: &buffers, groups, bytes, reads });
            } else {
                let product = self.kind_of_product(w, x.numerics, output);
                let buffers = [rows.step, &shard.weights, &shard.scales, &out.buffer, &x.values, &x.facts];
                let shader = Shader::Matvec { product, shape, input: Input::Quantized { of: RowsOf::Step } };
                let (params, groups) = (&params[..], matvec_groups(shape, shard, rows));
                self.recorder.dispatch(&Dispatch { shader, params, buffers: &buffers, groups, bytes, reads });
            }
        }
    }

    /// The shader of a product of many rows, of so many outputs of a matrix.
    fn tiled(&self, w: &Matrix, numerics: Numerics, output: Output, (rows, outputs): (usize, usize)) -> Shader {
        let scaling = self.kind_of_product(w, numerics, output).scaling;
        let cut = self.device.0.cooperative.cut(rows, outputs).filter(|_| Cooperative::is_exact(w.cols));
        match cut.filter(|_| scaling == Scaling::Rows) {
            Some(cut) => Shader::MatmulCooperative { output, cut },
            None => self.way_of_many(scaling).matmul(scaling, output),
        }
    }

    /// How many rows are multiplied without cooperative matrices: as it was tried, where weight rows have one scale each.
    pub(super) fn way_of_many(&self, scaling: Scaling) -> Way {
        match scaling {
            Scaling::Rows => self.device.0.many_rows,
            _ => self.device.0.few_rows,
        }
    }

    /// A product of many rows with a shard of a matrix, by a shader of that kind.
    pub(super) fn multiply_tiles(
        &mut self,
        out: &Tensor,
        w: &Matrix,
        shard: &Shard,
        x: &Quantized,
        rows: &Rows<'_>,
        shader: Shader,
    ) {
        let tile = match shader {
            Shader::MatmulCooperative { cut, .. } => cut.tile as usize,
            _ => TILE,
        };
        let params = product_params(w, shard, out.cols);
        let groups = [shard.rows.div_ceil(tile), rows.count.div_ceil(tile), 1];
        let buffers = [rows.step, &shard.weights, &shard.scales, &x.values, &x.facts, &out.buffer];
        let params = &params[..shader.params().count()];
        let bytes = (shard.rows * w.row_bytes) as u64;
        self.recorder.dispatch(&Dispatch { shader, params, buffers: &buffers, groups, bytes, reads: rows.reads });
    }

    /// The rows of the step as linear layers take them: turned, where `out` asks for it.
    pub(super) fn take_rows(&mut self, out: &mut Quantized, x: &Tensor, norm: Option<Norm<'_, Self>>) {
        let rows = self.rows.len();
        self.with_turned(out, x, norm, rows, |gpu, out, x, norm| gpu.quantize_rows(out, x, norm, rows));
    }

    /// A product with what a norm makes of `x`, or `x` itself, in one dispatch where that can be.
    pub(super) fn fused_product(
        &mut self,
        out: &mut Tensor,
        normed: &mut Quantized,
        w: &Matrix,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
        output: Output,
    ) {
        let rows = self.rows.len();
        self.with_turned(normed, x, norm, rows, |gpu, normed, x, norm| {
            if !gpu.norm_product(out, normed.numerics, w, x, norm, output) {
                gpu.quantize_rows(normed, x, norm, rows);
                let step = gpu.step();
                gpu.product(out, w, normed, output, &Rows::of_step(rows, &step));
            }
        });
    }

    /// The same of gates and ups, and the gated unit.
    #[expect(clippy::too_many_arguments, reason = "what the verb takes")]
    pub(super) fn fused_glu(
        &mut self,
        out: &mut Tensor,
        gate_up: &mut Tensor,
        normed: &mut Quantized,
        w: &Matrix,
        x: &Tensor,
        norm: Norm<'_, Self>,
        activation: Activation,
    ) {
        let rows = self.rows.len();
        self.with_turned(normed, x, Some(norm), rows, |gpu, normed, x, norm| {
            if !gpu.norm_product(out, normed.numerics, w, x, norm, Output::Glu(activation)) {
                gpu.fused_product(gate_up, normed, w, x, norm, Output::Store);
                gpu.glu(out, gate_up, activation);
            }
        });
    }

    /// The product of a step's one row, normalised and quantised on the way; false where that cannot be done in one.
    pub(super) fn norm_product(
        &mut self,
        out: &mut Tensor,
        numerics: Numerics,
        w: &Matrix,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
        output: Output,
    ) -> bool {
        let glu = matches!(output, Output::Glu(_));
        let fuses = self.fuses && self.rows.len() == 1 && numerics != Numerics::Float;
        let product = self.kind_of_product(w, numerics, output);
        let shape = norm_matvec_shape(w.cols, w.rows, glu, product.scaling).filter(|_| fuses);
        let Some(shape) = shape.filter(|_| !glu || w.shards.len() == 1) else { return false };
        assert_eq!(
            (if glu { 2 * out.cols } else { out.cols }, x.cols),
            (w.rows, w.cols),
            "the shapes of a product fit"
        );
        assert!(self.rows.len() <= out.max_rows && self.rows.len() <= x.max_rows);
        let (gain, epsilon) = norm.as_ref().map_or((x, 0.0), |norm| (norm.gain, norm.epsilon));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let input = Input::Floats { norm: norm.is_some(), cols: w.cols as u32 };
        let step = self.step();
        for shard in &w.shards {
            let mut params = product_params(w, shard, out.cols);
            params[7] = epsilon.to_bits();
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

    /// Columns of `x` in the place of others of `out`.
    pub(super) fn place_columns(&mut self, out: &Tensor, first_col: usize, x: &Tensor) {
        let rows = self.rows.len();
        assert!(first_col + x.cols <= out.cols && rows <= out.max_rows && rows <= x.max_rows);
        let params = [x.cols, x.cols, first_col, out.cols].map(|n| n as u32);
        self.run(Shader::Place, &params, &[&x.buffer, &out.buffer], elementwise(rows, x.cols), 0);
    }

    /// The gated unit, of rows whose gates and ups are there.
    pub(super) fn gated_unit(&mut self, out: &Tensor, gate_up: &Tensor, activation: Activation) {
        let rows = self.rows.len();
        assert_eq!(gate_up.cols, 2 * out.cols);
        assert!(rows <= out.max_rows && rows <= gate_up.max_rows);
        let shader = Shader::Glu { activation };
        let groups = elementwise(rows, out.cols);
        self.run(shader, &[out.cols as u32], &[&gate_up.buffer, &out.buffer], groups, 0);
    }

    /// The product as it is for few rows.
    pub(super) fn kind_of_product(&self, w: &Matrix, numerics: Numerics, output: Output) -> Product {
        assert_eq!(w.format, Format::Ternary, "a linear layer is ternary");
        let scaling = match numerics {
            Numerics::Int8Groups => Scaling::Blocks,
            _ if w.row_scales > 1 => Scaling::Groups,
            _ => Scaling::Rows,
        };
        Product { output, scaling, dot: self.device.0.few_rows.dot }
    }
}

/// Workgroups of a matrix–vector product with all rows of a shard.
fn matvec_groups(shape: Shape, shard: &Shard, rows: &Rows<'_>) -> [usize; 3] {
    let [x_groups, y_groups, _] = grid(shard.rows.div_ceil(shape.outputs_of_group()));
    [x_groups, y_groups, rows.count.div_ceil(shape.rows as usize)]
}

/// The `Params` of matvec, without that of a norm and without places; other products have the first of them.
pub(super) fn product_params(w: &Matrix, shard: &Shard, outputs: usize) -> [u32; 8] {
    // Groups of columns are whole blocks; one scale covers the padded columns too.
    let group = if w.row_scales > 1 { w.group / 64 } else { w.pieces() };
    [w.pieces(), shard.rows, shard.first, outputs, group, w.row_scales, 0, 0].map(|n| n as u32)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::Row;
    use crate::format::Weights;
    use crate::format::ternary::{Scales, Ternary};
    use crate::gpu::{Adapter, Dot, GpuDevice, GpuOptions};

    /// Software has the registers of the widest: what others compute is computed here on it.
    #[test]
    fn products_are_the_same_bits_with_few_registers() {
        const COLS: usize = 384;
        const OUTPUTS: usize = 130;
        let trits: Vec<i8> = (0..OUTPUTS * COLS).map(|i| (i * i / 7 % 3) as i8 - 1).collect();
        let scales = Scales::Rows((0..OUTPUTS).map(|i| 0.25 + i as f32).collect());
        let weights = [Weights::Ternary(Ternary::pack(OUTPUTS, COLS, &trits, scales).unwrap())];
        for adapter in Adapter::all_to_test() {
            let options = GpuOptions { dot: Some(Dot::Packed), cooperative: Some(false), ..GpuOptions::default() };
            for count in [8, 70] {
                let x: Vec<i8> = (0..count * COLS).map(|i| (i * 37 % 251) as u8 as i8).collect();
                let steps = (0..count as u32).map(|position| Row { sequence: 0, position, wants_logits: false });
                let [wide, narrow] = [true, false].map(|wide| {
                    let mut device = GpuDevice::open(&adapter, &options).unwrap();
                    let context = Arc::get_mut(&mut device.0).expect("just opened");
                    (context.few_rows.wide, context.many_rows.wide) = (wide, wide);
                    let gpu = &mut Gpu::new(&device);
                    let (w, mut out) = (gpu.matrix(&weights).unwrap(), gpu.tensor(count, OUTPUTS).unwrap());
                    let mut q = gpu.quantized(count, COLS, Numerics::Int8Rows).unwrap();
                    gpu.write_quantized(&mut q, &x, &vec![3.0; count]);
                    gpu.begin(&steps.clone().collect::<Vec<_>>());
                    gpu.matmul(&mut out, &w, &q);
                    let mut values = vec![0.0; count * OUTPUTS];
                    gpu.read_tensor(&out, &mut values).unwrap();
                    values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert!(wide == narrow && wide.iter().any(|&bits| bits != 0), "{count} rows");
            }
        }
    }
}
