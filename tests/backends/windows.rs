//! Attention that sees only the latest positions: a window that is smaller than what is computed at once, that lies across
//! such pieces, and that is larger than the context.

use sterna::backend::{Backend, CachePrecision, CacheShape, Heads, RopePairs, Rotary, Row};

use crate::floats::rope;
use crate::material::{Random, assert_close, assert_same_bits, poisoned, tensor};
use crate::oracle::reference;
use crate::{FLOAT_SUM, SCALED_SUM};

crate::on_every_backend! {
    what_lies_before_a_window_does_not_matter
}
crate::on_every_backend_but_base! {
    a_row_sees_its_window_and_no_more
}

const POSITIONS: usize = 300;

struct Case {
    heads: Heads,
    window: Option<usize>,
    precision: CachePrecision,
    qkv: Vec<f32>, // of all positions
}

impl Case {
    /// The outputs of all positions, in steps of these lengths.
    fn run<B: Backend>(&self, b: &mut B, lens: &[usize], plainly: bool) -> Vec<f32> {
        let Self { heads, window, precision, .. } = *self;
        let Heads { kv_heads, head_dim, .. } = heads;
        let mut cache =
            b.cache(CacheShape { slots: 2, positions: POSITIONS, kv_heads, head_dim, precision, window }).unwrap();
        let rope = rope(RopePairs::Half, head_dim / 2, head_dim);
        let (mut outputs, mut begin) = (Vec::new(), 0);
        for &len in lens {
            let step: Vec<Row> = (begin..begin + len)
                .map(|position| Row { sequence: 1, position: position as u32, wants_logits: true })
                .collect();
            let mut rotations = b.tensor(len, head_dim).unwrap();
            let qkv = &self.qkv[begin * heads.qkv_cols()..(begin + len) * heads.qkv_cols()];
            let mut qkv = tensor(b, heads.qkv_cols(), qkv);
            begin += len;
            b.begin(&step);
            b.rotations(&mut rotations, &rope);
            let rotary = Rotary::plain(&rotations, RopePairs::Half);
            outputs.extend(poisoned(b, len, heads.query_cols(), |b, out| match plainly {
                true => {
                    b.rope_append(&mut qkv, &mut cache, rotary, heads);
                    b.attend(out, &qkv, &cache, heads);
                }
                false => b.rope_attend(out, &mut qkv, &mut cache, rotary, heads),
            }));
        }
        outputs
    }
}

fn a_row_sees_its_window_and_no_more<B: Backend>(backend: &mut B) {
    rows_see_their_windows(backend, &[(4, 2, 64), (10, 1, 36)]);
}

/// Without features by twos, and without many heads of one key.
pub fn a_row_of_few_heads_sees_its_window_and_no_more<B: Backend>(backend: &mut B) {
    rows_see_their_windows(backend, &[(4, 2, 64)]);
}

fn rows_see_their_windows<B: Backend>(backend: &mut B, shapes: &[(usize, usize, usize)]) {
    let random = &mut Random(61);
    // Rows by themselves where windows begin to move, and on both sides of what is computed at once.
    let alone = [&[1; 20][..], &[100], &[1; 16], &[110], &[1; 24], &[30]].concat();
    for &(heads, kv_heads, head_dim) in shapes {
        let heads = Heads { heads, kv_heads, head_dim };
        for window in [1, 16, 128, 129, 1000] {
            for precision in [CachePrecision::F16, CachePrecision::F32] {
                let qkv = random.floats(POSITIONS * heads.qkv_cols());
                let case = Case { heads, window: Some(window), precision, qkv };
                let theirs = reference(|r| case.run(r, &[POSITIONS], true));
                let at_once = case.run(backend, &[POSITIONS], true);
                assert_close(&at_once, &theirs, FLOAT_SUM);
                assert_same_bits(&case.run(backend, &[120, 17, 1, 1, 40, 1, 120], true), &at_once);
                if [16, 129].contains(&window) {
                    assert_same_bits(&case.run(backend, &alone, true), &at_once);
                    assert_close(&case.run(backend, &alone, false), &at_once, SCALED_SUM);
                }
            }
        }
    }
}

pub fn what_lies_before_a_window_does_not_matter<B: Backend>(backend: &mut B) {
    let (heads, window) = (Heads { heads: 4, kv_heads: 2, head_dim: 64 }, Some(16));
    let mut qkv = Random(62).floats(POSITIONS * heads.qkv_cols());
    let plain = Case { heads, window, precision: CachePrecision::F32, qkv: qkv.clone() };
    // Values that no rounding hides.
    let hidden = 100;
    qkv[..hidden * heads.qkv_cols()].iter_mut().for_each(|v| *v *= 1e15);
    let case = Case { qkv, ..plain };
    let out = case.run(backend, &[POSITIONS], true);
    let plain = Case { qkv: Random(62).floats(POSITIONS * heads.qkv_cols()), ..case };
    let expected = plain.run(backend, &[POSITIONS], true);
    let first = (hidden + 15) * heads.query_cols();
    assert_same_bits(&out[first..], &expected[first..]);
}
