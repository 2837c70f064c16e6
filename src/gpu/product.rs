//! Products of ternary weights: quantised activations or floats in, one dispatch for each shard of the weights.

use crate::backend::Norm;
use crate::format::ternary::padded;
use crate::gpu::cooperative::Cooperative;
use crate::gpu::layout::{TILE, grid, matvec_shape, norm_matvec_shape};
use crate::gpu::matrix::Shard;
use crate::gpu::shader::{Format, Input, Output, Product, Shader};
use crate::gpu::{Gpu, MATVEC_ROWS, Matrix, Quantized, Tensor};

impl Gpu {
    pub(super) fn quantize_rows(&mut self, out: &mut Quantized, x: &Tensor, gain: Option<(&Tensor, f32)>) {
        let rows = self.rows.len();
        assert_eq!(out.cols, x.cols);
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        let (gain, epsilon) = gain.unwrap_or((x, 0.0));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let params = [x.cols as u32, (out.words() / 4) as u32, epsilon.to_bits()];
        let shader = Shader::NormQuantize { norm: !std::ptr::eq(gain, x) };
        self.run(shader, &params, &[&x.buffer, &gain.buffer, &out.values, &out.facts], [rows, 1, 1], 0);
    }

    pub(super) fn product(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, output: Output) {
        let rows = self.rows.len();
        assert_eq!((out.cols, w.cols), (w.rows, x.cols), "the shapes of a product fit");
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        let product = self.kind_of_product(w, output);
        let cooperative = self.device.0.cooperative.filter(|_| !product.grouped && Cooperative::is_exact(w.cols));
        let many_rows = match cooperative {
            Some(cut) => Shader::MatmulCooperative { output, cut },
            None => Shader::Matmul { product },
        };
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
                self.run(many_rows, &params[..many_rows.params().count()], &buffers, groups, bytes);
            }
        }
    }

    /// The product of a step's one row, normalised and quantised on the way; false where that cannot be done in one.
    pub(super) fn norm_product(
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
}

/// The `Params` of matvec, without those of a norm; other products have the first of them.
fn product_params(w: &Matrix, shard: &Shard, outputs: usize) -> [u32; 8] {
    let group = w.group.div_ceil(64);
    [w.pieces(), shard.rows, shard.first, outputs, group, w.row_scales, 0, 0].map(|n| n as u32)
}
