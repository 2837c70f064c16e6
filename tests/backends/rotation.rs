//! Inputs in a rotated basis against their definition, in every number format, alone and within the bigger verbs; and rows turned back.

use sterna::backend::{Activation, Backend, MOST_BLOCK, Norm, Numerics, Row};
use sterna::format::Weights;
use sterna::format::ternary::{Scales, Ternary};

use crate::fusion::fused_tolerance;
use crate::material::{Random, assert_close, assert_same_bits, poisoned, read, rows, scales_a_row, tensor};
use crate::oracle::reference;
use crate::{FLOAT_SUM, SCALED_SUM};

crate::on_every_backend! {
    quantised_rows_are_turned_before
    products_of_turned_rows_are_those_of_the_definition
    bigger_verbs_turn_their_inputs_once
    selected_rows_are_turned
    rows_are_turned_back
}

/// Columns, and the length of blocks: shorter than a group of 128 columns, as long, longer, the published one, the longest, and none at all.
const SIZES: [(usize, usize); 8] =
    [(128, 64), (256, 256), (768, 256), (5120, 1024), (2 * MOST_BLOCK, MOST_BLOCK), (192, 64), (96, 8), (100, 1)];
const EPSILON: f32 = 1e-6;

fn signs(random: &mut Random, cols: usize) -> Vec<f32> {
    random.floats(cols).iter().map(|v| v.signum()).collect()
}

/// Rows that were turned and quantised, behind a norm or not: int8 and scales.
fn quantised<B: Backend>(
    b: &mut B,
    numerics: Numerics,
    (block, signs): (usize, &[f32]),
    x: &[f32],
    gain: Option<&[f32]>,
) -> (Vec<i8>, Vec<f32>) {
    let cols = signs.len();
    let count = x.len() / cols;
    let basis = b.basis(block, signs).unwrap();
    let mut q = b.quantized(count, cols, numerics).unwrap();
    b.rotate_inputs(&mut q, &basis).unwrap();
    let x = tensor(b, cols, x);
    b.begin(&rows(count));
    match gain {
        Some(gain) => {
            let gain = b.parameter(gain).unwrap();
            b.norm_quantize(&mut q, &x, &gain, EPSILON);
        }
        None => b.quantize(&mut q, &x),
    }
    let (mut values, mut scales) = (vec![0; count * cols], vec![0.0; count * scales_a_row(cols, numerics)]);
    b.read_quantized(&q, &mut values, &mut scales).unwrap();
    (values, scales)
}

/// Sums of f32 in another order than the reference's f64 may lie on the other side of a rounding boundary.
fn quantised_rows_are_turned_before<B: Backend>(backend: &mut B) {
    let random = &mut Random(71);
    for (cols, block) in SIZES {
        let (signs, x, gain) = (signs(random, cols), random.floats(3 * cols), random.scales(cols));
        for numerics in [Numerics::Int8Rows, Numerics::Int8Groups] {
            for gain in [None, Some(&gain[..])] {
                let (values, scales) = quantised(backend, numerics, (block, &signs), &x, gain);
                let (theirs, their_scales) = reference(|r| quantised(r, numerics, (block, &signs), &x, gain));
                assert_close(&scales, &their_scales, FLOAT_SUM);
                let apart = values.iter().zip(&theirs).filter(|(a, b)| a != b);
                assert!(apart.clone().all(|(a, b)| a.abs_diff(*b) == 1), "{cols} columns in blocks of {block}");
                assert!(apart.count() <= values.len() / 500 + 1, "{cols} columns in blocks of {block}");
            }
        }
    }
}

fn weights(random: &mut Random, outputs: usize, cols: usize) -> Weights {
    let scales = Scales::Groups { columns: 128, values: random.scales(outputs * cols.div_ceil(128)) };
    Weights::Ternary(Ternary::pack(outputs, cols, &random.trits(outputs * cols), scales).unwrap())
}

fn products_of_turned_rows_are_those_of_the_definition<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, w: &Weights, basis: (usize, &[f32]), x: &[f32]) -> Vec<f32> {
        let (cols, count) = (w.cols(), x.len() / w.cols());
        let outputs = w.rows();
        let (w, x) = (b.matrix(std::slice::from_ref(w)).unwrap(), tensor(b, cols, x));
        let basis = b.basis(basis.0, basis.1).unwrap();
        let mut q = b.quantized(count, cols, Numerics::Float).unwrap();
        b.rotate_inputs(&mut q, &basis).unwrap();
        b.begin(&rows(count));
        poisoned(b, count, outputs, |b, out| {
            b.quantize(&mut q, &x);
            b.matmul(out, &w, &q);
        })
    }
    let random = &mut Random(72);
    for (cols, block) in SIZES {
        let (signs, w) = (signs(random, cols), weights(random, 7, cols));
        for count in [1, 3, 40] {
            let x = random.floats(count * cols);
            let theirs = reference(|r| run(r, &w, (block, &signs), &x));
            assert_close(&run(backend, &w, (block, &signs), &x), &theirs, FLOAT_SUM);
        }
    }
}

/// What is fused gives what the plain verbs give on the same backend.
pub fn bigger_verbs_turn_their_inputs_once<B: Backend>(b: &mut B) {
    let random = &mut Random(73);
    let (cols, block, half) = (512, 256, 96);
    let (signs, gain) = (signs(random, cols), random.scales(cols));
    let w = b.matrix(&[weights(random, 2 * half, cols)]).unwrap();
    let (basis, gain) = (b.basis(block, &signs).unwrap(), b.parameter(&gain).unwrap());
    let norm = Norm { gain: &gain, epsilon: EPSILON };
    for numerics in [Numerics::Int8Rows, Numerics::Int8Groups, Numerics::Float] {
        for count in [1, 3, 40] {
            let (x, before) = (random.floats(count * cols), random.floats(count * 2 * half));
            let x = tensor(b, cols, &x);
            let mut q = b.quantized(count, cols, numerics).unwrap();
            b.rotate_inputs(&mut q, &basis).unwrap();
            b.begin(&rows(count));
            let plain = poisoned(b, count, 2 * half, |b, out| {
                b.norm_quantize(&mut q, &x, norm.gain, norm.epsilon);
                b.matmul(out, &w, &q);
            });
            let fused = poisoned(b, count, 2 * half, |b, out| b.norm_matmul(out, &mut q, &w, &x, norm));
            assert_close(&fused, &plain, fused_tolerance(b));
            for norm in [None, Some(norm)] {
                let added = poisoned(b, count, 2 * half, |b, out| {
                    b.write_tensor(out, &before);
                    b.norm_matmul_add(out, &mut q, &w, &x, norm);
                });
                let plain = poisoned(b, count, 2 * half, |b, out| {
                    b.write_tensor(out, &before);
                    match norm {
                        Some(norm) => b.norm_quantize(&mut q, &x, norm.gain, norm.epsilon),
                        None => b.quantize(&mut q, &x),
                    }
                    b.matmul_add(out, &w, &q);
                });
                assert_close(&added, &plain, fused_tolerance(b));
            }
            let gates = tensor(b, 2 * half, &plain);
            let gated = poisoned(b, count, half, |b, out| b.glu(out, &gates, Activation::Silu));
            let mut gate_up = b.tensor(count, 2 * half).unwrap();
            let fused = poisoned(b, count, half, |b, out| {
                b.norm_matmul_glu(out, &mut gate_up, &mut q, &w, &x, norm, Activation::Silu);
            });
            assert_close(&fused, &gated, 10.0 * fused_tolerance(b));
        }
    }
}

pub fn selected_rows_are_turned<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, (block, signs): (usize, &[f32]), x: &[f32]) -> Vec<f32> {
        let basis = b.basis(block, signs).unwrap();
        let x = tensor(b, signs.len(), x);
        let row = |position| Row { sequence: 0, position, wants_logits: position % 2 == 1 };
        b.begin(&(0..6).map(row).collect::<Vec<_>>());
        poisoned(b, 3, signs.len(), |b, out| b.rotate_selected(out, &x, &basis))
    }
    let random = &mut Random(74);
    for (cols, block) in SIZES {
        let (signs, x) = (signs(random, cols), random.floats(3 * cols));
        let theirs = reference(|r| run(r, (block, &signs), &x));
        assert_close(&run(backend, (block, &signs), &x), &theirs, FLOAT_SUM);
    }
}

pub fn rows_are_turned_back<B: Backend>(backend: &mut B) {
    let random = &mut Random(75);
    for (cols, block) in SIZES {
        let (signs, x) = (signs(random, cols), random.floats(3 * cols));
        let basis = backend.basis(block, &signs).unwrap();
        let given = tensor(backend, cols, &x);
        backend.begin(&rows(3));
        let turned = poisoned(backend, 3, cols, |b, out| b.rotate_selected(out, &given, &basis));
        let turned = tensor(backend, cols, &turned);
        let restored = poisoned(backend, 3, cols, |b, out| b.restore(out, &turned, &basis));
        assert_close(&restored, &x, FLOAT_SUM);
        // Signs come last: of a row with one value, all of a block are that value's share with their own signs.
        let mut one = vec![0.0; 3 * cols];
        one[0] = 1.0;
        let one = tensor(backend, cols, &one);
        let spread = poisoned(backend, 3, cols, |b, out| b.restore(out, &one, &basis));
        let share = 1.0 / (block as f32).sqrt();
        let wanted: Vec<f32> = (0..3 * cols).map(|i| if i < block { signs[i] * share } else { 0.0 }).collect();
        assert_close(&spread, &wanted, SCALED_SUM);
        let read_back = read(backend, &given, 3 * cols);
        assert_same_bits(&read_back, &x);
    }
}
