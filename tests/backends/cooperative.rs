//! Products by cooperative matrices, on each GPU that has them: all that is claimed of products, and the same bits as
//! without, whatever is cut off of tiles.

use sterna::backend::{Backend, Numerics};
use sterna::format::Weights;
use sterna::format::ternary::{Scales, Ternary};
use sterna::gpu::{Gpu, GpuDevice, GpuOptions};

use crate::gpu::skipped;
use crate::material::{Random, assert_same_bits, pack, poisoned, rows};
use crate::products::{self, product};
use crate::{BASE, PACKED};

/// Opened without cooperative matrices and with them, for all GPUs that have them.
fn devices(options: GpuOptions) -> Vec<[GpuDevice; 2]> {
    let without = crate::gpu::devices(GpuOptions { cooperative: Some(false), ..options });
    let with = crate::gpu::devices(GpuOptions { cooperative: Some(true), ..options });
    let able = |[_, with]: &[GpuDevice; 2]| {
        if !with.is_cooperative() {
            let name = with.adapter().name();
            skipped(format_args!("cooperative matrices: {name} lists none of f16 with sums in f32"));
        }
        with.is_cooperative()
    };
    without.into_iter().zip(with).map(|(without, with)| [without, with]).filter(able).collect()
}

macro_rules! on_every_able_gpu {
    ($($claim:ident)*) => {$(
        #[test]
        fn $claim() {
            for options in [PACKED, BASE] {
                for [_, device] in devices(options) {
                    products::$claim(&mut Gpu::new(&device));
                }
            }
        }
    )*};
}

on_every_able_gpu! {
    integer_sums_are_exact
    integer_sums_are_exact_at_the_extremes
    many_rows_are_exact_at_the_extremes
    many_rows_meet_a_single_code_three
    matmul_add_adds
}

#[test]
fn tiles_of_any_part_are_the_same_bits_as_without() {
    let random = &mut Random(31);
    for (cols, outputs, count) in [(128, 1, 33), (384, 64, 64), (96, 200, 65), (2560, 63, 128), (6912, 65, 200)] {
        for scales in [Scales::Tensor(0.37), Scales::Rows(random.scales(outputs))] {
            let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
            let (x, factors) = (random.int8(count * cols), random.scales(count));
            let before = random.floats(count * outputs);
            for options in [PACKED, BASE] {
                for devices in devices(options) {
                    let [without, with] = devices.map(|device| {
                        let gpu = &mut Gpu::new(&device);
                        let stored = product(gpu, &weights, &x, &factors);
                        (stored, added(gpu, &weights, &x, &factors, &before))
                    });
                    assert_same_bits(&with.0, &without.0);
                    assert_same_bits(&with.1, &without.1);
                }
            }
        }
    }
}

fn added(gpu: &mut Gpu, weights: &[Weights], x: &[i8], factors: &[f32], before: &[f32]) -> Vec<f32> {
    let (count, cols, outputs) = (factors.len(), weights[0].cols(), weights[0].rows());
    let w = gpu.matrix(weights).unwrap();
    let mut q = gpu.quantized(count, cols, Numerics::Int8Rows).unwrap();
    gpu.write_quantized(&mut q, x, factors);
    gpu.begin(&rows(count));
    poisoned(gpu, count, outputs, |gpu, out| {
        gpu.write_tensor(out, before);
        gpu.matmul_add(out, &w, &q);
    })
}

/// As many columns as sums in f32 are exact for, all of code 3; then more, which is not for cooperative matrices.
#[test]
fn the_largest_sums_are_exact() {
    for cols in [1 << 16, (1 << 16) + 128, 1 << 18] {
        for activation in [127i8, -128] {
            for [_, device] in devices(PACKED) {
                let w = Ternary::new(3, cols, vec![0xff; 3 * cols / 4].into(), Scales::Tensor(1.0)).unwrap();
                let x = vec![activation; 40 * cols];
                let out = product(&mut Gpu::new(&device), &[Weights::Ternary(w)], &x, &[1.0; 40]);
                assert_same_bits(&out, &vec![(2 * i64::from(activation) * cols as i64) as f32; 3 * 40]);
            }
        }
    }
}

/// Profiles tell by name which shader multiplied.
#[test]
fn they_multiply_many_rows_of_ungrouped_weights_and_nothing_else() {
    let (random, cols, outputs) = (&mut Random(32), 256, 64);
    let whole = Scales::Tensor(1.0);
    let groups = Scales::Groups { columns: 128, values: random.scales(outputs * 2) };
    for [_, device] in devices(PACKED) {
        for (count, scales, wanted) in
            [(40, &whole, "matmul_cooperative"), (40, &groups, "matmul"), (3, &whole, "matvec")]
        {
            let mut gpu = Gpu::new(&device);
            if gpu.profile().is_err() {
                skipped(format_args!(
                    "the profile of cooperative matrices: {} has no timestamps",
                    device.adapter().name()
                ));
                continue;
            }
            let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales.clone())];
            product(&mut gpu, &weights, &random.int8(count * cols), &vec![1.0; count]);
            let names: Vec<&str> = gpu.shader_times().iter().map(|time| time.shader).collect();
            assert_eq!(names, [wanted], "{count} rows");
        }
    }
}
