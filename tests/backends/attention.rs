//! Attention over a cache that several sequences fill, in both number formats.

use sterna::backend::{Backend, CachePrecision, CacheShape, Heads, Rope, RopePairs, Rotary, Row};
use sterna::gpu::Gpu;

use crate::FLOAT_SUM;
use crate::floats::rope;
use crate::material::{Random, assert_close, assert_same_bits, poisoned_with, precisions_and_pairs, read, tensor};
use crate::oracle::reference;

crate::on_every_backend! {
    long_contexts_keep_their_precision
}
crate::on_every_backend_but_base! {
    attention_reads_what_was_appended
    long_contexts_keep_their_bits
    long_contexts_of_many_or_wide_heads_keep_their_bits
}

/// Several steps of several sequences through one cache: the outputs of all, and the `qkv` after rotation.
pub struct Attention {
    pub heads: Heads,
    pub rope: Rope,
    pub shape: CacheShape,
    pub steps: Vec<Vec<Row>>,
    pub qkv: Vec<Vec<f32>>, // of each step
}

impl Attention {
    pub fn run<B: Backend>(&self, b: &mut B) -> Vec<Vec<f32>> {
        let outputs = self.run_over(f32::NAN, b);
        assert!(outputs.iter().flatten().all(|v| !v.is_nan()), "not everything was written");
        outputs
    }

    /// Over outputs that are filled with one value.
    pub fn run_over<B: Backend>(&self, poison: f32, b: &mut B) -> Vec<Vec<f32>> {
        let mut cache = b.cache(self.shape).unwrap();
        let mut outputs = Vec::new();
        for (step, qkv) in self.steps.iter().zip(&self.qkv) {
            let count = step.len();
            let mut rotations = b.tensor(count, 2 * self.rope.frequencies.len()).unwrap();
            b.begin(step);
            b.rotations(&mut rotations, &self.rope);
            let mut qkv = tensor(b, self.heads.qkv_cols(), qkv);
            b.rope_append(&mut qkv, &mut cache, Rotary::plain(&rotations, self.rope.pairs), self.heads);
            let cols = self.heads.query_cols();
            let out = poisoned_with(poison, b, count, cols, |b, out| b.attend(out, &qkv, &cache, self.heads));
            outputs.push(out);
            let mut queries = read(b, &qkv, count * self.heads.qkv_cols());
            // What becomes of keys and values in `qkv` is the backend's business.
            queries.chunks_mut(self.heads.qkv_cols()).for_each(|row| row[self.heads.query_cols()..].fill(0.0));
            outputs.push(queries);
        }
        outputs
    }
}

/// A ragged batch: prompts of different lengths in different slots, then single tokens of all, then both mixed.
fn ragged(random: &mut Random, heads: Heads, rope: Rope, precision: CachePrecision) -> Attention {
    let run = |sequence, begin, end| (begin..end).map(move |p| Row { sequence, position: p, wants_logits: true });
    let steps: Vec<Vec<Row>> = vec![
        run(2, 0, 33).collect(),
        run(0, 0, 1).collect(),
        run(1, 0, 7).chain(run(2, 33, 34)).chain(run(0, 1, 2)).collect(),
        run(0, 2, 3).chain(run(1, 7, 8)).chain(run(2, 34, 35)).collect(),
        run(2, 35, 100).collect(),
        // A slot is used again from the start.
        run(1, 0, 5).chain(run(2, 100, 150)).collect(),
    ];
    let qkv = steps.iter().map(|step| random.floats(step.len() * heads.qkv_cols())).collect();
    let shape = CacheShape {
        slots: 3,
        positions: 150,
        kv_heads: heads.kv_heads,
        head_dim: heads.head_dim,
        precision,
        window: None,
    };
    Attention { heads, rope, shape, steps, qkv }
}

/// 64 and 128, the most common widths, in even and in odd places: with all precisions and pairs.
fn some_heads() -> [Heads; 8] {
    [(1, 1, 64), (4, 2, 64), (6, 2, 80), (20, 5, 128), (3, 3, 100), (18, 2, 36), (8, 2, 128), (2, 1, 6)]
        .map(|(heads, kv_heads, head_dim)| Heads { heads, kv_heads, head_dim })
}

fn attention_reads_what_was_appended<B: Backend>(backend: &mut B) {
    let random = &mut Random(13);
    for (i, heads) in some_heads().into_iter().enumerate() {
        for (precision, pairs) in precisions_and_pairs(i) {
            // All features turned, and only some.
            for turned in [heads.head_dim / 2, heads.head_dim / 3] {
                let case = ragged(random, heads, rope(pairs, turned, heads.head_dim), precision);
                for (ours, theirs) in case.run(backend).iter().zip(reference(|r| case.run(r))) {
                    assert_close(ours, &theirs, FLOAT_SUM);
                }
            }
        }
    }
}

pub fn long_contexts_keep_their_precision<B: Backend>(backend: &mut B) {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 64 };
    let prompt: Vec<Row> = (0..1500).map(|p| Row { sequence: 0, position: p, wants_logits: false }).collect();
    let mut qkv = Random(14).floats(1501 * heads.qkv_cols());
    // Scores that grow along the way, so that sums are scaled down again and again.
    for (position, row) in qkv.chunks_mut(heads.qkv_cols()).enumerate() {
        row[heads.query_cols()..][..heads.head_dim].iter_mut().for_each(|k| *k *= 1.0 + position as f32 / 100.0);
    }
    let last = qkv.split_off(1500 * heads.qkv_cols());
    let shape = CacheShape {
        slots: 1,
        positions: 2048,
        kv_heads: 1,
        head_dim: 64,
        precision: CachePrecision::F32,
        window: None,
    };
    let rope = rope(RopePairs::Half, 32, 64);
    let steps = vec![prompt, vec![Row { sequence: 0, position: 1500, wants_logits: true }]];
    let case = Attention { heads, rope, shape, steps, qkv: vec![qkv, last] };
    let (ours, theirs) = (case.run(backend), reference(|r| case.run(r)));
    assert_close(&ours[2], &theirs[2], 5e-5); // scores reach 100, so an f32 score is off by up to 1e-5
}

fn long_contexts_keep_their_bits<B: Backend>(backend: &mut B) {
    keep_their_bits(backend, &[(10, 1, 36), (4, 2, 64), (3, 1, 128), (2, 2, 128)]);
}

fn long_contexts_of_many_or_wide_heads_keep_their_bits<B: Backend>(backend: &mut B) {
    keep_their_bits(backend, &[(48, 1, 64), (16, 1, 256)]);
}

/// Few rows of a long context are shared between threads or workgroups another way than many rows are.
fn keep_their_bits<B: Backend>(backend: &mut B, shapes: &[(usize, usize, usize)]) {
    const TOTAL: usize = 300;
    const ALONE: usize = 17;
    for &(heads, kv_heads, head_dim) in shapes {
        let heads = Heads { heads, kv_heads, head_dim };
        let qkv = Random(17).floats(TOTAL * heads.qkv_cols());
        let shape =
            CacheShape { slots: 1, positions: TOTAL, kv_heads, head_dim, precision: CachePrecision::F16, window: None };
        let in_steps = |backend: &mut B, lens: &[usize]| {
            let mut rows = (0..TOTAL as u32).map(|position| Row { sequence: 0, position, wants_logits: false });
            let steps: Vec<Vec<Row>> = lens.iter().map(|&len| rows.by_ref().take(len).collect()).collect();
            let mut rest = &qkv[..];
            let qkv = lens.iter().map(|len| rest.split_off(..len * heads.qkv_cols()).expect("all rows").to_vec());
            let case = Attention { heads, rope: rope(RopePairs::Half, 9, head_dim), shape, steps, qkv: qkv.collect() };
            let outputs: Vec<f32> = case.run(backend).into_iter().step_by(2).flatten().collect();
            outputs
        };
        let at_once = in_steps(backend, &[TOTAL]);
        let mut lens = vec![TOTAL - 2 * ALONE, ALONE];
        lens.extend([1; ALONE]);
        assert_same_bits(&in_steps(backend, &lens), &at_once);
        let pairs = [&[2; 8][..], &[TOTAL - 136], &[2; 60]].concat();
        assert_same_bits(&in_steps(backend, &pairs), &at_once);
    }
}

/// Which shader took the rows: tiles that are half empty, windows that have begun and odd heads are for single rows.
#[test]
fn prompts_are_attended_to_in_tiles() {
    let prompt = |sequence, count| (0..count).map(move |position| Row { sequence, position, wants_logits: false });
    let (long, short): (Vec<Row>, Vec<Row>) = (prompt(0, 40).collect(), prompt(0, 7).collect());
    let two = prompt(0, 20).chain(prompt(1, 12)).collect();
    let cases = [
        ("a prompt", long.clone(), 64, None, "attend_tile"),
        ("two prompts", two, 128, None, "attend_tile"),
        ("a prompt before its window begins", long.clone(), 64, Some(40), "attend_tile"),
        ("few rows", short, 64, None, "attend"),
        ("a window", long.clone(), 64, Some(39), "attend"),
        ("heads of 80", long, 80, None, "attend"),
    ];
    for device in crate::gpu::devices(crate::PACKED) {
        for (what, step, head_dim, window, wanted) in &cases {
            let (heads, precision) = (Heads { heads: 4, kv_heads: 2, head_dim: *head_dim }, CachePrecision::F16);
            let qkv = vec![Random(18).floats(step.len() * heads.qkv_cols())];
            let rope = rope(RopePairs::Half, 16, *head_dim);
            let shape =
                CacheShape { slots: 2, positions: 64, kv_heads: 2, head_dim: *head_dim, precision, window: *window };
            let gpu = &mut Gpu::new(&device);
            Attention { heads, rope, shape, steps: vec![step.clone()], qkv }.run(gpu);
            let kernels = gpu.work().kernels;
            let took: Vec<_> =
                kernels.iter().map(|kernel| kernel.name).filter(|name| name.starts_with("attend")).collect();
            assert_eq!(took, [*wanted], "{what}");
        }
    }
}
