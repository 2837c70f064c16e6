//! The verbs of recurrent layers against their definition: what a state holds after rows of several sequences, however they are cut into
//! steps, and gates and products of floats beside them.

use sterna::backend::{Backend, Decay, DeltaHeads, HeadGain, HeadOrder, RecurrentShape, Row};
use sterna::format::Weights;
use sterna::format::dense::{Dense, Values};

use crate::material::{Random, assert_close, assert_same_bits, poisoned, rows, tensor};
use crate::oracle::reference;
use crate::{FLOAT_SUM, ROWS};

crate::on_every_backend! {
    products_of_floats_are_those_of_all_rows
    a_convolution_sees_the_latest_rows_of_its_sequence
    memories_follow_the_delta_rule
    rows_give_the_same_in_any_steps
    a_state_is_copied_and_nothing_else
    gates_multiply_each_value
    outputs_are_normed_by_head_and_gated
    recurrent_states_of_impossible_sizes_are_errors
}

/// A hundred steps of a memory, each with sums of up to 256 products that the next one builds on.
const MEMORY: f32 = 3e-5;

/// Three value heads a key head, sizes that no vector divides, and the largest.
const HEADS: [DeltaHeads; 4] = [
    DeltaHeads { key_heads: 2, value_heads: 6, head_dim: 128 },
    DeltaHeads { key_heads: 1, value_heads: 1, head_dim: 4 },
    DeltaHeads { key_heads: 3, value_heads: 3, head_dim: 100 },
    DeltaHeads { key_heads: 1, value_heads: 2, head_dim: 256 },
];

fn row(sequence: u32, position: u32) -> Row {
    Row { sequence, position, wants_logits: false }
}

fn of(sequence: u32, positions: std::ops::Range<u32>) -> impl Iterator<Item = Row> {
    positions.map(move |position| row(sequence, position))
}

/// Steps of three sequences: alone, side by side and row by row in turn; one begins anew, over what it held.
fn steps() -> Vec<Vec<Row>> {
    let mut steps: Vec<Vec<Row>> = vec![of(2, 0..19).collect(), of(0, 0..1).chain(of(2, 19..22)).collect()];
    steps.push((0..5).flat_map(|i| [row(0, 1 + i), row(1, i), row(2, 22 + i)]).collect());
    steps.push(of(1, 5..6).chain(of(0, 0..3)).chain(of(2, 27..60)).collect());
    steps.push([row(0, 3), row(1, 6), row(2, 60)].to_vec());
    steps
}

/// What a layer's state is run with.
struct Case {
    shape: RecurrentShape,
    steps: Vec<Vec<Row>>,
    qkv: Vec<Vec<f32>>,        // of each step
    time_steps: Vec<Vec<f32>>, // likewise
    weights: Vec<f32>,
    rate: Vec<f32>,
    bias: Vec<f32>,
}

/// The outputs of all rows, and what the state holds at the end: of the convolution, and of the memories.
type Outcome = [Vec<f32>; 3];

impl Case {
    fn new(random: &mut Random, heads: DeltaHeads, taps: usize) -> Self {
        let steps = steps();
        let mut floats = |cols: usize| steps.iter().map(|step| random.floats(step.len() * cols)).collect();
        let (qkv, time_steps) = (floats(heads.qkv_cols()), floats(2 * heads.value_heads));
        let shape = RecurrentShape { slots: 3, taps, heads };
        let weights = random.floats(taps * heads.qkv_cols());
        // From memories that fade at once to such that hardly do.
        let rate = (0..heads.value_heads).map(|head| -0.01 * 6f32.powi(head as i32 % 5)).collect();
        Self { shape, steps, qkv, time_steps, weights, rate, bias: random.floats(heads.value_heads) }
    }

    fn convolve<B: Backend>(&self, b: &mut B) -> Outcome {
        let mut state = b.recurrent(self.shape).unwrap();
        let weights = b.parameter(&self.weights).unwrap();
        let cols = self.shape.heads.qkv_cols();
        let mut outputs = Vec::new();
        for (step, x) in self.steps.iter().zip(&self.qkv) {
            let x = tensor(b, cols, x);
            b.begin(step);
            outputs.extend(poisoned(b, step.len(), cols, |b, out| b.convolve(out, &x, &weights, &mut state)));
        }
        self.outcome(b, outputs, &state)
    }

    fn delta_rule<B: Backend>(&self, b: &mut B) -> Outcome {
        let heads = self.shape.heads;
        let mut state = b.recurrent(self.shape).unwrap();
        let (rate, bias) = (b.parameter(&self.rate).unwrap(), b.parameter(&self.bias).unwrap());
        let decay = Decay { rate: &rate, bias: &bias };
        let mut outputs = Vec::new();
        for ((step, qkv), time_steps) in self.steps.iter().zip(&self.qkv).zip(&self.time_steps) {
            let (qkv, time_steps) = (tensor(b, heads.qkv_cols(), qkv), tensor(b, 2 * heads.value_heads, time_steps));
            b.begin(step);
            outputs.extend(poisoned(b, step.len(), heads.value_cols(), |b, out| {
                b.delta_rule(out, &qkv, &time_steps, decay, &mut state);
            }));
        }
        self.outcome(b, outputs, &state)
    }

    fn outcome<B: Backend>(&self, b: &mut B, outputs: Vec<f32>, state: &B::Recurrent) -> Outcome {
        let [mut earlier, mut memories] = [Vec::new(), Vec::new()];
        for slot in 0..self.shape.slots as u32 {
            let (mut of_rows, mut of_heads) = (vec![0.0; self.shape.earlier()], vec![0.0; self.shape.memories()]);
            b.read_recurrent(state, slot, &mut of_rows, &mut of_heads).unwrap();
            earlier.extend(of_rows);
            memories.extend(of_heads);
        }
        [outputs, earlier, memories]
    }
}

fn products_of_floats_are_those_of_all_rows<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, parts: &[Weights], x: &[f32]) -> Vec<f32> {
        let (cols, outputs) = (parts[0].cols(), parts.iter().map(Weights::rows).sum());
        let (w, x_tensor) = (b.matrix(parts).unwrap(), tensor(b, cols, x));
        // Few of the rows want logits, which is nothing to this verb.
        let mut step = rows(x.len() / cols);
        step.iter_mut().skip(1).for_each(|row| row.wants_logits = false);
        b.begin(&step);
        poisoned(b, step.len(), outputs, |b, out| b.dense_matmul(out, &w, &x_tensor))
    }
    let random = &mut Random(61);
    for (outputs, cols) in [(6, 128), (48, 640), (5, 131)] {
        let mut dense = |is_brain: bool| {
            let floats = random.floats(outputs * cols);
            // The upper halves of singles are numbers in bfloat16.
            let brain = floats.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect::<Vec<u8>>();
            let single = floats.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let values = if is_brain { Values::Bf16(brain.into()) } else { Values::F32(single.into()) };
            Weights::Dense(Dense::new(outputs, cols, values).unwrap())
        };
        for parts in [[dense(true), dense(true)], [dense(false), dense(true)]] {
            for count in ROWS {
                let x = random.floats(count * cols);
                assert_close(&run(backend, &parts, &x), &reference(|r| run(r, &parts, &x)), FLOAT_SUM);
            }
        }
    }
}

pub fn a_convolution_sees_the_latest_rows_of_its_sequence<B: Backend>(backend: &mut B) {
    let random = &mut Random(62);
    for (heads, taps) in HEADS.into_iter().zip([4, 2, 4, 7]) {
        let case = Case::new(random, heads, taps);
        let ([outputs, earlier, _], [their_outputs, their_earlier, _]) =
            (case.convolve(backend), reference(|r| case.convolve(r)));
        assert_close(&outputs, &their_outputs, FLOAT_SUM);
        assert_same_bits(&earlier, &their_earlier);
    }
}

pub fn memories_follow_the_delta_rule<B: Backend>(backend: &mut B) {
    let random = &mut Random(63);
    for heads in HEADS {
        let case = Case::new(random, heads, 4);
        let ([outputs, _, memories], [their_outputs, _, their_memories]) =
            (case.delta_rule(backend), reference(|r| case.delta_rule(r)));
        assert_close(&outputs, &their_outputs, MEMORY);
        assert_close(&memories, &their_memories, MEMORY);
    }
}

/// Bit for bit: a sequence's rows are computed in their order, whatever stands beside them.
fn rows_give_the_same_in_any_steps<B: Backend>(backend: &mut B) {
    let random = &mut Random(64);
    let heads = HEADS[0];
    let together = Case::new(random, heads, 4);
    let cut = |values: &[Vec<f32>], cols: usize| -> Vec<Vec<f32>> {
        values.iter().flat_map(|step| step.chunks(cols).map(<[f32]>::to_vec)).collect()
    };
    let alone = Case {
        steps: together.steps.iter().flatten().map(|row| vec![*row]).collect(),
        qkv: cut(&together.qkv, heads.qkv_cols()),
        time_steps: cut(&together.time_steps, 2 * heads.value_heads),
        weights: together.weights.clone(),
        rate: together.rate.clone(),
        bias: together.bias.clone(),
        ..together
    };
    let (ours, theirs) = (together.convolve(backend), alone.convolve(backend));
    (0..2).for_each(|i| assert_same_bits(&ours[i], &theirs[i]));
    let (ours, theirs) = (together.delta_rule(backend), alone.delta_rule(backend));
    [0, 2].into_iter().for_each(|i| assert_same_bits(&ours[i], &theirs[i]));
}

fn a_state_is_copied_and_nothing_else<B: Backend>(backend: &mut B) {
    let case = Case::new(&mut Random(65), HEADS[2], 4);
    let mut state = backend.recurrent(case.shape).unwrap();
    let (weights, cols) = (backend.parameter(&case.weights).unwrap(), case.shape.heads.qkv_cols());
    let (rate, bias) = (backend.parameter(&case.rate).unwrap(), backend.parameter(&case.bias).unwrap());
    for ((step, x), time_steps) in case.steps.iter().zip(&case.qkv).zip(&case.time_steps) {
        let (x, steps) = (tensor(backend, cols, x), tensor(backend, 2 * case.shape.heads.value_heads, time_steps));
        let (mut out, mut answers) = (
            backend.tensor(step.len(), cols).unwrap(),
            backend.tensor(step.len(), case.shape.heads.value_cols()).unwrap(),
        );
        backend.begin(step);
        backend.convolve(&mut out, &x, &weights, &mut state);
        backend.delta_rule(&mut answers, &x, &steps, Decay { rate: &rate, bias: &bias }, &mut state);
    }
    let [_, mut earlier, mut memories] = case.outcome(backend, Vec::new(), &state);
    for (from, to) in [(0, 2), (2, 1), (1, 1)] {
        backend.copy_recurrent(&mut state, from, to).unwrap();
        for (values, len) in [(&mut earlier, case.shape.earlier()), (&mut memories, case.shape.memories())] {
            values.copy_within(from as usize * len..(from as usize + 1) * len, to as usize * len);
        }
        let [_, found_earlier, found_memories] = case.outcome(backend, Vec::new(), &state);
        assert_same_bits(&found_earlier, &earlier);
        assert_same_bits(&found_memories, &memories);
    }
    assert_eq!(backend.recurrent_bytes(&state), case.shape.bytes().unwrap() as u64);
}

pub fn gates_multiply_each_value<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, cols: usize, x: &[f32], gates: &[f32]) -> Vec<f32> {
        let gates = tensor(b, cols, gates);
        b.begin(&rows(x.len() / cols));
        poisoned(b, x.len() / cols, cols, |b, out| {
            b.write_tensor(out, x);
            b.gate(out, &gates);
        })
    }
    let random = &mut Random(66);
    for (cols, count) in [(96, 1), (131, 5), (2560, 33)] {
        let x = random.floats(count * cols);
        let gates: Vec<f32> = random.floats(count * cols).iter().map(|v| v * 90.0).collect();
        assert_close(&run(backend, cols, &x, &gates), &reference(|r| run(r, cols, &x, &gates)), FLOAT_SUM);
    }
}

pub fn outputs_are_normed_by_head_and_gated<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, cols: usize, x: &[f32], gates: &[f32], gain: &[f32], order: HeadOrder) -> Vec<f32> {
        let (given, gates, gain) = (tensor(b, cols, x), tensor(b, cols, gates), b.parameter(gain).unwrap());
        b.begin(&rows(x.len() / cols));
        poisoned(b, x.len() / cols, cols, |b, out| {
            b.norm_gate(out, &given, &gates, HeadGain { gain: &gain, epsilon: 1e-6 }, order);
        })
    }
    let random = &mut Random(67);
    for (heads, head_dim, count) in [(6, 128, 1), (3, 100, 5), (2, 256, 33), (1, 4, 2)] {
        let (cols, gain) = (heads * head_dim, random.floats(head_dim));
        let (mut x, gates) = (random.floats(count * cols), random.floats(count * cols));
        x[..head_dim].iter_mut().for_each(|v| *v *= 1e-4);
        let orders = [
            HeadOrder::Tiled,
            HeadOrder::Grouped { key_heads: 1 },
            HeadOrder::Grouped { key_heads: heads.div_ceil(3) },
        ];
        for order in orders {
            let theirs = reference(|r| run(r, cols, &x, &gates, &gain, order));
            assert_close(&run(backend, cols, &x, &gates, &gain, order), &theirs, FLOAT_SUM);
        }
    }
}

fn recurrent_states_of_impossible_sizes_are_errors<B: Backend>(backend: &mut B) {
    for slots in [usize::MAX, 1 << 50] {
        let shape = RecurrentShape { slots, taps: 4, heads: HEADS[0] };
        assert!(matches!(backend.recurrent(shape), Err(sterna::Error::Device(_))), "{slots} slots");
    }
}
