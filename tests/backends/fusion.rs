//! The bigger verbs against their definitions in smaller ones, on the same backend: a GPU that fuses against one that does
//! not, and every backend against its own smaller verbs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sterna::backend::{Activation, Backend, CacheShape, Heads, Norm, Numerics, Rotary, Row};
use sterna::format::Weights;
use sterna::format::ternary::Scales;
use sterna::gpu::Gpu;

use crate::SCALED_SUM;
use crate::floats::rope;
use crate::material::{Random, assert_close, may_reorder, pack, poisoned, precisions_and_pairs, rows, tensor};

crate::on_every_backend_but_base! {
    norm_and_product_are_one_after_the_other
    rotation_and_attention_are_one_after_the_other
}
crate::on_the_base_path! {
    norm_and_product_of_few_shapes_are_one_after_the_other
}

const EPSILON: f32 = 1e-5;

/// How far a product may be off that is made of the same floats by other shaders: they have the same codes, but where those may
/// differ by one. Of some hundred columns or more, some such codes are less than this part of the largest product.
pub fn fused_tolerance<B: Backend>(backend: &B) -> f32 {
    const SOME_CODES: f32 = 1e-2;
    if may_reorder(backend) { SOME_CODES } else { SCALED_SUM }
}

/// A product of `count` rows, with its norm, its gate and its addition.
struct Case {
    cols: usize,
    outputs: usize, // even: gates and ups
    count: usize,
    weights: Vec<Weights>,
    x: Vec<f32>,
    gain: Vec<f32>,
    before: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, cols: usize, outputs: usize, count: usize, scales: Scales) -> Self {
        let weights = vec![pack(outputs, cols, &random.trits(outputs * cols), scales)];
        let (x, gain, before) = (random.floats(count * cols), random.floats(cols), random.floats(count * outputs));
        Self { cols, outputs, count, weights, x, gain, before }
    }

    /// Each of the verbs as it is, or as its definition has it.
    fn run<B: Backend>(&self, b: &mut B, numerics: Numerics, verbs: &[Verb], plainly: bool) -> Vec<Vec<f32>> {
        let Self { cols, outputs, count, .. } = *self;
        let (w, x) = (b.matrix(&self.weights).unwrap(), tensor(b, cols, &self.x));
        let gain = b.parameter(&self.gain).unwrap();
        let mut normed = b.quantized(count, cols, numerics).unwrap();
        let mut gate_up = b.tensor(count, outputs).unwrap();
        let norm = Norm { gain: &gain, epsilon: EPSILON };
        let activation = match cols {
            2560.. => Activation::SquaredRelu,
            200.. => Activation::Gelu,
            _ => Activation::Silu,
        };
        b.begin(&rows(count));
        let run = |verb: &Verb| match verb {
            Verb::Store => poisoned(b, count, outputs, |b, out| match plainly {
                true => {
                    b.norm_quantize(&mut normed, &x, &gain, EPSILON);
                    b.matmul(out, &w, &normed);
                }
                false => b.norm_matmul(out, &mut normed, &w, &x, norm),
            }),
            Verb::Add { behind_a_norm } => {
                let mut out = tensor(b, outputs, &self.before);
                match (plainly, behind_a_norm) {
                    (false, _) => b.norm_matmul_add(&mut out, &mut normed, &w, &x, behind_a_norm.then_some(norm)),
                    (true, true) => {
                        b.norm_quantize(&mut normed, &x, &gain, EPSILON);
                        b.matmul_add(&mut out, &w, &normed);
                    }
                    (true, false) => {
                        b.quantize(&mut normed, &x);
                        b.matmul_add(&mut out, &w, &normed);
                    }
                }
                crate::material::read(b, &out, count * outputs)
            }
            Verb::Glu => poisoned(b, count, outputs / 2, |b, out| match plainly {
                true => {
                    b.norm_quantize(&mut normed, &x, &gain, EPSILON);
                    b.matmul(&mut gate_up, &w, &normed);
                    b.glu(out, &gate_up, activation);
                }
                false => b.norm_matmul_glu(out, &mut gate_up, &mut normed, &w, &x, norm, activation),
            }),
        };
        verbs.iter().map(run).collect()
    }
}

/// What becomes of the product of a case.
enum Verb {
    Store,
    Add { behind_a_norm: bool },
    Glu,
}

const VERBS: [Verb; 4] =
    [Verb::Store, Verb::Add { behind_a_norm: false }, Verb::Add { behind_a_norm: true }, Verb::Glu];

fn norm_and_product_are_one_after_the_other<B: Backend>(backend: &mut B) {
    // Narrow rows are shared by one, two or four threads, wide ones by more: those stand where they have different verbs.
    norms_and_products(backend, &[(96, 6), (200, 130), (2560, 70), (640, 70), (896, 70), (6912, 64), (128, 8200)]);
}

/// Rows that one thread reads, a few or many, and a matrix in two pieces.
fn norm_and_product_of_few_shapes_are_one_after_the_other<B: Backend>(backend: &mut B) {
    norms_and_products(backend, &[(96, 6), (896, 70), (2560, 70), (128, 8200)]);
}

fn norms_and_products<B: Backend>(backend: &mut B, shapes: &[(usize, usize)]) {
    let random = &mut Random(21);
    for (i, &(cols, outputs)) in shapes.iter().enumerate() {
        let group = Scales::Groups { columns: 128, values: random.scales(outputs * cols.div_ceil(128)) };
        for (j, scales) in [Scales::Rows(random.scales(outputs)), group].into_iter().enumerate() {
            // By turns: a shape has all verbs, two shapes after one another have all scales with all numerics, and four have each
            // of these with each verb. Each shape with all of them would be three times as many shaders.
            let int8 = [Numerics::Int8Rows, Numerics::Int8Groups][(i + j) % 2];
            let verbs = VERBS.as_chunks::<2>().0[(i / 2 + j) % 2].as_slice();
            for count in [1, 2, 9] {
                let case = Case::new(random, cols, outputs, count, scales.clone());
                for numerics in [int8, Numerics::Float] {
                    let [ours, theirs] = [false, true].map(|plainly| case.run(backend, numerics, verbs, plainly));
                    let tolerance = fused_tolerance(backend);
                    ours.iter().zip(theirs).for_each(|(ours, theirs)| assert_close(ours, &theirs, tolerance));
                }
            }
        }
    }
}

fn rotation_and_attention_are_one_after_the_other<B: Backend>(backend: &mut B) {
    const LONG: usize = 125;
    let random = &mut Random(22);
    let shapes = [(4, 2, 64), (20, 5, 128), (18, 2, 36), (3, 3, 100), (2, 1, 6)];
    for (i, (heads, kv_heads, head_dim)) in shapes.into_iter().enumerate() {
        let heads = Heads { heads, kv_heads, head_dim };
        for (precision, pairs) in precisions_and_pairs(i) {
            let rope = rope(pairs, head_dim / 3, head_dim);
            // A prompt each for two sequences, then a token of both, across a chunk of the context. Of the long prompt
            // only keys and values matter.
            let run =
                |sequence, begin, end| (begin..end).map(move |position| Row { sequence, position, wants_logits: true });
            let mut steps: Vec<Vec<Row>> = vec![run(0, 0, LONG as u32).collect(), run(1, 0, 30).collect()];
            steps.extend((0..6).map(|i| run(0, 125 + i, 126 + i).chain(run(1, 30 + i, 31 + i)).collect()));
            steps.push(run(0, 131, 132).collect());
            let qkv: Vec<_> = steps.iter().map(|step| random.floats(step.len() * heads.qkv_cols())).collect();
            let attend = |b: &mut B, plainly: bool| -> Vec<f32> {
                let shape = CacheShape { slots: 2, positions: 300, kv_heads, head_dim, precision, window: None };
                let mut cache = b.cache(shape).unwrap();
                let mut outputs = Vec::new();
                for (step, qkv) in steps.iter().zip(&qkv) {
                    let mut rotations = b.tensor(step.len(), 2 * rope.frequencies.len()).unwrap();
                    let mut qkv = tensor(b, heads.qkv_cols(), qkv);
                    b.begin(step);
                    b.rotations(&mut rotations, &rope);
                    if step.len() == LONG {
                        b.rope_append(&mut qkv, &mut cache, Rotary::plain(&rotations, pairs), heads);
                        continue;
                    }
                    outputs.extend(poisoned(b, step.len(), heads.query_cols(), |b, out| match plainly {
                        true => {
                            b.rope_append(&mut qkv, &mut cache, Rotary::plain(&rotations, pairs), heads);
                            b.attend(out, &qkv, &cache, heads);
                        }
                        false => b.rope_attend(out, &mut qkv, &mut cache, Rotary::plain(&rotations, pairs), heads),
                    }));
                }
                outputs
            };
            assert_close(&attend(backend, false), &attend(backend, true), SCALED_SUM);
        }
    }
}

/// The counters tell that the bigger verbs really are one dispatch on a GPU that fuses.
#[test]
fn one_row_is_one_dispatch_a_product() {
    for device in crate::gpu::devices(crate::PACKED) {
        let case = Case::new(&mut Random(23), 256, 64, 1, Scales::Tensor(1.0));
        let dispatches = |mut gpu: Gpu, numerics| {
            case.run(&mut gpu, numerics, &VERBS, false);
            gpu.gpu_counters().unwrap().dispatches
        };
        for numerics in [Numerics::Int8Rows, Numerics::Int8Groups] {
            let [fused, plain] = [Gpu::new(&device), Gpu::plain(&device)].map(|gpu| dispatches(gpu, numerics));
            assert_eq!((fused, plain), (4, 9), "{numerics}");
        }
    }
}

/// Shaders do not check their indices: what has no room for the row must not reach them.
#[test]
fn a_fused_product_without_room_for_its_row_panics() {
    let weights = [pack(64, 256, &Random(24).trits(64 * 256), Scales::Tensor(1.0))];
    let run = |gpu: &mut Gpu, outputs: usize, inputs: usize| {
        let w = gpu.matrix(&weights).unwrap();
        let gain = gpu.parameter(&[1.0; 256]).unwrap();
        let (mut out, x) = (gpu.tensor(outputs, 64).unwrap(), gpu.tensor(inputs, 256).unwrap());
        let mut normed = gpu.quantized(1, 256, Numerics::Int8Rows).unwrap();
        gpu.begin(&rows(1));
        gpu.norm_matmul(&mut out, &mut normed, &w, &x, Norm { gain: &gain, epsilon: EPSILON });
        gpu.end();
    };
    for device in crate::gpu::devices(crate::PACKED) {
        run(&mut Gpu::new(&device), 1, 1);
        for (outputs, inputs) in [(0, 1), (1, 0)] {
            let refused = catch_unwind(AssertUnwindSafe(|| run(&mut Gpu::new(&device), outputs, inputs)));
            assert!(refused.is_err(), "room for {outputs} outputs and {inputs} inputs is enough for one row");
        }
    }
}
