//! The form that scales take, by exact comparison.

use sterna::format::encodings::{Encoding, I2sLayout, tq1_0, tq2_0};
use sterna::format::{Scales, Ternary};

use crate::{some_trits, ternary, trits};

/// Encodes `[rows, 512]` with the given scales of its blocks, decodes it, and returns the scales found. Blocks listed
/// in `zeros` hold zero trits only.
fn found(scales: &[f32], zeros: &[usize]) -> Scales {
    let rows = scales.len() / 2;
    let mut codes = some_trits(rows * 512);
    zeros.iter().for_each(|&block| codes[block * 256..][..256].fill(0));
    let groups = Scales::Groups { columns: 256, values: scales.to_vec() };
    let weights = Ternary::pack(rows, 512, &codes, groups).unwrap();
    let tq2_0 = ternary(Encoding::Tq2_0, tq2_0::encode(&weights).unwrap(), rows, 512, I2sLayout::default());
    let tq1_0 = ternary(Encoding::Tq1_0, tq1_0::encode(&weights).unwrap(), rows, 512, I2sLayout::default());
    assert_eq!(tq1_0.scales(), tq2_0.scales());
    assert_eq!(trits(&tq2_0), codes);
    tq2_0.scales().clone()
}

#[test]
fn equal_scales_become_one() {
    assert_eq!(found(&[0.5, 0.5, 0.5, 0.5], &[]), Scales::Tensor(0.5));
    assert_eq!(found(&[-0.5, -0.5], &[]), Scales::Tensor(-0.5), "a negative scale is a number like others");
    assert_eq!(found(&[0.0, 0.0], &[]), Scales::Tensor(0.0), "and so is zero");
}

#[test]
fn scales_of_zero_blocks_do_not_count() {
    assert_eq!(found(&[0.0, 0.5, 0.5, 9.0], &[0, 3]), Scales::Tensor(0.5));
    assert_eq!(found(&[0.0, 0.5, 0.25, 0.0], &[0, 3]), Scales::Rows(vec![0.5, 0.25]));
    assert_eq!(found(&[0.5, 0.5, 0.0, 0.25], &[0, 1, 2, 3]), Scales::Tensor(0.5), "all zero: the first");
    assert_eq!(found(&[0.0, 0.5, 0.5, 0.5], &[]), Scales::Groups { columns: 256, values: vec![0.0, 0.5, 0.5, 0.5] });
}

#[test]
fn scales_equal_along_rows_become_one_a_row() {
    assert_eq!(found(&[0.5, 0.5, 0.25, 0.25], &[]), Scales::Rows(vec![0.5, 0.25]));
}

#[test]
fn other_scales_stay_as_they_are() {
    let values = vec![0.5, 0.25, 0.25, 0.25];
    assert_eq!(found(&values, &[]), Scales::Groups { columns: 256, values });
}
