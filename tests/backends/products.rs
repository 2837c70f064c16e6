//! Products of trits and int8: exact integer sums, at the extremes too, and every kind of scale.

use sterna::backend::{Backend, Numerics};
use sterna::cpu::KernelSet;
use sterna::format::Weights;
use sterna::format::ternary::{Scales, Ternary};

use crate::cpu::cpu;
use crate::material::{Random, assert_close, assert_same_bits, every_kind_of_scale, pack, poisoned, rows};
use crate::oracle::reference;
use crate::{ROWS, SCALED_SUM};

crate::on_every_backend! {
    integer_sums_are_exact
    integer_sums_are_exact_at_the_extremes
    code_three_counts_as_two
    many_rows_are_exact_at_the_extremes
    many_rows_meet_a_single_code_three
    long_rows_do_not_overflow
    products_apply_every_kind_of_scale
    stacked_parts_keep_their_own_scales
    matmul_add_adds
}

/// `x wᵀ` of a whole step, its activations scaled by rows.
pub fn product<B: Backend>(b: &mut B, parts: &[Weights], x: &[i8], scales: &[f32]) -> Vec<f32> {
    int8_product(b, parts, Numerics::Int8Rows, x, scales)
}

/// `x wᵀ` of a whole step.
pub fn int8_product<B: Backend>(
    b: &mut B,
    parts: &[Weights],
    numerics: Numerics,
    x: &[i8],
    scales: &[f32],
) -> Vec<f32> {
    let cols = parts[0].cols();
    let (count, outputs) = (x.len() / cols, parts.iter().map(Weights::rows).sum());
    let w = b.matrix(parts).unwrap();
    let mut q = b.quantized(count, cols, numerics).unwrap();
    b.write_quantized(&mut q, x, scales);
    b.begin(&rows(count));
    poisoned(b, count, outputs, |b, out| b.matmul(out, &w, &q))
}

fn exact_sums(trits: &[i8], x: &[i8], cols: usize) -> Vec<f32> {
    let dot = |w: &[i8], x: &[i8]| w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
    let sums = x.chunks(cols).flat_map(|x| trits.chunks(cols).map(move |w| dot(w, x)));
    // Exact: every sum here is below 2^24.
    sums.map(|sum| sum as f32).collect()
}

pub fn integer_sums_are_exact<B: Backend>(backend: &mut B) {
    let random = &mut Random(1);
    for (cols, outputs) in
        [(96, 67), (128, 1), (128, 130), (192, 5), (256, 33), (640, 9), (2560, 7), (2560, 130), (6912, 6), (13824, 5)]
    {
        for count in ROWS {
            let (trits, x) = (random.trits(outputs * cols), random.int8(count * cols));
            let out = product(backend, &[pack(outputs, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
            assert_same_bits(&out, &exact_sums(&trits, &x, cols));
        }
    }
}

pub fn integer_sums_are_exact_at_the_extremes<B: Backend>(backend: &mut B) {
    for cols in [96, 128, 1280, 1408, 2560, 2688, 6912, 13824, 65536] {
        for (trit, activation) in [(1, 127), (-1, -128), (1, -128), (-1, 127), (0, 127), (0, -128)] {
            for count in [1, 2, 3, 4, 8, 9] {
                let (trits, x) = (vec![trit; 5 * cols], vec![activation; count * cols]);
                let out = product(backend, &[pack(5, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
                let sum = i32::from(trit) * i32::from(activation) * cols as i32;
                assert_same_bits(&out, &vec![sum as f32; 5 * count]);
            }
        }
    }
}

pub fn code_three_counts_as_two<B: Backend>(backend: &mut B) {
    for cols in [128, 1280, 2560, 2688, 13824] {
        for activation in [127i8, -128] {
            for count in [1, 4, 8] {
                let codes = vec![0xff; 3 * cols / 4];
                let w = Ternary::new(3, cols, codes.into(), Scales::Tensor(1.0)).unwrap();
                let out = product(backend, &[Weights::Ternary(w)], &vec![activation; count * cols], &vec![1.0; count]);
                assert_same_bits(&out, &vec![(2 * i32::from(activation) * cols as i32) as f32; 3 * count]);
            }
        }
    }
}

/// Enough weight rows and activation rows that kernel sets take their way for many, in whole tiles and beside.
pub fn many_rows_are_exact_at_the_extremes<B: Backend>(backend: &mut B) {
    let outputs = 130;
    for cols in [96, 128, 2560, 6912] {
        for (trit, activation) in [(1, 127), (-1, -128), (1, -128), (-1, 127)] {
            for count in [31, 32, 35] {
                let (trits, x) = (vec![trit; outputs * cols], vec![activation; count * cols]);
                let out = product(backend, &[pack(outputs, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
                let sum = i32::from(trit) * i32::from(activation) * cols as i32;
                assert_same_bits(&out, &vec![sum as f32; outputs * count]);
            }
        }
    }
}

pub fn many_rows_meet_a_single_code_three<B: Backend>(backend: &mut B) {
    let (outputs, cols, count) = (300, 384, 40);
    for (byte, col) in [(0xc0u8, 0), (0x30, 32), (0x0c, 64), (0x03, 96)] {
        // Everything else is -1, code 0; the byte lies in the last block of a row in the middle.
        let mut codes = vec![0; outputs * cols / 4];
        codes[201 * cols / 4 + 64] = byte;
        let w = Ternary::new(outputs, cols, codes.into(), Scales::Tensor(1.0)).unwrap();
        let x = Random(7).int8(count * cols);
        let mut expected = exact_sums(&vec![-1; outputs * cols], &x, cols);
        for (row, x) in x.chunks(cols).enumerate() {
            expected[row * outputs + 201] += 3.0 * f32::from(x[256 + col]);
        }
        let out = product(backend, &[Weights::Ternary(w)], &x, &vec![1.0; count]);
        assert_same_bits(&out, &expected);
    }
}

pub fn long_rows_do_not_overflow<B: Backend>(backend: &mut B) {
    let cols = 1 << 20;
    for (code, activation) in [(0xffu8, -128i8), (0xff, 127), (0x00, -128), (0xaa, 127)] {
        let w = Ternary::new(1, cols, vec![code; cols / 4].into(), Scales::Tensor(1.0)).unwrap();
        let sum = (i64::from(code & 3) - 1) * i64::from(activation) * cols as i64;
        for count in [1, 2] {
            let out =
                product(backend, &[Weights::Ternary(w.clone())], &vec![activation; count * cols], &vec![1.0; count]);
            assert_same_bits(&out, &vec![sum as f32; count]);
        }
    }
}

pub fn products_apply_every_kind_of_scale<B: Backend>(backend: &mut B) {
    let random = &mut Random(2);
    for (cols, outputs) in [(96, 9), (128, 70), (192, 5), (640, 130), (2560, 9), (13824, 4)] {
        for scales in every_kind_of_scale(random, outputs, cols) {
            let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
            for count in [1, 3, 8, 17, 40] {
                let (x, factors) = (random.int8(count * cols), random.scales(count));
                let theirs = reference(|r| product(r, &weights, &x, &factors));
                assert_close(&product(backend, &weights, &x, &factors), &theirs, SCALED_SUM);
            }
        }
    }
}

pub fn stacked_parts_keep_their_own_scales<B: Backend>(backend: &mut B) {
    let random = &mut Random(3);
    for cols in [96, 256, 2560] {
        let mut parts = vec![pack(200, cols, &random.trits(200 * cols), Scales::Tensor(7.0))];
        for scales in every_kind_of_scale(random, 5, cols) {
            parts.push(pack(5, cols, &random.trits(5 * cols), scales));
        }
        for count in [1, 5] {
            let (x, factors) = (random.int8(count * cols), random.scales(count));
            let theirs = reference(|r| product(r, &parts, &x, &factors));
            assert_close(&product(backend, &parts, &x, &factors), &theirs, SCALED_SUM);
        }
    }
}

pub fn matmul_add_adds<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, weights: &Weights, x: &[i8], before: &[f32], count: usize) -> Vec<f32> {
        let w = b.matrix(std::slice::from_ref(weights)).unwrap();
        let mut q = b.quantized(count, weights.cols(), Numerics::Int8Rows).unwrap();
        b.write_quantized(&mut q, x, &vec![2.0; count]);
        b.begin(&rows(count));
        poisoned(b, count, weights.rows(), |b, out| {
            b.write_tensor(out, before);
            b.matmul_add(out, &w, &q);
        })
    }
    let random = &mut Random(4);
    let (outputs, cols) = (133, 640);
    for count in ROWS {
        let weights = pack(outputs, cols, &random.trits(outputs * cols), Scales::Tensor(0.5));
        let (x, before) = (random.int8(count * cols), random.floats(count * outputs));
        let theirs = reference(|r| run(r, &weights, &x, &before, count));
        assert_close(&run(backend, &weights, &x, &before, count), &theirs, SCALED_SUM);
    }
}

#[test]
fn integers_and_elementwise_floats_are_the_same_bits_in_every_kernel_set() {
    let random = &mut Random(16);
    let (cols, outputs, count) = (2560, 70, 5);
    let (x, factors) = (random.int8(count * cols), random.scales(count));
    for scales in every_kind_of_scale(random, outputs, cols) {
        let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
        let portable = product(&mut cpu(KernelSet::Portable, 1), &weights, &x, &factors);
        for kernels in KernelSet::available() {
            assert_same_bits(&product(&mut cpu(kernels, 1), &weights, &x, &factors), &portable);
        }
    }
}
