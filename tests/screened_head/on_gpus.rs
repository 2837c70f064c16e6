//! The same on GPUs, with a screen and without: on the device, in other sums and another order than the CPU's.

#[path = "../common/gpu.rs"]
mod gpu;

use sterna::backend::{MOST_CANDIDATES, NO_TOKEN};
use sterna::format::Weights;
use sterna::gpu::{Gpu, GpuDevice, GpuOptions};

use crate::choices::{Choice, choose};
use crate::material::{KINDS, Kind, Random, f16_head};

fn devices(screening: bool) -> Vec<GpuDevice> {
    // Heads are cut into shards, too.
    let largest_shard = Some(256 << 10);
    gpu::devices(GpuOptions { screening: Some(screening), largest_shard, ..GpuOptions::default() })
}

fn on(device: &GpuDevice, head: &Weights, hidden: &[f32], count: usize) -> Choice {
    choose(&mut Gpu::new(device), head, hidden, count, MOST_CANDIDATES)
}

#[track_caller]
fn assert_chooses_as_the_exact_head(head: &Weights, hidden: &[f32], count: usize, what: &str) {
    for (exact, screened) in devices(false).iter().zip(&devices(true)) {
        let (exact, screened) = (on(exact, head, hidden, count), on(screened, head, hidden, count));
        assert!(screened == exact, "{what}, the best {count}: {screened:?} is not {exact:?}");
    }
}

#[test]
fn choices_are_those_of_the_exact_head_whatever_the_numbers() {
    let random = &mut Random(1);
    for weights in KINDS {
        let head = f16_head(160, &weights.rows(random, 1501, 160));
        for kind in KINDS {
            let hidden = kind.rows(random, 3, 160);
            for count in [1, 40] {
                assert_chooses_as_the_exact_head(&head, &hidden, count, &format!("{weights:?} · {kind:?}"));
            }
        }
    }
}

#[test]
fn choices_are_those_of_the_exact_head_at_every_width_and_for_any_number_of_rows() {
    let random = &mut Random(2);
    for (cols, selected) in [(1, 2), (7, 1), (129, 8), (256, 9), (640, 17), (2560, 1)] {
        let head = f16_head(cols, &Kind::Gaussian.rows(random, 700, cols));
        let mut hidden = Kind::HeavyTailed.rows(random, selected, cols);
        // One row that cannot be screened, among others that can.
        hidden[selected / 2 * cols] = 1e16;
        for count in [1, 3, 256] {
            assert_chooses_as_the_exact_head(&head, &hidden, count, &format!("{cols} columns, {selected} rows"));
        }
    }
}

#[test]
fn the_first_of_equal_rows_is_chosen_and_none_beside_what_is_no_number() {
    let random = &mut Random(5);
    let mut values = Kind::Gaussian.rows(random, 5000, 128);
    let hidden: Vec<f32> = values[128 * 77..128 * 78].to_vec();
    for copy in [3, 76, 4999] {
        values.copy_within(128 * 77..128 * 78, 128 * copy);
    }
    for device in devices(true) {
        let choice = on(&device, &f16_head(128, &values), &hidden, 4);
        assert_eq!((choice.best, choice.tokens), (vec![3], vec![3, 76, 77, 4999]));
        let mut lost = values.clone();
        lost[128 * 1000 + 5] = f32::NAN;
        let choice = on(&device, &f16_head(128, &lost), &hidden, 3);
        assert_eq!((choice.best, choice.tokens), (vec![NO_TOKEN], vec![NO_TOKEN; 3]));
    }
}
