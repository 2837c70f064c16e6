//! A mixture of experts: place `row * used + i` is of the row's i-th expert. Each place reads the weights of its expert for itself, which
//! is all there is to read for a row; rows of one expert find them in the device's caches.

use crate::backend::{Backend, ExpertShape, Experts, Numerics, Reads};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::gpu::buffers::Buffer;
use crate::gpu::layout::{elementwise, grid};
use crate::gpu::limits::MOST_GROUPS;
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::{Format, Shader};
use crate::gpu::{Gpu, Matrix, Quantized, Tensor};

/// Which rows go to which experts.
#[derive(Debug)]
pub struct Routing {
    shape: ExpertShape,
    experts: Buffer, // [max_rows, used]
    weights: Buffer, // [max_rows, used]
    units: Tensor,   // [max_rows * used, units]: gated products before they are quantised
    max_rows: usize,
}

/// Weight rows that a thread works on at once, and threads that share one: as `expert_matvec.wgsl` is specialised.
pub(crate) const OUTPUTS: u32 = 2;
pub(crate) const LANES: u32 = 8;
pub(crate) const THREADS: u32 = 64;

impl Gpu {
    /// The products of the first places; so many of them have one row of `x`.
    fn expert_products(&mut self, out: &Tensor, w: &Matrix, x: &Quantized, routing: &Routing, share: usize) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!((w.rows, w.cols, w.format), (count * out.cols, x.cols, Format::Ternary));
        let places = self.rows.len() * used;
        assert!(places <= out.max_rows && places / share <= x.max_rows && self.rows.len() <= routing.max_rows);
        let outputs_of_group = (THREADS / LANES * OUTPUTS) as usize;
        let [x_groups, y_groups, _] = grid(out.cols.div_ceil(outputs_of_group));
        let group = if w.row_scales > 1 { w.group / 64 } else { w.pieces() };
        for shard in &w.shards {
            let (first, experts) = (shard.first / out.cols, shard.rows / out.cols);
            let params = [w.pieces(), out.cols, first, experts, group, w.row_scales, share, x.scales_a_row()];
            let buffers = [&routing.experts, &shard.weights, &shard.scales, &x.values, &x.facts, &out.buffer];
            self.recorder.dispatch(&Dispatch {
                shader: Shader::ExpertMatvec { floats: x.numerics == Numerics::Float },
                params: &params.map(|n| n as u32),
                buffers: &buffers,
                groups: [x_groups, y_groups, places],
                bytes: (places.min(experts) * out.cols * w.row_bytes) as u64,
                reads: Reads::Trits,
            });
        }
    }
}

impl Experts for Gpu {
    type Routing = Routing;

    fn routing(
        &mut self,
        max_rows: usize,
        shape: ExpertShape,
        _cols: usize,
        units: usize,
        _numerics: Numerics,
    ) -> Result<Routing> {
        let places = max_rows.saturating_mul(shape.used);
        if places > MOST_GROUPS as usize {
            return Err(Error::refused(format!(
                "steps of {max_rows} rows, each of {} experts, are more than a GPU takes at once; smaller steps are computed \
                 (SessionOptions::chunk)",
                shape.used
            )));
        }
        let experts = self.floats("experts", max_rows, shape.used)?;
        let units = self.tensor(places, units)?;
        Ok(Routing { shape, experts, weights: self.floats("experts", max_rows, shape.used)?, units, max_rows })
    }

    fn expert_matrix(&mut self, parts: &[Weights], experts: usize) -> Result<Matrix> {
        let rows: usize = parts.iter().map(Weights::rows).sum();
        Matrix::upload_whole(parts, rows / experts, self)
    }

    fn route(&mut self, routing: &mut Routing, scores: &Tensor) {
        let (rows, ExpertShape { count, used }) = (self.rows.len(), routing.shape);
        assert!(scores.cols == count && rows <= scores.max_rows && rows <= routing.max_rows);
        let buffers = [&scores.buffer, &routing.experts, &routing.weights];
        self.run(Shader::Route, &[count as u32, used as u32], &buffers, [rows, 1, 1], 0);
    }

    fn expert_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &mut Routing) {
        self.expert_products(out, w, x, routing, routing.shape.used);
    }

    fn place_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized, routing: &Routing) {
        self.expert_products(out, w, x, routing, 1);
    }

    fn place_glu(&mut self, out: &mut Quantized, gate_up: &mut Tensor, clamp: f32, routing: &Routing) {
        let places = self.rows.len() * routing.shape.used;
        assert!(gate_up.cols == 2 * out.cols && places <= gate_up.max_rows && places <= out.max_rows);
        let units = &routing.units;
        assert_eq!(units.cols, out.cols);
        let params = [out.cols as u32, clamp.to_bits()];
        let groups = elementwise(places, out.cols);
        self.run(Shader::GluClamped, &params, &[&gate_up.buffer, &units.buffer], groups, 0);
        self.quantize_rows(out, units, None, places);
    }

    fn mix_places(&mut self, out: &mut Tensor, x: &Tensor, routing: &Routing) {
        let (rows, used) = (self.rows.len(), routing.shape.used);
        assert!(out.cols == x.cols && rows <= out.max_rows && rows * used <= x.max_rows);
        let buffers = [&routing.weights, &x.buffer, &out.buffer];
        let groups = elementwise(rows, out.cols);
        self.run(Shader::MixPlaces, &[out.cols as u32, used as u32], &buffers, groups, 0);
    }

    fn read_routing(&mut self, routing: &Routing, experts: &mut [u32], weights: &mut [f32]) -> Result<()> {
        self.recorder.read(&routing.experts, 0, bytemuck::cast_slice_mut(experts))?;
        self.recorder.read(&routing.weights, 0, bytemuck::cast_slice_mut(weights))
    }
}
