//! Every backend against the reference, verb by verb: the CPU with every kernel set that it has, on one, two and three
//! threads, and each GPU on two paths, with packed dot products and with floats (some claims of attention and of products behind a
//! norm on one), and some of them once more with checked indices. Integers are compared exactly; floats with a tolerance that is
//! named and explained.

#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/golden.rs"]
mod golden;
#[path = "../common/gpu.rs"]
mod gpu;

mod attention;
mod blocks;
mod cooperative;
mod cooperative_attention;
mod experts;
mod floats;
mod fusion;
mod head;
mod invariants;
mod limits;
mod material;
mod norms;
mod not_finite;
mod oracle;
mod products;
mod recurrence;
mod rotation;
mod slots;
mod windows;

use std::time::Duration;

use sterna::backend::{Backend, CachePrecision, CacheShape, Numerics};
use sterna::cpu::{Cpu, CpuOptions, KernelSet};
use sterna::gpu::{Dot, Gpu, GpuOptions};

use crate::cpu::cpu;

/// Sums of up to some thousand f32 products in a few lanes each: about the root of their number in roundings of 6e-8.
const FLOAT_SUM: f32 = 1e-5;
/// A handful of f32 operations after an exact integer sum.
const SCALED_SUM: f32 = 1e-6;

/// Step sizes around every tile size of the kernels.
const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 17, 33];

/// One test for each thread count, each with every kernel set, and tests on each GPU.
#[macro_export]
macro_rules! on_every_backend {
    ($($claim:ident)*) => {$(
        mod $claim {
            $crate::on_every_cpu!(@ $claim);
            $crate::on_every_gpu!(@ $claim);
            $crate::on_the_base_path!(@ $claim);
        }
    )*};
}

/// The same without the base path, where a shader is compiled for each of many shapes: attention, whose shaders have no dot products of
/// integers, and products behind a norm. Claims of fewer shapes hold that path.
#[macro_export]
macro_rules! on_every_backend_but_base {
    ($($claim:ident)*) => {$(
        mod $claim {
            $crate::on_every_cpu!(@ $claim);
            $crate::on_every_gpu!(@ $claim);
        }
    )*};
}

/// The base path: floats instead of packed dot products, small pieces of matrices, steps in parts.
#[macro_export]
macro_rules! on_the_base_path {
    ($($claim:ident)*) => {$( mod $claim { $crate::on_the_base_path!(@ $claim); } )*};
    (@ $claim:ident) => {
        #[test]
        fn gpu_base() {
            $crate::with_every_gpu(module_path!(), $crate::BASE, super::$claim)
        }
    };
}

/// Claims, or their first shapes, once more on the base path with each index checked: that changes nothing, whatever the shape, and a
/// driver compiles each shader anew for it.
macro_rules! with_checked_indices {
    ($($file:ident: $($claim:ident)*;)*) => { mod checked { $($(
        #[test]
        fn $claim() {
            let name = concat!("backends::", stringify!($file), "::", stringify!($claim));
            crate::with_every_gpu(name, crate::CHECKED, crate::$file::$claim)
        }
    )*)* } };
}

#[macro_export]
macro_rules! on_every_gpu {
    (@ $claim:ident) => {
        #[test]
        fn gpu() {
            $crate::with_every_gpu(module_path!(), $crate::PACKED, super::$claim)
        }
    };
}

/// One test for each thread count; each runs its body with every kernel set.
#[macro_export]
macro_rules! on_every_cpu {
    ($($claim:ident)*) => {$( mod $claim { $crate::on_every_cpu!(@ $claim); } )*};
    (@ $claim:ident) => {
        #[test]
        fn one_thread() { $crate::with_every_kernel_set(module_path!(), 1, super::$claim) }
        #[test]
        fn two_threads() { $crate::with_every_kernel_set(module_path!(), 2, super::$claim) }
        #[test]
        fn three_threads() { $crate::with_every_kernel_set(module_path!(), 3, super::$claim) }
    };
}

const PACKED: GpuOptions = GpuOptions {
    dot: Some(Dot::Packed),
    largest_shard: None,
    checked: false,
    cooperative: Some(false),
    screening: None,
    longest_submit: None,
};
const BASE: GpuOptions = GpuOptions {
    dot: Some(Dot::Float),
    largest_shard: Some(256 << 10),
    longest_submit: Some(Duration::from_micros(1)),
    ..PACKED
};
const CHECKED: GpuOptions = GpuOptions { checked: true, ..BASE };

with_checked_indices! {
    products: integer_sums_are_exact products_apply_every_kind_of_scale matmul_add_adds;
    blocks: sums_within_blocks_are_exact_at_the_extremes products_of_floats_apply_every_kind_of_scale;
    rotation: bigger_verbs_turn_their_inputs_once selected_rows_are_turned rows_are_turned_back;
    floats: norm_quantize_is_the_norm_and_then_the_quantizer rotations_are_exact glu_applies_every_activation;
    norms: norm_is_that_of_every_row norm_add_adds_it place_copies_to_some_columns heads_of_two_widths_are_normed;
    attention: long_contexts_keep_their_precision;
    windows: a_row_of_few_heads_sees_its_window_and_no_more what_lies_before_a_window_does_not_matter;
    invariants: a_step_equals_its_rows_one_by_one;
    head: embed_looks_up_every_kind_of_table argmax_is_the_first_of_equals the_top_are_the_largest_in_order;
    slots: samplers_draw_the_same_tokens a_prefix_is_copied_and_nothing_else;
    recurrence: a_convolution_sees_the_latest_rows_of_its_sequence memories_follow_the_delta_rule gates_multiply_each_value
        outputs_are_normed_by_head_and_gated;
    experts: rows_are_given_to_the_experts_of_their_largest_scores rows_of_one_expert_are_multiplied_together
        a_row_gets_the_same_bits_alone;
    not_finite: products_of_what_is_not_finite_are_not_finite;
}

fn with_every_kernel_set(name: &'static str, threads: usize, claim: fn(&mut Cpu)) {
    for &kernels in KernelSet::ALL {
        if !KernelSet::available().contains(&kernels) {
            gpu::skipped(format_args!("the {kernels} kernels: this CPU cannot run them"));
            continue;
        }
        println!("{kernels} kernels, {threads} threads");
        oracle::claiming(name, || claim(&mut cpu(kernels, threads)));
    }
}

fn with_every_gpu(name: &'static str, options: GpuOptions, claim: fn(&mut Gpu)) {
    for device in gpu::devices_of_queue(options, queue_of(name)) {
        println!("{}", device.adapter().name());
        oracle::claiming(name, || claim(&mut Gpu::new(&device)));
    }
}

/// Files whose shaders take long to compile are split over two queues. All claims of a file share one, as they share shaders.
fn queue_of(claim: &str) -> usize {
    let file = claim.split("::").nth(1);
    usize::from(["attention", "norms", "windows"].map(Some).contains(&file))
}

#[test]
fn options_out_of_range_are_refused() {
    for threads in [0, 1025, usize::MAX] {
        let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
        assert!(matches!(Cpu::new(&options), Err(sterna::Error::Input(_))), "{threads} threads");
    }
}

#[test]
fn kernel_sets_have_names_and_portable_is_everywhere() {
    assert_eq!(KernelSet::available()[0], KernelSet::Portable);
    assert!(KernelSet::available().contains(&KernelSet::best()));
    for &set in KernelSet::ALL {
        assert_eq!(set.to_string().parse::<KernelSet>().unwrap(), set);
    }
    assert!(matches!("quantum".parse::<KernelSet>(), Err(sterna::Error::Input(_))));
}

on_every_backend! { impossible_sizes_are_errors }

fn impossible_sizes_are_errors<B: Backend>(backend: &mut B) {
    for positions in [usize::MAX, usize::MAX / 512, 1 << 50] {
        let shape = CacheShape {
            slots: 2,
            positions,
            kv_heads: 1,
            head_dim: 128,
            precision: CachePrecision::F16,
            window: None,
        };
        assert!(matches!(backend.cache(shape), Err(sterna::Error::Device(_))), "{positions} positions");
        assert!(matches!(backend.tensor(positions, 128), Err(sterna::Error::Device(_))), "{positions} rows");
        assert!(
            matches!(backend.quantized(positions, 128, Numerics::Int8Rows), Err(sterna::Error::Device(_))),
            "{positions} rows"
        );
    }
}
