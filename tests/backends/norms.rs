//! Norms that stand apart from products: of whole rows, of what is added to the residual stream, and of each query and key
//! head before or after it is turned.

use sterna::backend::{Backend, CachePrecision, CacheShape, HeadNorm, HeadNormOrder, Heads, Norm, Rope, Rotary, Row};

use crate::floats::rope;
use crate::material::{Random, assert_close, assert_same_bits, poisoned, precisions_and_pairs, read, rows, tensor};
use crate::oracle::reference;
use crate::{FLOAT_SUM, SCALED_SUM};

crate::on_every_backend! {
    norm_is_that_of_every_row
    norm_add_adds_it
    place_copies_to_some_columns
    heads_are_normed_before_or_after_they_are_turned
}

const EPSILON: f32 = 1e-6;
/// A feature of a key that a norm rounded another way may be the next number in half precision: 2^-8 away, from 4 on. Those of queries
/// reach 5 too, and scores are products over √6 at least, so one moves by up to 8e-3; and a sum of values below 1 by half of that.
const HALF_ROUNDING: f32 = 4e-3;

pub fn norm_is_that_of_every_row<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, x: &[f32], gain: &[f32]) -> Vec<f32> {
        let cols = gain.len();
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        let mut step = rows(x.len() / cols);
        step.iter_mut().for_each(|row| row.wants_logits = false);
        b.begin(&step);
        poisoned(b, x.len() / cols, cols, |b, out| b.norm(out, &x_tensor, Norm { gain: &gain, epsilon: EPSILON }))
    }
    let random = &mut Random(51);
    for (cols, count) in [(96, 1), (131, 5), (2560, 33)] {
        let (mut x, gain) = (random.floats(count * cols), random.floats(cols));
        x[..cols].iter_mut().for_each(|v| *v *= 1e-4);
        assert_close(&run(backend, &x, &gain), &reference(|r| run(r, &x, &gain)), FLOAT_SUM);
    }
}

pub fn norm_add_adds_it<B: Backend>(backend: &mut B) {
    fn run<B: Backend>(b: &mut B, x: &[f32], gain: &[f32], before: &[f32]) -> Vec<f32> {
        let cols = gain.len();
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        b.begin(&rows(x.len() / cols));
        poisoned(b, x.len() / cols, cols, |b, out| {
            b.write_tensor(out, before);
            b.norm_add(out, &x_tensor, Norm { gain: &gain, epsilon: EPSILON });
        })
    }
    let random = &mut Random(52);
    for (cols, count) in [(96, 1), (131, 5), (2560, 33)] {
        let (x, gain, before) = (random.floats(count * cols), random.floats(cols), random.floats(count * cols));
        let theirs = reference(|r| run(r, &x, &gain, &before));
        assert_close(&run(backend, &x, &gain, &before), &theirs, FLOAT_SUM);
    }
}

pub fn place_copies_to_some_columns<B: Backend>(backend: &mut B) {
    let random = &mut Random(53);
    for (cols, first_col, width) in [(96, 0, 96), (7, 5, 131), (100, 31, 131), (640, 1280, 2560)] {
        let count = 5;
        let (x, before) = (random.floats(count * cols), random.floats(count * width));
        let x_tensor = tensor(backend, cols, &x);
        backend.begin(&rows(count));
        let out = poisoned(backend, count, width, |b, out| {
            b.write_tensor(out, &before);
            b.place(out, first_col, &x_tensor);
        });
        let mut expected = before;
        for (to, from) in expected.chunks_mut(width).zip(x.chunks(cols)) {
            to[first_col..first_col + cols].copy_from_slice(from);
        }
        assert_same_bits(&out, &expected);
    }
}

/// Several steps of two sequences through one cache, whose heads are normed.
struct Case {
    heads: Heads,
    rope: Rope,
    order: HeadNormOrder,
    precision: CachePrecision,
    steps: Vec<Vec<Row>>,
    qkv: Vec<Vec<f32>>, // of each step
    gains: [Vec<f32>; 2],
}

impl Case {
    fn new(random: &mut Random, heads: Heads, rope: Rope, order: HeadNormOrder, precision: CachePrecision) -> Self {
        let run = |sequence, begin, end| (begin..end).map(move |p| Row { sequence, position: p, wants_logits: true });
        let mut steps: Vec<Vec<Row>> = vec![run(0, 0, 33).collect(), run(1, 0, 7).chain(run(0, 33, 34)).collect()];
        steps.extend((0..3).map(|i| run(0, 34 + i, 35 + i).chain(run(1, 7 + i, 8 + i)).collect()));
        steps.push(run(0, 37, 38).collect());
        let qkv = steps.iter().map(|step| random.floats(step.len() * heads.qkv_cols())).collect();
        let gains = [(); 2].map(|()| random.floats(heads.head_dim).iter().map(|v| v + 2.0).collect());
        Self { heads, rope, order, precision, steps, qkv, gains }
    }

    /// The outputs and the queries of every step, by one verb or by two.
    fn run<B: Backend>(&self, b: &mut B, plainly: bool) -> [Vec<f32>; 2] {
        let heads = self.heads;
        let Heads { kv_heads, head_dim, .. } = heads;
        let shape = CacheShape { slots: 2, positions: 40, kv_heads, head_dim, precision: self.precision, window: None };
        let mut cache = b.cache(shape).unwrap();
        let [query_gain, key_gain] = &self.gains.each_ref().map(|gain| b.parameter(gain).unwrap());
        let [mut outputs, mut queries] = [Vec::new(), Vec::new()];
        for (step, qkv) in self.steps.iter().zip(&self.qkv) {
            let count = step.len();
            let mut rotations = b.tensor(count, 2 * self.rope.frequencies.len()).unwrap();
            let mut qkv = tensor(b, heads.qkv_cols(), qkv);
            b.begin(step);
            b.rotations(&mut rotations, &self.rope);
            let norm = HeadNorm { query_gain, key_gain, epsilon: EPSILON, order: self.order };
            let rotary = Rotary { norm: Some(norm), ..Rotary::plain(&rotations, self.rope.pairs) };
            outputs.extend(poisoned(b, count, heads.query_cols(), |b, out| match plainly {
                true => {
                    b.rope_append(&mut qkv, &mut cache, rotary, heads);
                    b.attend(out, &qkv, &cache, heads);
                }
                false => b.rope_attend(out, &mut qkv, &mut cache, rotary, heads),
            }));
            let rotated = read(b, &qkv, count * heads.qkv_cols());
            rotated.chunks(heads.qkv_cols()).for_each(|row| queries.extend_from_slice(&row[..heads.query_cols()]));
        }
        [outputs, queries]
    }
}

fn heads_are_normed_before_or_after_they_are_turned<B: Backend>(backend: &mut B) {
    heads_are_normed(backend, &[(4, 2, 64), (20, 5, 128), (3, 3, 100), (18, 2, 36), (2, 1, 6)]);
}

/// With features by fours and by twos.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser's GPU checks all indices by itself"))]
pub fn heads_of_two_widths_are_normed<B: Backend>(backend: &mut B) {
    heads_are_normed(backend, &[(4, 2, 64), (2, 1, 6)]);
}

fn heads_are_normed<B: Backend>(backend: &mut B, shapes: &[(usize, usize, usize)]) {
    let random = &mut Random(54);
    for (i, &(heads, kv_heads, head_dim)) in shapes.iter().enumerate() {
        let heads = Heads { heads, kv_heads, head_dim };
        for order in [HeadNormOrder::BeforeRope, HeadNormOrder::AfterRope] {
            // Of all shapes, what other tests with these heads leave out.
            for (precision, pairs) in precisions_and_pairs(i + 1) {
                // All features turned, and only some.
                let (turned, tolerance) = match precision == CachePrecision::F32 {
                    true => (head_dim / 2, FLOAT_SUM),
                    false => (head_dim / 3, HALF_ROUNDING),
                };
                let case = Case::new(random, heads, rope(pairs, turned, head_dim), order, precision);
                let [out, queries] = case.run(backend, true);
                let [their_out, their_queries] = reference(|r| case.run(r, true));
                assert_close(&queries, &their_queries, FLOAT_SUM);
                assert_close(&out, &their_out, tolerance);
                assert_close(&case.run(backend, false)[0], &out, SCALED_SUM);
            }
        }
    }
}
