//! The verbs of experts against their definition: which experts a row is given to, what these make of it, and how it is mixed.

use sterna::backend::{Backend, ExpertShape, Numerics};
use sterna::format::Weights;
use sterna::format::ternary::{Scales, Ternary};

use crate::FLOAT_SUM;
use crate::material::{Random, assert_close, read, rows, tensor};
use crate::oracle::reference;

crate::on_every_backend! {
    rows_are_given_to_the_experts_of_their_largest_scores
    what_is_no_number_reaches_the_mix
    experts_make_what_the_definition_makes
    rows_of_one_expert_are_multiplied_together
    a_row_gets_the_same_bits_alone
}

/// Experts, how many are used, and the widths of features outside and inside: all of one, an odd few, the published number.
const CASES: [(usize, usize, usize, usize); 4] =
    [(1, 1, 96, 64), (5, 3, 128, 100), (8, 8, 256, 128), (256, 8, 128, 64)];
const COUNTS: [usize; 4] = [1, 2, 7, 33];

fn routed<B: Backend>(b: &mut B, shape: ExpertShape, scores: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let count = scores.len() / shape.count;
    let mut routing = b.routing(count, shape, 64, 64, Numerics::Float).unwrap();
    let scores = tensor(b, shape.count, scores);
    b.begin(&rows(count));
    b.route(&mut routing, &scores);
    let (mut experts, mut weights) = (vec![u32::MAX; count * shape.used], vec![f32::NAN; count * shape.used]);
    b.read_routing(&routing, &mut experts, &mut weights).unwrap();
    (experts, weights)
}

pub fn rows_are_given_to_the_experts_of_their_largest_scores<B: Backend>(backend: &mut B) {
    let random = &mut Random(81);
    for (count, used, ..) in CASES.into_iter().chain([(ExpertShape::MOST, ExpertShape::MOST_USED, 0, 0)]) {
        let shape = ExpertShape { count, used };
        for rows in COUNTS {
            let mut scores: Vec<f32> = random.floats(rows * count).iter().map(|score| score * 20.0).collect();
            // Equals: the first of them is the better one.
            scores[count / 2] = scores[0];
            scores[..count].iter_mut().skip(1).step_by(3).for_each(|score| *score = 7.5);
            let (experts, weights) = routed(backend, shape, &scores);
            let (theirs, their_weights) = reference(|r| routed(r, shape, &scores));
            assert_eq!(experts, theirs, "{used} of {count}");
            assert_close(&weights, &their_weights, FLOAT_SUM);
        }
    }
}

fn what_is_no_number_reaches_the_mix<B: Backend>(b: &mut B) {
    let shape = ExpertShape { count: 8, used: 3 };
    for lie in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut scores = Random(82).floats(2 * shape.count);
        scores[shape.count + 5] = lie;
        let (experts, weights) = routed(b, shape, &scores);
        assert!(experts.iter().all(|&expert| expert < 8));
        assert!(weights[..3].iter().all(|weight| weight.is_finite()), "{lie}: another row's");
        assert!(weights[3..].iter().all(|weight| weight.is_nan()), "{lie}: {weights:?}");
    }
}

/// The experts of one layer, and rows for them.
struct Layer {
    shape: ExpertShape,
    width: usize,
    inner: usize,
    gate_up: Vec<Weights>, // gate and up of each expert by turns
    down: Vec<Weights>,
    scores: Vec<f32>,
    x: Vec<f32>,
}

impl Layer {
    fn new(random: &mut Random, (count, used, width, inner): (usize, usize, usize, usize), rows: usize) -> Self {
        let mut matrix = |outputs: usize, cols: usize| {
            let scales = match outputs % 3 {
                0 => Scales::Rows(random.scales(outputs)),
                _ => Scales::Groups { columns: 128, values: random.scales(outputs * cols.div_ceil(128)) },
            };
            Weights::Ternary(Ternary::pack(outputs, cols, &random.trits(outputs * cols), scales).unwrap())
        };
        let gate_up = (0..2 * count).map(|_| matrix(inner, width)).collect();
        let down = (0..count).map(|_| matrix(width, inner)).collect();
        let shape = ExpertShape { count, used };
        Self { shape, width, inner, gate_up, down, scores: random.floats(rows * count), x: random.floats(rows * width) }
    }

    /// What is mixed into rows of ones. Gates and ups reach far beyond the clamp.
    fn run<B: Backend>(&self, b: &mut B, numerics: Numerics) -> Vec<f32> {
        let Self { shape, width, inner, .. } = *self;
        let count = self.x.len() / width;
        let places = count * shape.used;
        let (gate_up_w, down_w) =
            (b.expert_matrix(&self.gate_up, shape.count).unwrap(), b.expert_matrix(&self.down, shape.count).unwrap());
        let mut routing = b.routing(count, shape, width, inner, numerics).unwrap();
        let (scores, x) = (tensor(b, shape.count, &self.scores), tensor(b, width, &self.x));
        let (mut x_q, mut units) =
            (b.quantized(count, width, numerics).unwrap(), b.quantized(places, inner, numerics).unwrap());
        let (mut gate_up, mut outputs) = (b.tensor(places, 2 * inner).unwrap(), b.tensor(places, width).unwrap());
        let mut out = tensor(b, width, &vec![1.0; (count + 1) * width]);
        b.begin(&rows(count));
        b.route(&mut routing, &scores);
        b.quantize(&mut x_q, &x);
        b.expert_matmul(&mut gate_up, &gate_up_w, &x_q, &mut routing);
        b.place_glu(&mut units, &mut gate_up, 2.5, &routing);
        b.place_matmul(&mut outputs, &down_w, &units, &routing);
        b.mix_places(&mut out, &outputs, &routing);
        let mut all = read(b, &out, (count + 1) * width);
        let beyond = all.split_off(count * width);
        assert!(beyond.iter().all(|value| *value == 1.0), "a row beyond the step was written");
        all
    }
}

/// With int8, a gated product that f32 and f64 round to either side of a boundary is one step of its scale apart.
const ROUNDED: f32 = 1e-2;

fn experts_make_what_the_definition_makes<B: Backend>(backend: &mut B) {
    let random = &mut Random(83);
    for case in CASES {
        for count in COUNTS {
            let layer = Layer::new(random, case, count);
            for (numerics, tolerance) in
                [(Numerics::Float, 3e-5), (Numerics::Int8Groups, ROUNDED), (Numerics::Int8Rows, ROUNDED)]
            {
                let theirs = reference(|r| layer.run(r, numerics));
                assert_close(&layer.run(backend, numerics), &theirs, tolerance);
            }
        }
    }
}

/// In tiles of them, on a GPU; on the base path from several shards. One expert has most, others a few, and one none.
pub fn rows_of_one_expert_are_multiplied_together<B: Backend>(backend: &mut B) {
    let (case, count) = ((6, 2, 384, 390), 61);
    let mut layer = Layer::new(&mut Random(85), case, count);
    for (row, scores) in layer.scores.chunks_exact_mut(case.0).enumerate() {
        (scores[2], scores[4]) = (-9.0, if row % 7 == 0 { -8.0 } else { 9.0 });
    }
    for (numerics, tolerance) in [(Numerics::Int8Groups, ROUNDED), (Numerics::Int8Rows, ROUNDED)] {
        let theirs = reference(|r| layer.run(r, numerics));
        assert_close(&layer.run(backend, numerics), &theirs, tolerance);
    }
}

/// However many rows share an expert: with a scale for each weight row, as sums are integers to the end; floats of groups are added in
/// one order for few rows, and on a GPU in another for many.
pub fn a_row_gets_the_same_bits_alone<B: Backend>(backend: &mut B) {
    for (case, numerics, count) in [(CASES[1], Numerics::Int8Groups, 32), ((5, 3, 96, 99), Numerics::Int8Rows, 61)] {
        let together = Layer::new(&mut Random(84), case, count);
        let all = together.run(backend, numerics);
        for row in [0, 1, 16, count - 1] {
            let alone = Layer {
                scores: together.scores[row * case.0..(row + 1) * case.0].to_vec(),
                x: together.x[row * case.2..(row + 1) * case.2].to_vec(),
                gate_up: together.gate_up.clone(),
                down: together.down.clone(),
                ..together
            };
            let alone = alone.run(backend, numerics);
            crate::material::assert_same_bits(&alone, &all[row * case.2..(row + 1) * case.2]);
        }
    }
}
