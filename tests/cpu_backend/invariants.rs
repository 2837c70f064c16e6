//! What holds between runs: the bits do not depend on the step a row is computed in, nor on the number of threads; and
//! the numbers are those of another implementation.

use sterna::backend::{Activation, Backend, CachePrecision, CacheShape, Heads, RopePairs};
use sterna::cpu::Cpu;
use sterna::format::Weights;
use sterna::format::ternary::Scales;

use crate::SCALED_SUM;
use crate::floats::{quantized, rope};
use crate::golden::Golden;
use crate::material::{
    Random, assert_close, assert_same_bits, every_kind_of_dense, pack, poisoned, read, rows, tensor,
};
use crate::products::product;

crate::on_every_cpu! {
    a_step_equals_its_rows_one_by_one
    results_do_not_depend_on_threads
    the_golden_kernels_agree
}

/// Everything that adds floats, in a step of all rows at once: the bits that must not change.
fn all_float_verbs(cpu: &mut Cpu, chunks: &[usize]) -> Vec<f32> {
    let random = &mut Random(15);
    let total: usize = chunks.iter().sum();
    let heads = Heads { heads: 6, kv_heads: 2, head_dim: 100 };
    let cols = heads.query_cols();
    let (x, gain) = (random.floats(total * cols), random.floats(cols));
    let groups = Scales::Groups { columns: 128, values: random.scales(heads.qkv_cols() * cols.div_ceil(128)) };
    let w = cpu.matrix(&[pack(heads.qkv_cols(), cols, &random.trits(heads.qkv_cols() * cols), groups)]).unwrap();
    let head = cpu.matrix(&[Weights::Dense(every_kind_of_dense(random, 97, cols).swap_remove(1))]).unwrap();
    let gain = cpu.parameter(&gain).unwrap();
    let shape = CacheShape { slots: 1, positions: total, kv_heads: 2, head_dim: 100, precision: CachePrecision::F16 };
    let (mut cache, rope) = (cpu.cache(shape).unwrap(), rope(RopePairs::Half, 50, 100));
    let mut collected = vec![Vec::new(); 5];
    let mut begin = 0;
    for &count in chunks {
        let step = &rows(total)[begin..begin + count];
        let x = tensor(cpu, cols, &x[begin * cols..(begin + count) * cols]);
        begin += count;
        cpu.begin(step);
        let mut q = cpu.quantized(count, cols).unwrap();
        cpu.norm_quantize(&mut q, &x, &gain, 1e-5);
        let mut qkv = cpu.tensor(count, heads.qkv_cols()).unwrap();
        cpu.matmul(&mut qkv, &w, &q);
        collected[0].extend(read(cpu, &qkv, count * heads.qkv_cols()));
        let mut rotations = cpu.tensor(count, 100).unwrap();
        cpu.rotations(&mut rotations, &rope);
        cpu.rope_append(&mut qkv, &mut cache, &rotations, heads, RopePairs::Half);
        collected[1].extend(poisoned(cpu, count, cols, |cpu, out| cpu.attend(out, &qkv, &cache, heads)));
        collected[2].extend(poisoned(cpu, count, cols, |cpu, out| cpu.norm_selected(out, &x, &gain, 1e-5)));
        collected[3].extend(poisoned(cpu, count, 97, |cpu, out| cpu.logits(out, &head, &x)));
        collected[4].extend(poisoned(cpu, count, cols / 2, |cpu, out| cpu.glu(out, &x, Activation::Silu)));
    }
    collected.concat()
}

fn a_step_equals_its_rows_one_by_one(cpu: &mut Cpu) {
    let at_once = all_float_verbs(cpu, &[75]);
    assert_same_bits(&all_float_verbs(cpu, &[1; 75]), &at_once);
    assert_same_bits(&all_float_verbs(cpu, &[2, 33, 7, 8, 4, 3, 17, 1]), &at_once);
}

fn results_do_not_depend_on_threads(cpu: &mut Cpu) {
    let alone = all_float_verbs(&mut crate::cpu::cpu(cpu.kernels(), 1), &[75]);
    assert_same_bits(&all_float_verbs(cpu, &[75]), &alone);
}

fn the_golden_kernels_agree(cpu: &mut Cpu) {
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
        let out = product(cpu, &[weights], &x, &vec![1.0; x.len() / cols]);
        let sums: Vec<f32> = golden.values::<i32>(&format!("{name}.y")).iter().map(|&sum| sum as f32).collect();
        assert_same_bits(&out, &sums);
        cases += 1;
    }
    assert_eq!(cases, 16);

    let (values, scales) = quantized(cpu, 256, &floats("actq.x"));
    assert_eq!(values, int8("actq.q"));
    assert_same_bits(&scales, &floats("actq.scale"));

    let (x, gain) = (tensor(cpu, 256, &floats("rms.x")), cpu.parameter(&floats("rms.w")).unwrap());
    cpu.begin(&rows(4));
    let out = poisoned(cpu, 4, 256, |cpu, out| cpu.norm_selected(out, &x, &gain, 1e-5));
    assert_close(&out, &floats("rms.y"), SCALED_SUM);
}
