//! Activations that are scaled by blocks of 128 columns, or kept as floats: products with every kind of weight scale, and
//! heads that are ternary.

use sterna::backend::MOST_CANDIDATES;
use sterna::backend::{Backend, Numerics};
use sterna::format::Weights;
use sterna::format::ternary::{Scales, Ternary};
use sterna::measure::Reads;

use crate::material::{
    Random, assert_close, assert_same_bits, every_kind_of_scale, pack, poisoned, read, rows, scales_a_row, tensor,
};
use crate::oracle::reference;
use crate::products::int8_product;
use crate::{FLOAT_SUM, SCALED_SUM};

crate::on_every_backend! {
    sums_within_blocks_are_exact_at_the_extremes
    code_three_counts_as_two_in_blocks
    products_of_blocks_apply_every_kind_of_scale
    products_of_floats_apply_every_kind_of_scale
    both_are_added_to_what_is_there
    a_ternary_head_is_quantised_and_multiplied
    a_ternary_head_counts_as_a_head
}

const BLOCKS: Numerics = Numerics::Int8Groups;
const COUNTS: [usize; 6] = [1, 3, 8, 17, 40, 130];
/// Ragged blocks, halves of them, whole ones, and more than one tile of outputs.
const SHAPES: [(usize, usize); 6] = [(96, 9), (100, 70), (128, 130), (192, 5), (640, 67), (2560, 12)];
/// Columns of more blocks than the CPU multiplies in one piece.
const LONG: usize = 163 * 128;

fn blocks_of(cols: usize) -> usize {
    scales_a_row(cols, BLOCKS)
}

/// Scales of 1 leave the integers, which are all below 2^24 here.
pub fn sums_within_blocks_are_exact_at_the_extremes<B: Backend>(backend: &mut B) {
    for cols in [96, 128, 192, 2560, 6912] {
        for (trit, activation) in [(1, 127), (-1, -128), (1, -128), (-1, 127), (0, -128)] {
            for count in [1, 2, 8, 9, 35] {
                let w = [pack(70, cols, &vec![trit; 70 * cols], Scales::Tensor(1.0))];
                let (x, scales) = (vec![activation; count * cols], vec![1.0; count * blocks_of(cols)]);
                let sum = i32::from(trit) * i32::from(activation) * cols as i32;
                assert_same_bits(&int8_product(backend, &w, BLOCKS, &x, &scales), &vec![sum as f32; 70 * count]);
            }
        }
    }
}

fn code_three_counts_as_two_in_blocks<B: Backend>(backend: &mut B) {
    for (cols, activation) in [128, 2560, LONG].into_iter().flat_map(|cols| [(cols, 127i8), (cols, -128)]) {
        for count in [1, 8, 40] {
            let w = Ternary::new(3, cols, vec![0xff; 3 * cols / 4].into(), Scales::Tensor(1.0)).unwrap();
            let (x, scales) = (vec![activation; count * cols], vec![1.0; count * blocks_of(cols)]);
            let sum = (2 * i32::from(activation) * cols as i32) as f32;
            assert_same_bits(
                &int8_product(backend, &[Weights::Ternary(w)], BLOCKS, &x, &scales),
                &vec![sum; 3 * count],
            );
        }
    }
}

/// Weights with every kind of scale, each alone and stacked below other parts.
fn every_kind_of_weights(random: &mut Random, outputs: usize, cols: usize) -> Vec<Vec<Weights>> {
    let kinds = every_kind_of_scale(random, outputs, cols);
    let mut all: Vec<Vec<Weights>> =
        kinds.into_iter().map(|scales| vec![pack(outputs, cols, &random.trits(outputs * cols), scales)]).collect();
    all.push(all.concat());
    all
}

fn products_of_blocks_apply_every_kind_of_scale<B: Backend>(backend: &mut B) {
    let random = &mut Random(41);
    for (cols, outputs) in SHAPES.into_iter().chain([(LONG, 19)]) {
        for weights in every_kind_of_weights(random, outputs, cols) {
            for count in COUNTS {
                let (x, scales) = (random.int8(count * cols), random.scales(count * blocks_of(cols)));
                let theirs = reference(|r| int8_product(r, &weights, BLOCKS, &x, &scales));
                assert_close(&int8_product(backend, &weights, BLOCKS, &x, &scales), &theirs, FLOAT_SUM);
            }
        }
    }
}

/// Quantised as `numerics` say, and multiplied; added to `before`, if there is any.
fn product_of<B: Backend>(b: &mut B, parts: &[Weights], n: Numerics, x: &[f32], before: Option<&[f32]>) -> Vec<f32> {
    let cols = parts[0].cols();
    let (count, outputs) = (x.len() / cols, parts.iter().map(Weights::rows).sum());
    let (w, x) = (b.matrix(parts).unwrap(), tensor(b, cols, x));
    let mut q = b.quantized(count, cols, n).unwrap();
    b.begin(&rows(count));
    b.quantize(&mut q, &x);
    poisoned(b, count, outputs, |b, out| match before {
        None => b.matmul(out, &w, &q),
        Some(before) => {
            b.write_tensor(out, before);
            b.matmul_add(out, &w, &q);
        }
    })
}

pub fn products_of_floats_apply_every_kind_of_scale<B: Backend>(backend: &mut B) {
    let random = &mut Random(42);
    for (cols, outputs) in SHAPES {
        for weights in every_kind_of_weights(random, outputs, cols) {
            for count in COUNTS {
                let x = random.floats(count * cols);
                let theirs = reference(|r| product_of(r, &weights, Numerics::Float, &x, None));
                assert_close(&product_of(backend, &weights, Numerics::Float, &x, None), &theirs, FLOAT_SUM);
            }
        }
    }
}

fn both_are_added_to_what_is_there<B: Backend>(backend: &mut B) {
    let random = &mut Random(43);
    let (outputs, cols) = (133, 640);
    for numerics in [BLOCKS, Numerics::Float] {
        for count in COUNTS {
            let scales = Scales::Groups { columns: 128, values: random.scales(outputs * 5) };
            let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
            let (x, before) = (random.floats(count * cols), random.floats(count * outputs));
            let theirs = reference(|r| product_of(r, &weights, numerics, &x, Some(&before)));
            assert_close(&product_of(backend, &weights, numerics, &x, Some(&before)), &theirs, FLOAT_SUM);
        }
    }
}

/// What a head tells of every other row of a step.
#[derive(Clone)]
struct Told {
    logits: Vec<f32>,
    best: Vec<u32>,
    argmax: Vec<u32>,          // of the same logits
    candidates: [Vec<u32>; 2], // by the bigger verb, and of the same logits
    candidate_logits: [Vec<f32>; 2],
}

fn tell<B: Backend>(b: &mut B, parts: &[Weights], numerics: Numerics, x: &[f32]) -> Told {
    const COUNT: usize = 7;
    let cols = parts[0].cols();
    let (selected, outputs) = (x.len() / cols, parts.iter().map(Weights::rows).sum());
    let (mut head, x) = (b.matrix(parts).unwrap(), tensor(b, cols, x));
    b.prepare_head(&mut head, numerics).unwrap();
    b.head_room(&head, selected, numerics).unwrap();
    let mut step = rows(2 * selected);
    step.iter_mut().for_each(|row| row.wants_logits = row.position % 2 == 1);
    b.begin(&step);
    let logits = poisoned(b, selected, outputs, |b, out| b.logits(out, &head, &x));

    let mut room = b.tensor(selected, outputs).unwrap();
    let given = tensor(b, outputs, &logits);
    let tokens = |b: &mut B, verb: &mut dyn FnMut(&mut B, &mut B::Tokens)| {
        let mut tokens = b.tokens(selected).unwrap();
        verb(b, &mut tokens);
        let mut ids = vec![0; selected];
        b.read_tokens(&tokens, &mut ids).unwrap();
        ids
    };
    let best = tokens(b, &mut |b, tokens| b.best(tokens, &mut room, &head, &x));
    let argmax = tokens(b, &mut |b, tokens| b.argmax(tokens, &given));
    let candidates = [false, true].map(|plainly| {
        let mut tokens = b.tokens(selected * MOST_CANDIDATES).unwrap();
        let mut values = b.tensor(selected, MOST_CANDIDATES).unwrap();
        match plainly {
            true => b.top(&mut tokens, &mut values, COUNT, &given),
            false => b.candidates(&mut tokens, &mut values, COUNT, &mut room, &head, &x),
        }
        let mut ids = vec![0; selected * MOST_CANDIDATES];
        b.read_tokens(&tokens, &mut ids).unwrap();
        let values = read(b, &values, selected * MOST_CANDIDATES);
        let ids = ids.chunks(MOST_CANDIDATES).flat_map(|row| row[..COUNT].to_vec()).collect();
        (ids, values.chunks(MOST_CANDIDATES).flat_map(|row| row[..COUNT].to_vec()).collect())
    });
    let [(a, a_logits), (b, b_logits)] = candidates;
    Told { logits, best, argmax, candidates: [a, b], candidate_logits: [a_logits, b_logits] }
}

fn a_ternary_head_is_quantised_and_multiplied<B: Backend>(backend: &mut B) {
    let random = &mut Random(44);
    // More rows than the pieces that some GPUs are given; several parts.
    for (cols, vocabulary) in [(96, 301), (200, 70), (640, 700)] {
        let scales = [
            Scales::Tensor(0.37),
            Scales::Groups { columns: 128, values: random.scales(vocabulary * blocks_of(cols)) },
        ];
        for scales in scales {
            let head = pack(vocabulary, cols, &random.trits(vocabulary * cols), scales);
            let parts = [head.clone(), head];
            for (numerics, tolerance) in
                [(Numerics::Int8Rows, SCALED_SUM), (BLOCKS, FLOAT_SUM), (Numerics::Float, FLOAT_SUM)]
            {
                for selected in [1, 2, 9, 35] {
                    let x = random.floats(selected * cols);
                    let ours = tell(backend, &parts, numerics, &x);
                    let theirs = reference(|r| tell(r, &parts, numerics, &x));
                    assert_close(&ours.logits, &theirs.logits, tolerance);
                    assert_eq!(ours.best, ours.argmax);
                    assert_eq!(ours.candidates[0], ours.candidates[1]);
                    assert_same_bits(&ours.candidate_logits[0], &ours.candidate_logits[1]);
                }
            }
        }
    }
}

/// What a measured speed is believed by: the head ran, and read all of its rows; layers did not.
fn a_ternary_head_counts_as_a_head<B: Backend>(backend: &mut B) {
    let random = &mut Random(45);
    let (cols, vocabulary) = (640, 700);
    let head = [pack(vocabulary, cols, &random.trits(vocabulary * cols), Scales::Tensor(1.0))];
    for numerics in [Numerics::Int8Rows, BLOCKS, Numerics::Float] {
        for selected in [1, 9, 35] {
            let before = backend.work();
            tell(backend, &head, numerics, &random.floats(selected * cols));
            let work = backend.work().since(&before);
            assert!(work.calls(Reads::Head) >= 3, "{work:?}"); // logits, best and candidates
            assert!(work.bytes(Reads::Head) >= 3 * (vocabulary * cols / 4) as u64, "{work:?}");
            assert_eq!(work.calls(Reads::Trits), 0, "{work:?}");
        }
    }
}
