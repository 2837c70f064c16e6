//! The shaders that are tested: each file with each of its fragments and flags, in the sizes that verbs ask for.

use crate::backend::{Activation, CachePrecision, CacheShape, HeadNormOrder, MOST_BLOCK, RopePairs};
use crate::format::ternary::BLOCK;
use crate::gpu::cooperative::{AttentionCut, CooperativeCut, Teams};
use crate::gpu::layout::{Attention, EXPERT_CUT, Way, matmul_cut, matvec_shape, norm_matvec_shape, tile_heads};
use crate::gpu::shader::{Cached, Dot, Format, Input, Output, Product, RowsOf, Scaling, Shader, Shape};

const DENSE: [Format; 4] = [Format::F32, Format::F16, Format::Bf16, Format::Int8];
const PRECISIONS: [CachePrecision; 2] = [CachePrecision::F16, CachePrecision::F32];
const ACTIVATIONS: [Activation; 3] = [Activation::SquaredRelu, Activation::Silu, Activation::Gelu];
const PAIRS: [RopePairs; 2] = [RopePairs::Half, RopePairs::Interleaved];
const HEAD_NORMS: [Option<HeadNormOrder>; 3] = [None, Some(HeadNormOrder::BeforeRope), Some(HeadNormOrder::AfterRope)];
/// From the smallest toy to the largest head that is known; 36 and 80 are no powers of two.
const HEAD_DIMS: [usize; 7] = [36, 64, 80, 96, 128, 192, 256];
/// Query heads that share a key/value head: alone, primes, and more than a workgroup takes.
const TOGETHER: [usize; 6] = [1, 2, 3, 4, 7, 16];
/// Columns of rows that are quantised: toys, those of a model, and more than a thread keeps.
const ROW_COLS: [u32; 5] = [6, 100, 101, 2560, 1 << 14];
/// Weight rows of a short matrix, of one in between, and of a head.
const WEIGHT_ROWS: [usize; 3] = [1 << 10, 1 << 13, 1 << 17];

/// All that need nothing but core WebGPU, each once.
pub(super) fn core() -> Vec<Shader> {
    let tables = DENSE.into_iter().chain([Format::Ternary]);
    let mut all: Vec<Shader> = tables.map(|table| Shader::Embed { table }).collect();
    for cols in ROW_COLS {
        all.extend([false, true].map(|norm| Shader::NormQuantize { norm, cols }));
        all.extend([false, true].map(|norm| Shader::NormQuantizeBlocks { norm, cols }));
    }
    all.extend([(false, false), (false, true), (true, false)].map(|(selected, add)| Shader::Norm { selected, add }));
    let outputs = [Output::Store, Output::Add];
    let scalings = [Scaling::Rows, Scaling::Groups, Scaling::Blocks];
    let products = outputs.into_iter().flat_map(|output| products(output, scalings));
    for wide in [false, true] {
        for product in products.clone() {
            push_new(
                &mut all,
                Shader::Matmul {
                    product,
                    cut: matmul_cut(product.scaling, Way { dot: product.dot, wide }),
                    of: RowsOf::Step,
                },
            );
        }
    }
    all.extend(experts(scalings));
    for shape in shapes() {
        let input = Input::Quantized { of: RowsOf::Step };
        all.extend(products.clone().map(|product| Shader::Matvec { product, shape, input }));
        all.extend(outputs.map(|output| Shader::MatvecFloats { output, shape, of: RowsOf::Step }));
        for aligned in [false, true] {
            for of_all in [false, true] {
                all.extend(DENSE.map(|head| Shader::Logits { head, shape, aligned, all: of_all }));
                all.push(Shader::Logits { head: Format::Screen, shape, aligned, all: of_all });
            }
        }
    }
    all.extend([false, true].map(|aligned| Shader::LogitsLeft { aligned }));
    all.extend([Shader::ScreenRows, Shader::ScreenFloors, Shader::TopFloor]);
    all.extend(norm_products());
    HEAD_DIMS.into_iter().for_each(|head_dim| all.extend(attention(head_dim)));
    all.extend(ACTIVATIONS.map(|activation| Shader::Glu { activation }));
    all.extend([2, 4, 8].map(|taps| Shader::Convolve { taps }));
    all.extend([4, 64, 100, 128, 256].map(|head_dim| Shader::DeltaRule { head_dim }));
    all.extend([Shader::NormGate, Shader::Gate]);
    all.extend([Shader::Route, Shader::SortPlaces, Shader::GluClamped, Shader::MixPlaces]);
    for (norm, inverse) in [(false, false), (true, false), (false, true)] {
        all.extend([1, 64, 1024, MOST_BLOCK as u32].map(|block| Shader::Rotate { block, norm, inverse }));
    }
    all.extend([
        Shader::Place,
        Shader::ArgmaxFirst,
        Shader::ArgmaxLast,
        Shader::TopFirst,
        Shader::TopLast,
        Shader::Totals,
        Shader::Arithmetic,
    ]);
    all
}

/// Those that need cooperative matrices: small tiles of both sizes of them, with the smallest and the largest workgroups, and large
/// tiles of subgroups of 16 to 64; attention in subgroups of 8 to 64, of all heads that they take.
pub(super) fn cooperative() -> Vec<Shader> {
    let small = [(8, 32), (8, 128), (16, 128), (16, 256)].map(|(side, threads)| CooperativeCut {
        side,
        tile: 64,
        teams: 4,
        threads,
    });
    let large = [4, 8, 16].map(|teams| CooperativeCut { side: 16, tile: 128, teams, threads: 256 });
    let cuts = small.into_iter().chain(large);
    let of = |output| cuts.clone().map(move |cut| Shader::MatmulCooperative { output, cut });
    let products = [Output::Store, Output::Add].into_iter().flat_map(of);
    let teams = [(8, 32), (8, 128), (16, 128), (16, 256)];
    let teams = teams.map(|(side, threads)| Teams { side, threads, most_features: 128 });
    let cuts = teams.into_iter().flat_map(|teams| {
        [64, 128].into_iter().flat_map(move |head_dim| [1, 2, 4].map(|heads| AttentionCut { teams, head_dim, heads }))
    });
    products.chain(cuts.map(|cut| Shader::AttendCooperative { cut })).collect()
}

fn products<const N: usize>(output: Output, scalings: [Scaling; N]) -> impl Iterator<Item = Product> + Clone {
    let dots = move |scaling| [Dot::Packed, Dot::Float].map(move |dot| Product { output, scaling, dot });
    scalings.into_iter().flat_map(dots)
}

/// Products of places, one by one and in tiles.
fn experts(scalings: [Scaling; 3]) -> Vec<Shader> {
    let of = RowsOf::Experts;
    let mut all = Vec::new();
    for product in products(Output::Store, scalings) {
        all.push(Shader::Matmul { product, cut: EXPERT_CUT, of });
        all.extend(one_row().map(|shape| Shader::Matvec { product, shape, input: Input::Quantized { of } }));
    }
    all.extend(one_row().map(|shape| Shader::MatvecFloats { output: Output::Store, shape, of }));
    all
}

/// Of a place, or of the only row of a step.
fn one_row() -> impl Iterator<Item = Shape> {
    shapes().into_iter().filter(|shape| shape.rows == 1)
}

/// For each number of rows, short matrices and long ones, and narrow ones.
fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for rows in [1, 2, 4, 8] {
        for weight_rows in WEIGHT_ROWS {
            [false, true].into_iter().for_each(|wide| push_new(&mut shapes, matvec_shape(rows, weight_rows, wide)));
        }
        for (wide, pieces) in [(false, 2), (true, 2), (false, 4), (true, 4)] {
            push_new(&mut shapes, matvec_shape(rows, WEIGHT_ROWS[0], wide).for_pieces(pieces));
        }
    }
    shapes
}

/// Rows from a toy's to the longest that a workgroup has room for, into matrices of all lengths.
fn norm_products() -> Vec<Shader> {
    let outputs = [Output::Store, Output::Add].into_iter().chain(ACTIVATIONS.map(Output::Glu));
    let mut shaders = Vec::new();
    let scalings = [Scaling::Rows, Scaling::Groups, Scaling::Blocks];
    for product in outputs.flat_map(|output| products(output, scalings)) {
        for weight_rows in WEIGHT_ROWS {
            let glu = matches!(product.output, Output::Glu(_));
            let shape = |cols: usize| norm_matvec_shape(cols, weight_rows, glu, product.scaling);
            let fitting = (1..).map(|blocks| blocks * BLOCK).take_while(|cols| shape(*cols).is_some());
            for cols in [100, 101, 640, 896, 2560, fitting.last().expect("toys fit")] {
                let shape = shape(cols).expect("no longer than the longest");
                for norm in [false, true] {
                    let input = Input::Floats { norm, cols: cols as u32 };
                    push_new(&mut shaders, Shader::Matvec { product, shape, input });
                }
            }
        }
    }
    shaders
}

fn attention(head_dim: usize) -> Vec<Shader> {
    let mut shaders = vec![Shader::AttendMerge { head_dim: head_dim as u32 }];
    for precision in PRECISIONS {
        let cache = Cached { precision, head_dim: head_dim as u32 };
        for pairs in PAIRS {
            shaders.extend(HEAD_NORMS.map(|norm| Shader::RopeAppend { cache, pairs, norm }));
        }
        let shape = CacheShape { slots: 1, positions: 4096, kv_heads: 2, head_dim, precision, window: None };
        for together in TOGETHER {
            let cut = Attention::fitting(&shape, 2 * together).expect("no head is too large").heads;
            let appends = [None].into_iter().chain(PAIRS.map(Some));
            shaders.extend(appends.map(|append| Shader::Attend { cut, append }));
            let tile = tile_heads(cache, together).map(|heads| Shader::AttendTile { cache, heads });
            tile.into_iter().for_each(|tile| push_new(&mut shaders, tile));
        }
    }
    shaders
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}
