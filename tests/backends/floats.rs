//! The verbs between the products: quantising, norms, rotations and gates.

use sterna::backend::{Activation, Backend, Numerics, Rope, RopePairs, Row};

use crate::material::{Random, assert_close, assert_codes, assert_same_bits, poisoned, poisoned_int8, rows, tensor};
use crate::oracle::reference;
use crate::{FLOAT_SUM, SCALED_SUM};

crate::on_every_backend! {
    quantize_rounds_half_to_even_as_the_reference
    norm_quantize_is_the_norm_and_then_the_quantizer
    norm_selected_packs_the_rows_that_want_logits
    rotations_are_exact
    glu_applies_every_activation
}

const INT8: [Numerics; 2] = [Numerics::Int8Rows, Numerics::Int8Groups];

pub fn quantized<B: Backend>(b: &mut B, cols: usize, numerics: Numerics, x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let x_tensor = tensor(b, cols, x);
    b.begin(&rows(x.len() / cols));
    poisoned_int8(b, x.len() / cols, cols, numerics, |b, out| b.quantize(out, &x_tensor))
}

#[track_caller]
fn assert_quantized_alike<B: Backend>(backend: &mut B, cols: usize, x: &[f32]) {
    for numerics in INT8 {
        let ours = quantized(backend, cols, numerics, x);
        let theirs = reference(|r| quantized(r, cols, numerics, x));
        assert_codes(backend, &ours.0, &theirs.0);
        assert_same_bits(&ours.1, &theirs.1);
    }
}

fn quantize_rounds_half_to_even_as_the_reference<B: Backend>(backend: &mut B) {
    let random = &mut Random(5);
    for cols in [96, 100, 128, 131, 192, 2560, 6912] {
        let mut x = random.floats(8 * cols);
        x[..cols].fill(0.0);
        x[cols..2 * cols].iter_mut().for_each(|v| *v *= 1e-7);
        x[2 * cols..3 * cols].iter_mut().for_each(|v| *v *= 1e30);
        // Ties: multiples of one half, with a scale of exactly 1.
        x[3 * cols..4 * cols].iter_mut().for_each(|v| *v = (*v * 254.0).round() / 2.0);
        x[3 * cols] = -127.0;
        // Blocks of very different sizes.
        let blocks = x[4 * cols..5 * cols].chunks_mut(128).zip([1.0, 1e-9, 1e9, 0.0].into_iter().cycle());
        blocks.for_each(|(block, size)| block.iter_mut().for_each(|v| *v *= size));
        assert_quantized_alike(backend, cols, &x);
    }
}

pub fn norm_quantize_is_the_norm_and_then_the_quantizer<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, cols: usize, numerics: Numerics, x: &[f32], gain: &[f32]) -> (Vec<i8>, Vec<f32>) {
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        b.begin(&rows(x.len() / cols));
        poisoned_int8(b, x.len() / cols, cols, numerics, |b, out| b.norm_quantize(out, &x_tensor, &gain, 1e-5))
    }
    let random = &mut Random(7);
    for (cols, numerics) in [96, 131, 640, 2560, 6912].into_iter().flat_map(|cols| INT8.map(|n| (cols, n))) {
        let (x, gain) = (random.floats(17 * cols), random.floats(cols));
        let ours = run(backend, cols, numerics, &x, &gain);
        let theirs = reference(|r| run(r, cols, numerics, &x, &gain));
        // A value next to a tie may round the other way, by one.
        let moved = ours.0.iter().zip(&theirs.0).filter(|(a, b)| a != b).count();
        assert!(ours.0.iter().zip(&theirs.0).all(|(a, b)| a.abs_diff(*b) <= 1) && moved <= cols / 200 + 1, "{moved}");
        assert_close(&ours.1, &theirs.1, FLOAT_SUM);
    }
}

fn norm_selected_packs_the_rows_that_want_logits<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, cols: usize, step: &[Row], x: &[f32], gain: &[f32]) -> Vec<f32> {
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        let selected = step.iter().filter(|row| row.wants_logits).count();
        b.begin(step);
        poisoned(b, selected, cols, |b, out| b.norm_selected(out, &x_tensor, &gain, 1e-6))
    }
    let random = &mut Random(8);
    for (cols, count) in [(96, 1), (131, 5), (2560, 33)] {
        let mut step = rows(count);
        step.iter_mut().enumerate().for_each(|(i, row)| row.wants_logits = i % 3 != 1);
        let (x, gain) = (random.floats(count * cols), random.floats(cols));
        let theirs = reference(|r| run(r, cols, &step, &x, &gain));
        assert_close(&run(backend, cols, &step, &x, &gain), &theirs, FLOAT_SUM);
    }
}

pub fn rope(pairs: RopePairs, count: usize, head_dim: usize) -> Rope {
    let frequencies = (0..count).map(|i| 500_000f64.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    Rope { pairs, frequencies, magnitude: 1.0 }
}

pub fn rotations_are_exact<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, step: &[Row], rope: &Rope) -> Vec<f32> {
        b.begin(step);
        poisoned(b, step.len(), 2 * rope.frequencies.len(), |b, out| b.rotations(out, rope))
    }
    let mut step = rows(300);
    step.iter_mut().for_each(|row| row.position *= 431);
    let rope = rope(RopePairs::Half, 64, 128);
    assert_same_bits(&run(backend, &step, &rope), &reference(|r| run(r, &step, &rope)));
}

pub fn glu_applies_every_activation<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, cols: usize, gate_up: &[f32], activation: Activation) -> Vec<f32> {
        let gate_up_tensor = tensor(b, 2 * cols, gate_up);
        let count = gate_up.len() / (2 * cols);
        b.begin(&rows(count));
        poisoned(b, count, cols, |b, out| b.glu(out, &gate_up_tensor, activation))
    }
    let random = &mut Random(12);
    for (cols, count) in [(96, 1), (131, 3), (6912, 5)] {
        for size in [1.0, 20.0, 300.0] {
            let gate_up: Vec<f32> = random.floats(count * 2 * cols).iter().map(|v| v * size).collect();
            for activation in [Activation::SquaredRelu, Activation::Silu, Activation::Gelu] {
                let theirs = reference(|r| run(r, cols, &gate_up, activation));
                assert_close(&run(backend, cols, &gate_up, activation), &theirs, SCALED_SUM);
            }
        }
    }
}
