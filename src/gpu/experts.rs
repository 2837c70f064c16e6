//! A mixture of experts: place `row * used + i` is of the row's i-th expert. Each place reads the weights of its expert for itself, which
//! is all there is to read for a row. Where rows are so many that experts have several places, and are quantised, places are sorted by
//! expert, and tiles of one expert's read its weights together.

use crate::backend::{Backend, ExpertShape, Experts, Numerics, Reads};
use crate::error::{Error, Result};
use crate::format::Weights;
use crate::gpu::buffers::Buffer;
use crate::gpu::layout::{EXPERT_CUT, elementwise, grid, matvec_shape};
use crate::gpu::limits::{EXPERT_ROWS, MOST_GROUPS, TILE};
use crate::gpu::matrix::Shard;
use crate::gpu::product::product_params;
use crate::gpu::recorder::Dispatch;
use crate::gpu::shader::{Format, Input, Output, Product, RowsOf, Shader};
use crate::gpu::{Gpu, MATVEC_ROWS, Matrix, Quantized, Tensor};

/// Which rows go to which experts.
#[derive(Debug)]
pub struct Routing {
    shape: ExpertShape,
    experts: Buffer,      // [max_rows, used]
    weights: Buffer,      // [max_rows, used]
    tiles: Option<Tiles>, // where so many rows may be taken in them
    units: Tensor,        // [max_rows * used, units]: gated products before they are quantised
    numerics: Numerics,
    max_rows: usize,
}

/// Places sorted by expert.
#[derive(Debug)]
struct Tiles {
    tiles: Buffer,  // [most_tiles(max_rows * used)] of struct ExpertTile
    sorted: Buffer, // [max_rows * used + EXPERT_ROWS]
}

/// Places that an expert has on average, from which on they are taken in tiles. A tile takes as many instructions as 5 to 7 places one by
/// one, however full it is (`benches/gpu-compilers.md`).
const TILED_FROM: usize = 6;

/// The most tiles that some places make.
fn most_tiles(places: usize, shape: ExpertShape) -> usize {
    places / EXPERT_ROWS + shape.count.min(places)
}

/// Whether the places of so many rows are taken in tiles. As for all products, few rows are not, nor are floats.
fn is_tiled(rows: usize, shape: ExpertShape, numerics: Numerics) -> bool {
    numerics != Numerics::Float && rows > MATVEC_ROWS && rows * shape.used >= TILED_FROM * shape.count
}

impl Routing {
    /// Places sorted by expert, if those of so many rows are taken so.
    fn tiles(&self, rows: usize) -> Option<&Tiles> {
        self.tiles.as_ref().filter(|_| is_tiled(rows, self.shape, self.numerics))
    }
}

impl Gpu {
    /// The products of the first places; so many of them have one row of `x`.
    fn expert_products(&mut self, out: &Tensor, w: &Matrix, x: &Quantized, routing: &Routing, share: usize) {
        let ExpertShape { count, used } = routing.shape;
        assert_eq!((w.rows, w.cols, w.format), (count * out.cols, x.cols, Format::Ternary));
        assert_eq!(x.numerics, routing.numerics);
        let (rows, places) = (self.rows.len(), self.rows.len() * used);
        assert!(places <= out.max_rows && places / share <= x.max_rows && rows <= routing.max_rows);
        let of = RowsOf::Experts;
        let product = self.kind_of_product(w, x.numerics, Output::Store);
        let shape = matvec_shape(1, out.cols, self.device.0.few_rows.wide).for_pieces(w.pieces());
        let [x_groups, y_groups, _] = grid(out.cols.div_ceil(shape.outputs_of_group()));
        for shard in &w.shards {
            let Shard { weights, scales, .. } = shard;
            let (first, experts) = (shard.first / out.cols, shard.rows / out.cols);
            let mut params = product_params(w, shard, out.cols);
            (params[2], params[6]) = (first as u32, share as u32);
            let dispatch = |gpu: &mut Self, shader: Shader, buffers: &[&Buffer], groups: [usize; 3]| {
                gpu.recorder.dispatch(&Dispatch {
                    shader,
                    params: &params[..shader.params().count()],
                    buffers,
                    groups,
                    bytes: (places.min(experts) * out.cols * w.row_bytes) as u64,
                    reads: Reads::Trits,
                });
            };
            if let Some(Tiles { tiles, sorted }) = routing.tiles(rows) {
                let product = Product { dot: self.way_of_many(product.scaling).dot, ..product };
                let buffers = [tiles, weights, scales, &x.values, &x.facts, &out.buffer, sorted];
                let groups = [out.cols.div_ceil(TILE), most_tiles(places, routing.shape), 1];
                dispatch(self, Shader::Matmul { product, cut: EXPERT_CUT, of }, &buffers, groups);
                continue;
            }
            let groups = [x_groups, y_groups, places];
            if x.numerics == Numerics::Float {
                let buffers = [&routing.experts, weights, scales, &x.values, &out.buffer];
                dispatch(self, Shader::MatvecFloats { output: Output::Store, shape, of }, &buffers, groups);
            } else {
                let buffers = [&routing.experts, weights, scales, &out.buffer, &x.values, &x.facts];
                dispatch(self, Shader::Matvec { product, shape, input: Input::Quantized { of } }, &buffers, groups);
            }
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
        numerics: Numerics,
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
        let weights = self.floats("experts", max_rows, shape.used)?;
        let tiles = match is_tiled(max_rows, shape, numerics) {
            true => Some(Tiles {
                tiles: self.floats("experts", most_tiles(places, shape), 3)?,
                sorted: self.floats("experts", places + EXPERT_ROWS, 1)?,
            }),
            false => None,
        };
        Ok(Routing { shape, experts, weights, tiles, units: self.tensor(places, units)?, numerics, max_rows })
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
        if let Some(Tiles { tiles, sorted }) = routing.tiles(rows) {
            let params = [rows * used, count, most_tiles(rows * used, routing.shape)].map(|n| n as u32);
            self.run(Shader::SortPlaces, &params, &[&routing.experts, tiles, sorted], [1, 1, 1], 0);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Row;
    use crate::format::ternary::{Scales, Ternary};
    use crate::gpu::{Adapter, GpuDevice, GpuOptions};

    #[test]
    fn places_are_taken_in_tiles_where_experts_have_several() {
        let shape = ExpertShape { count: 64, used: 8 };
        assert!(!is_tiled(47, shape, Numerics::Int8Rows) && is_tiled(48, shape, Numerics::Int8Rows));
        assert!(!is_tiled(512, shape, Numerics::Float), "products of floats have no tiles");
        let few = ExpertShape { count: 2, used: 2 };
        assert!(!is_tiled(32, few, Numerics::Int8Groups) && is_tiled(33, few, Numerics::Int8Groups));
        // One place each, and all of the rest one expert's; and no more experts than places.
        assert_eq!(most_tiles(16 + 63, shape), 4 + 64);
        assert_eq!(most_tiles(3, shape), 3);
    }

    #[test]
    fn many_rows_run_tiles_and_few_do_not() {
        const COLS: usize = 128;
        let shape = ExpertShape { count: 4, used: 2 };
        for adapter in Adapter::all_to_test() {
            let device = GpuDevice::open(&adapter, &GpuOptions::default()).unwrap();
            for (rows, expected) in [(32, ["route", "matvec"].as_slice()), (33, &["route", "sort_places", "matmul"])] {
                let gpu = &mut Gpu::new(&device);
                let w = Ternary::pack(4 * COLS, COLS, &[1; 4 * COLS * COLS], Scales::Tensor(0.5)).unwrap();
                let w = gpu.expert_matrix(&[Weights::Ternary(w)], shape.count).unwrap();
                let mut routing = gpu.routing(33, shape, COLS, COLS, Numerics::Int8Rows).unwrap();
                let (scores, mut out) = (gpu.tensor(33, shape.count).unwrap(), gpu.tensor(66, COLS).unwrap());
                let mut x = gpu.quantized(33, COLS, Numerics::Int8Rows).unwrap();
                let step = (0..rows).map(|position| Row { sequence: 0, position, wants_logits: false });
                gpu.begin(&step.collect::<Vec<_>>());
                gpu.write_quantized(&mut x, &vec![2; rows as usize * COLS], &vec![1.0; rows as usize]);
                gpu.route(&mut routing, &scores);
                gpu.expert_matmul(&mut out, &w, &x, &mut routing);
                let mut values = vec![0.0; 2 * rows as usize * COLS];
                gpu.read_tensor(&out, &mut values).unwrap();
                assert!(values.iter().all(|value| *value == COLS as f32), "{rows} rows");
                let names: Vec<&str> = gpu.recorder.kernels().iter().map(|kernel| kernel.name).collect();
                assert_eq!(names, expected, "{rows} rows");
            }
        }
    }
}
