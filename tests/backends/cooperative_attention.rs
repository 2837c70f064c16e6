//! Attention by cooperative matrices, on each GPU that has them: near the reference, in bits that do not depend on how a prompt is cut
//! or on who is beside it, and where it is used.

use sterna::backend::{Backend, CachePrecision, CacheShape, Heads, RopePairs, Row};
use sterna::gpu::{Gpu, GpuDevice, GpuOptions};

use crate::attention::Attention;
use crate::floats::rope;
use crate::gpu::skipped;
use crate::material::{Random, assert_close, assert_same_bits};
use crate::oracle::reference;
use crate::{BASE, FLOAT_SUM, PACKED};

/// Heads alone, in twos and in fours (of eight), and more than make a workgroup; so many that a step of some hundred rows is enough.
const HEADS: [(usize, usize); 4] = [(24, 24), (48, 24), (96, 24), (64, 8)];
const TOTAL: usize = 400;
const HEAD_DIM: usize = 64;
/// No result of a test.
const POISON: f32 = 77e7;

fn devices(options: GpuOptions) -> Vec<GpuDevice> {
    let mut devices = crate::gpu::devices(GpuOptions { cooperative: Some(true), ..options });
    devices.retain(|device| {
        let able = device.attends_cooperatively();
        if !able {
            skipped(format_args!("attention by cooperative matrices: {} has none for it", device.adapter().name()));
        }
        able
    });
    devices
}

fn heads((heads, kv_heads): (usize, usize)) -> Heads {
    Heads { heads, kv_heads, head_dim: HEAD_DIM }
}

fn prompt(sequence: u32, begin: usize, end: usize) -> Vec<Row> {
    (begin as u32..end as u32).map(|position| Row { sequence, position, wants_logits: false }).collect()
}

/// Steps of prompts of two sequences, of which the rows are the same however they are cut.
fn case(heads: Heads, steps: Vec<Vec<Row>>, change: impl Fn(&Row, &mut [f32])) -> Attention {
    let cols = heads.qkv_cols();
    let qkv = steps.iter().map(|step| {
        let row = |row: &Row| {
            let mut floats = Random(100 + u64::from(row.position) + 1000 * u64::from(row.sequence)).floats(cols);
            change(row, &mut floats);
            floats
        };
        step.iter().flat_map(row).collect()
    });
    let (kv_heads, head_dim, precision) = (heads.kv_heads, heads.head_dim, CachePrecision::F16);
    let shape = CacheShape { slots: 2, positions: TOTAL, kv_heads, head_dim, precision, window: None };
    Attention { heads, rope: rope(RopePairs::Half, 9, HEAD_DIM), shape, qkv: qkv.collect(), steps }
}

/// What the rows of the first sequence get, in the order of their positions, and the shaders that took the rows.
fn attend(gpu: &mut Gpu, case: &Attention) -> (Vec<f32>, Vec<&'static str>) {
    let cols = case.heads.query_cols();
    let outputs = case.run_over(POISON, gpu);
    let of_step = |(step, out): (&Vec<Row>, &Vec<f32>)| {
        let rows = step.iter().zip(out.chunks(cols)).filter(|(row, _)| row.sequence == 0);
        rows.flat_map(|(_, out)| out.to_vec()).collect::<Vec<f32>>()
    };
    let out: Vec<f32> = case.steps.iter().zip(outputs.iter().step_by(2)).flat_map(of_step).collect();
    assert!(out.iter().all(|&v| v != POISON), "not everything was written");
    (out, shaders(gpu))
}

/// What attended, without what merges its chunks.
fn shaders(gpu: &Gpu) -> Vec<&'static str> {
    let kernels = gpu.work().kernels;
    let names = kernels.iter().map(|kernel| kernel.name).filter(|name| name.starts_with("attend"));
    names.filter(|&name| name != "attend_merge").collect()
}

fn as_it_is(_: &Row, _: &mut [f32]) {}

#[test]
fn prompts_attend_as_the_reference_does() {
    let all = HEADS.map(|of| (PACKED, of)).into_iter().chain([(BASE, HEADS[0])]);
    for (options, of) in all {
        for device in devices(options) {
            // One after another's, and one that goes on at an odd position.
            let steps = vec![[prompt(0, 0, 203), prompt(1, 0, 7)].concat(), prompt(0, 203, TOTAL)];
            let case = case(heads(of), steps, as_it_is);
            let mut gpu = Gpu::new(&device);
            let (ours, theirs) = (case.run(&mut gpu), reference(|r| case.run(r)));
            assert_eq!(shaders(&gpu), ["attend_cooperative"]);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_close(ours, theirs, FLOAT_SUM);
            }
        }
    }
}

/// Scores that grow along the way, so that sums are scaled down again and again, of queries beyond halves and keys below full precision.
#[test]
fn scores_that_grow_keep_their_precision() {
    for device in devices(PACKED) {
        let heads = heads(HEADS[2]);
        let (queries, keys) = (heads.query_cols(), heads.kv_heads * HEAD_DIM);
        let case = case(heads, vec![prompt(0, 0, TOTAL)], |row, qkv| {
            qkv[..queries].iter_mut().for_each(|q| *q *= 2e5);
            qkv[queries..][..keys].iter_mut().for_each(|k| *k *= 5e-5 * (1.0 + row.position as f32 / 200.0));
        });
        let mut gpu = Gpu::new(&device);
        let (ours, theirs) = (case.run(&mut gpu), reference(|r| case.run(r)));
        assert_eq!(shaders(&gpu), ["attend_cooperative"]);
        assert_close(&ours[0], &theirs[0], 5e-5); // scores reach some ten: an f32 is off by up to 1e-5
    }
}

#[test]
fn a_row_has_the_same_bits_however_a_prompt_is_cut_and_whoever_is_beside_it() {
    for (device, of) in devices(PACKED).into_iter().flat_map(|device| HEADS.map(|of| (device.clone(), of))) {
        let of = heads(of);
        let attend = |steps| attend(&mut Gpu::new(&device), &case(of, steps, as_it_is));
        let (at_once, shaders) = attend(vec![prompt(0, 0, TOTAL)]);
        assert_eq!(shaders, ["attend_cooperative"]);
        let cuts = [
            vec![prompt(0, 0, 201), prompt(0, 201, TOTAL)],
            vec![[prompt(1, 0, 5), prompt(0, 0, 193)].concat(), [prompt(0, 193, TOTAL), prompt(1, 5, 90)].concat()],
        ];
        for steps in cuts {
            let (out, shaders) = attend(steps);
            assert_eq!(shaders, ["attend_cooperative"]);
            assert_same_bits(&out, &at_once);
        }
    }
}

/// A value or a key that is none concerns those that see it, and a query itself.
#[test]
fn what_is_no_number_reaches_no_row_that_does_not_see_it() {
    const PLACE: u32 = 219;
    for device in devices(PACKED) {
        let heads = heads(HEADS[2]);
        let (queries, keys) = (heads.query_cols(), heads.kv_heads * HEAD_DIM);
        let run = |place: Option<usize>, v: f32| {
            let change = |row: &Row, qkv: &mut [f32]| {
                if let Some(place) = place.filter(|_| row.position == PLACE) {
                    qkv[place] = v;
                }
            };
            let (out, shaders) = attend(&mut Gpu::new(&device), &case(heads, vec![prompt(0, 0, TOTAL)], change));
            assert_eq!(shaders, ["attend_cooperative"]);
            out
        };
        let clean = run(None, 0.0);
        for (place, v) in
            [(0, f32::NAN), (0, f32::NEG_INFINITY), (queries + 3, 1e6), (queries + keys + 7, f32::INFINITY)]
        {
            let out = run(Some(place), v);
            for (position, (out, clean)) in out.chunks(queries).zip(clean.chunks(queries)).enumerate() {
                let sees = if place < queries { position == PLACE as usize } else { position >= PLACE as usize };
                match sees {
                    true => assert!(out[..4 * HEAD_DIM].iter().any(|v| !v.is_finite()), "{place}: row {position}"),
                    false => assert_same_bits(out, clean),
                }
            }
        }
    }
}

#[test]
fn many_rows_of_heads_in_halves_take_it_and_no_others() {
    let many = prompt(0, 0, 200);
    let cases = [
        ("a prompt", many.clone(), CachePrecision::F16, None, "attend_cooperative"),
        ("a prompt before its window begins", many.clone(), CachePrecision::F16, Some(200), "attend_cooperative"),
        ("a shorter one", prompt(0, 0, 40), CachePrecision::F16, None, "attend_tile"),
        ("a window", many.clone(), CachePrecision::F16, Some(199), "attend"),
        ("a cache in f32", many, CachePrecision::F32, None, "attend_tile"),
    ];
    for device in devices(PACKED) {
        for (what, step, precision, window, wanted) in &cases {
            let mut case = case(heads(HEADS[1]), vec![step.clone()], as_it_is);
            (case.shape.precision, case.shape.window) = (*precision, *window);
            assert_eq!(attend(&mut Gpu::new(&device), &case).1, [*wanted], "{what}");
        }
    }
}
