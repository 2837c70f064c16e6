//! What holds between runs: the bits do not depend on the step a row is computed in, nor on the number of threads; and
//! the numbers are those of another implementation.

use sterna::backend::{Activation, Backend, CachePrecision, CacheShape, Heads, Numerics, RopePairs, Rotary};
use sterna::cpu::Cpu;
use sterna::format::Weights;
use sterna::format::ternary::Scales;

use crate::SCALED_SUM;
use crate::floats::{quantized, rope};
use crate::golden::Golden;
use crate::material::{
    Random, assert_close, assert_codes, assert_same_bits, every_kind_of_dense, pack, poisoned, read, rows, tensor,
};
use crate::products::product;

crate::on_every_backend! {
    a_step_equals_its_rows_one_by_one
    the_golden_kernels_agree
}

crate::on_every_cpu! {
    group_scales_keep_their_bits
    results_do_not_depend_on_threads
}

/// Everything that adds floats, in a step of all rows at once: the bits that must not change.
fn all_float_verbs<B: Backend>(backend: &mut B, chunks: &[usize], groups: bool) -> Vec<f32> {
    let random = &mut Random(15);
    let total: usize = chunks.iter().sum();
    let heads = Heads { heads: 6, kv_heads: 2, head_dim: 100 };
    let cols = heads.query_cols();
    let (x, gain) = (random.floats(total * cols), random.floats(cols));
    let scales = match groups {
        true => Scales::Groups { columns: 128, values: random.scales(heads.qkv_cols() * cols.div_ceil(128)) },
        false => Scales::Rows(random.scales(heads.qkv_cols())),
    };
    let w = backend.matrix(&[pack(heads.qkv_cols(), cols, &random.trits(heads.qkv_cols() * cols), scales)]).unwrap();
    let head = backend.matrix(&[Weights::Dense(every_kind_of_dense(random, 97, cols).swap_remove(1))]).unwrap();
    let gain = backend.parameter(&gain).unwrap();
    let shape = CacheShape {
        slots: 1,
        positions: total,
        kv_heads: 2,
        head_dim: 100,
        precision: CachePrecision::F16,
        window: None,
    };
    let (mut cache, rope) = (backend.cache(shape).unwrap(), rope(RopePairs::Half, 50, 100));
    let mut collected = vec![Vec::new(); 5];
    let mut begin = 0;
    for &count in chunks {
        let step = &rows(total)[begin..begin + count];
        let x = tensor(backend, cols, &x[begin * cols..(begin + count) * cols]);
        begin += count;
        backend.begin(step);
        let mut q = backend.quantized(count, cols, Numerics::Int8Rows).unwrap();
        backend.norm_quantize(&mut q, &x, &gain, 1e-5);
        let mut qkv = backend.tensor(count, heads.qkv_cols()).unwrap();
        backend.matmul(&mut qkv, &w, &q);
        collected[0].extend(read(backend, &qkv, count * heads.qkv_cols()));
        let mut rotations = backend.tensor(count, 100).unwrap();
        backend.rotations(&mut rotations, &rope);
        backend.rope_append(&mut qkv, &mut cache, Rotary::plain(&rotations, RopePairs::Half), heads);
        collected[1].extend(poisoned(backend, count, cols, |backend, out| backend.attend(out, &qkv, &cache, heads)));
        collected[2].extend(poisoned(backend, count, cols, |backend, out| backend.norm_selected(out, &x, &gain, 1e-5)));
        collected[3].extend(poisoned(backend, count, 97, |backend, out| backend.logits(out, &head, &x)));
        collected[4].extend(poisoned(backend, count, cols / 2, |backend, out| backend.glu(out, &x, Activation::Silu)));
    }
    collected.concat()
}

pub fn a_step_equals_its_rows_one_by_one<B: Backend>(backend: &mut B) {
    let at_once = all_float_verbs(backend, &[75], false);
    assert_same_bits(&all_float_verbs(backend, &[1; 75], false), &at_once);
    assert_same_bits(&all_float_verbs(backend, &[2, 33, 7, 8, 4, 3, 17, 1], false), &at_once);
}

/// Floats of groups are added in one order on the CPU, whatever the step. A GPU adds them in one order for few rows and in
/// another for many.
fn group_scales_keep_their_bits(cpu: &mut Cpu) {
    let at_once = all_float_verbs(cpu, &[75], true);
    assert_same_bits(&all_float_verbs(cpu, &[1; 75], true), &at_once);
    assert_same_bits(&all_float_verbs(cpu, &[2, 33, 7, 8, 4, 3, 17, 1], true), &at_once);
}

fn results_do_not_depend_on_threads(cpu: &mut Cpu) {
    for groups in [false, true] {
        let alone = all_float_verbs(&mut crate::cpu::cpu(cpu.kernels(), 1), &[75], groups);
        assert_same_bits(&all_float_verbs(cpu, &[75], groups), &alone);
    }
}

fn the_golden_kernels_agree<B: Backend>(backend: &mut B) {
    let golden = Golden::read("golden/kernels.safetensors");
    let file = golden.file();
    let floats = |name: &str| golden.values::<f32>(name);
    let int8 = |name: &str| golden.values::<i8>(name);

    let mut cases = 0;
    for name in file.names().iter().filter_map(|name| name.strip_suffix(".w")).filter(|name| *name != "rms") {
        let [outputs, cols] = *file.tensor(&format!("{name}.w")).unwrap().shape() else {
            panic!("{name} is no matrix")
        };
        let weights = pack(outputs, cols, &int8(&format!("{name}.w")), Scales::Tensor(1.0));
        let x = int8(&format!("{name}.x"));
        let out = product(backend, &[weights], &x, &vec![1.0; x.len() / cols]);
        let sums: Vec<f32> = golden.values::<i32>(&format!("{name}.y")).iter().map(|&sum| sum as f32).collect();
        assert_same_bits(&out, &sums);
        cases += 1;
    }
    assert_eq!(cases, 16);

    let (values, scales) = quantized(backend, 256, Numerics::Int8Rows, &floats("actq.x"));
    assert_codes(backend, &values, &int8("actq.q"));
    assert_same_bits(&scales, &floats("actq.scale"));

    let (x, gain) = (tensor(backend, 256, &floats("rms.x")), backend.parameter(&floats("rms.w")).unwrap());
    backend.begin(&rows(4));
    let out = poisoned(backend, 4, 256, |backend, out| backend.norm_selected(out, &x, &gain, 1e-5));
    assert_close(&out, &floats("rms.y"), SCALED_SUM);
}
