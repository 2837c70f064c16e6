//! What is not finite stays so, from the verb that meets it to the logits: a NaN or an infinity that a device lost on the way
//! would become fluent text. Rows beside it are what they would be alone.

use sterna::backend::{Backend, CachePlace, CachePrecision, CacheShape, Heads, Norm, Numerics, RopePairs, Rotary, Row};

use crate::floats::rope;
use crate::material::{
    Random, assert_same_bits, every_kind_of_scale, pack, poisoned_int8, poisoned_with, rows, tensor,
};

crate::on_every_backend! {
    a_multiplier_of_what_is_not_finite_is_no_number
    products_of_what_is_not_finite_are_not_finite
    norms_of_what_is_not_finite_are_not_finite
    attention_to_what_is_not_finite_is_not_finite
    heads_without_a_place_in_f16_are_not_finite
}

/// What a damaged weight, or a sum beyond f32, may be.
const NOT_FINITE: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
const SOUND: f32 = 1234.5;

fn a_multiplier_of_what_is_not_finite_is_no_number<B: Backend>(b: &mut B) {
    for (cols, numerics) in [(200, Numerics::Int8Rows), (200, Numerics::Int8Groups), (640, Numerics::Int8Rows)] {
        let mut x = Random(6).floats(5 * cols);
        let groups = if numerics == Numerics::Int8Rows { 1 } else { cols.div_ceil(128) };
        let sound = {
            let x = tensor(b, cols, &x);
            b.begin(&rows(5));
            poisoned_int8(b, 5, cols, numerics, |b, out| b.quantize(out, &x))
        };
        for (row, value) in NOT_FINITE.into_iter().enumerate() {
            x[row * cols + 7 * row] = value;
        }
        x[3 * cols + 199] = f32::NAN; // the last group
        let x = tensor(b, cols, &x);
        b.begin(&rows(5));
        let (values, multipliers) = poisoned_int8(b, 5, cols, numerics, |b, out| b.quantize(out, &x));
        for row in 0..3 {
            assert!(multipliers[row * groups].is_nan(), "row {row}, {numerics}: {multipliers:?}");
        }
        assert!(multipliers[3 * groups + 199 * groups / cols].is_nan(), "{numerics}: {multipliers:?}");
        assert_same_bits(&multipliers[4 * groups..], &sound.1[4 * groups..]);
        assert_eq!(values[4 * cols..], sound.0[4 * cols..]);
    }
}

pub fn products_of_what_is_not_finite_are_not_finite<B: Backend>(b: &mut B) {
    let random = &mut Random(61);
    for (cols, outputs) in [(96, 5), (640, 130)] {
        for scales in every_kind_of_scale(random, outputs, cols) {
            let mut trits = random.trits(outputs * cols);
            trits[..cols].fill(0); // a weight row of zeros hides nothing either
            let w = b.matrix(&[pack(outputs, cols, &trits, scales)]).unwrap();
            for numerics in [Numerics::Int8Rows, Numerics::Int8Groups, Numerics::Float] {
                for count in [1, 3, 9, 40] {
                    let mut x = random.floats(count * cols);
                    let broken: Vec<usize> = (0..count).filter(|row| row % 4 == 0).collect();
                    for (&row, value) in broken.iter().zip(NOT_FINITE.into_iter().cycle()) {
                        x[row * cols + (row * 31) % cols] = value;
                    }
                    let x = tensor(b, cols, &x);
                    let mut q = b.quantized(count, cols, numerics).unwrap();
                    b.begin(&rows(count));
                    b.quantize(&mut q, &x);
                    let out = poisoned_with(SOUND, b, count, outputs, |b, out| b.matmul(out, &w, &q));
                    for (row, out) in out.chunks(outputs).enumerate() {
                        let finite = out.iter().filter(|v| v.is_finite()).count();
                        let wanted = if broken.contains(&row) { 0 } else { outputs };
                        assert_eq!(finite, wanted, "[{outputs}, {cols}], {numerics}, row {row} of {count}");
                    }
                }
            }
        }
    }
}

fn norms_of_what_is_not_finite_are_not_finite<B: Backend>(b: &mut B) {
    for (cols, count) in [(96, 1), (131, 4), (2560, 5)] {
        let random = &mut Random(62);
        let (mut x, gain) = (random.floats(count * cols), random.floats(cols));
        for (row, value) in NOT_FINITE.into_iter().enumerate().take(count) {
            x[row * cols + cols - 1 - row] = value;
        }
        let w = {
            let trits = random.trits(3 * cols);
            b.matrix(&[pack(3, cols, &trits, sterna::format::ternary::Scales::Tensor(1.0))]).unwrap()
        };
        let (x, gain) = (tensor(b, cols, &x), b.parameter(&gain).unwrap());
        b.begin(&rows(count));
        let norm = Norm { gain: &gain, epsilon: 1e-6 };
        let check = |out: Vec<f32>, cols: usize, what: &str| {
            for (row, out) in out.chunks(cols).enumerate() {
                assert_eq!(out.iter().all(|v| v.is_finite()), row >= 3, "{what} of {cols} columns, row {row}: {out:?}");
            }
        };
        check(poisoned_with(SOUND, b, count, cols, |b, out| b.norm(out, &x, norm)), cols, "norm");
        check(poisoned_with(SOUND, b, count, cols, |b, out| b.norm_add(out, &x, norm)), cols, "norm_add");
        let out = poisoned_with(SOUND, b, count, cols, |b, out| b.norm_selected(out, &x, &gain, 1e-6));
        check(out, cols, "norm_selected");
        for numerics in [Numerics::Int8Rows, Numerics::Int8Groups, Numerics::Float] {
            let mut normed = b.quantized(count, cols, numerics).unwrap();
            let out = poisoned_with(SOUND, b, count, 3, |b, out| b.norm_matmul(out, &mut normed, &w, &x, norm));
            check(out, 3, "norm_matmul");
        }
    }
}

const HEADS: Heads = Heads { heads: 4, kv_heads: 2, head_dim: 64 };
const POSITIONS: u32 = 300;
/// Many rows a step, and rows by themselves from before what is changed to where heads are in several pieces.
const STEPS: [&[usize]; 2] = [&[75; 4], &ALONE];
const ALONE: [usize; 36] = {
    let mut lens = [1; 36];
    (lens[0], lens[35]) = (126, 140);
    lens
};

/// Attention of every row of a sequence, whose keys and values `change` may touch: `change(position, keys, values)` of the first
/// key/value head. Rows in steps of `lens`.
fn attended<B: Backend>(
    b: &mut B,
    precision: CachePrecision,
    lens: &[usize],
    change: impl Fn(u32, &mut [f32], &mut [f32]),
) -> (Vec<f32>, [Vec<f32>; 2]) {
    let Heads { kv_heads, head_dim, .. } = HEADS;
    let positions = POSITIONS as usize;
    let mut qkv = Random(63).floats(positions * HEADS.qkv_cols());
    for (position, row) in qkv.chunks_mut(HEADS.qkv_cols()).enumerate() {
        let (keys, values) = row[HEADS.query_cols()..].split_at_mut(HEADS.kv_cols());
        change(position as u32, &mut keys[..head_dim], &mut values[..head_dim]);
    }
    let shape = CacheShape { slots: 1, positions, kv_heads, head_dim, precision, window: None };
    let mut cache = b.cache(shape).unwrap();
    let (all, mut begin): (Vec<Row>, _) = (rows(positions), 0);
    let mut outputs = Vec::new();
    for &len in lens {
        let (rows, qkv) = (&all[begin..][..len], &qkv[begin * HEADS.qkv_cols()..][..len * HEADS.qkv_cols()]);
        begin += len;
        b.begin(rows);
        let mut rotations = b.tensor(rows.len(), head_dim).unwrap();
        b.rotations(&mut rotations, &rope(RopePairs::Half, head_dim / 2, head_dim));
        let mut qkv = tensor(b, HEADS.qkv_cols(), qkv);
        let rotary = Rotary::plain(&rotations, RopePairs::Half);
        outputs.extend(poisoned_with(SOUND, b, rows.len(), HEADS.query_cols(), |b, out| {
            b.rope_attend(out, &mut qkv, &mut cache, rotary, HEADS);
        }));
    }
    let mut entries = [vec![0.0; positions * head_dim], vec![0.0; positions * head_dim]];
    let [keys, values] = &mut entries;
    b.read_cache(&cache, CachePlace { slot: 0, kv_head: 0, positions }, keys, values).unwrap();
    assert_eq!(begin, positions);
    (outputs, entries)
}

/// Whether rows from `first` on, and only those, are not finite, in the query heads of the first key/value head alone.
#[track_caller]
fn assert_not_finite_from(first: u32, outputs: &[f32], what: &str) {
    for (position, row) in outputs.chunks(HEADS.query_cols()).enumerate() {
        let (of_first, of_second) = row.split_at(HEADS.query_cols() / 2);
        assert!(of_second.iter().all(|v| v.is_finite()), "{what}: position {position}, the other head");
        for head in of_first.chunks(HEADS.head_dim) {
            let finite = head.iter().all(|v| v.is_finite());
            assert_eq!(finite, (position as u32) < first, "{what}: position {position}");
        }
    }
}

fn attention_to_what_is_not_finite_is_not_finite<B: Backend>(b: &mut B) {
    for precision in [CachePrecision::F16, CachePrecision::F32] {
        for lens in STEPS {
            for value in NOT_FINITE {
                let (outputs, _) = attended(b, precision, lens, |position, keys, _| {
                    if position == 130 {
                        keys[5] = value;
                    }
                });
                assert_not_finite_from(130, &outputs, &format!("a key of {value}, {precision:?}, steps of {lens:?}"));
                let (outputs, _) = attended(b, precision, lens, |position, _, values| {
                    if position == 131 {
                        values[63] = value;
                    }
                });
                // One feature of the value, and so of the output.
                let broken = outputs.iter().position(|v| !v.is_finite()).map(|place| place / HEADS.query_cols());
                assert_eq!(broken, Some(131), "a value of {value}, {precision:?}, steps of {lens:?}");
            }
            // Scores beyond f32, though keys and queries are not.
            let (outputs, _) = attended(b, CachePrecision::F32, lens, |position, keys, _| {
                if position == 7 {
                    keys.fill(3e38);
                }
            });
            assert_not_finite_from(7, &outputs, &format!("huge keys, steps of {lens:?}"));
        }
    }
}

fn heads_without_a_place_in_f16_are_not_finite<B: Backend>(b: &mut B) {
    // What becomes of a head whose features are so large: below half a step beyond 65504, all is well.
    for (size, fits) in
        [(65519.0, true), (65520.0, false), (1e9, false), (2e-5, true), (1.5e-5, false), (1e-12, false), (0.0, true)]
    {
        for lens in STEPS {
            let change = |position: u32, _: &mut [f32], values: &mut [f32]| {
                if position == 140 {
                    values.fill(0.0);
                    values[9] = size;
                }
            };
            let (outputs, [_, values]) = attended(b, CachePrecision::F16, lens, change);
            let broken = if fits { POSITIONS } else { 140 };
            assert_not_finite_from(broken, &outputs, &format!("values of {size}, steps of {lens:?}"));
            assert_eq!(values[140 * HEADS.head_dim + 9].is_finite(), fits, "values of {size}");
            let (outputs, _) = attended(b, CachePrecision::F32, lens, change);
            assert_not_finite_from(POSITIONS, &outputs, &format!("values of {size} in f32, steps of {lens:?}"));
            let (outputs, [keys, _]) = attended(b, CachePrecision::F16, lens, |position, keys, _| {
                if position == 140 {
                    keys.fill(0.0);
                    keys[9] = size;
                }
            });
            // The rotation moves some of it to another feature, so the bounds are met elsewhere.
            if !(60000.0..100_000.0).contains(&size) && !(1e-6..3e-5).contains(&size) {
                assert_not_finite_from(broken, &outputs, &format!("keys of {size}, steps of {lens:?}"));
                assert_eq!(keys[140 * HEADS.head_dim..][..HEADS.head_dim].iter().all(|v| v.is_finite()), fits);
            }
        }
    }
    let all_well = attended(b, CachePrecision::F16, STEPS[0], |_, _, _| {});
    assert_not_finite_from(POSITIONS, &all_well.0, "nothing was changed");
}
