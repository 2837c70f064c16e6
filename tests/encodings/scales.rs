//! The form that scales take, and ternary weights found in dense tensors: both by exact comparison.

use half::f16;
use sterna::format::encodings::hidden::hidden_ternary;
use sterna::format::encodings::{Encoding, I2sLayout, float, q8_0, tq1_0, tq2_0};
use sterna::format::{Scales, Ternary};

use crate::{dense, some_trits, ternary, trits};

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

/// Trits times the scale of their row.
fn values(trits: &[i8], cols: usize, scale: impl Fn(usize) -> f32) -> Vec<f32> {
    trits.iter().enumerate().map(|(i, &t)| f32::from(t) * scale(i / cols)).collect()
}

#[test]
fn ternary_f16_tensors_are_found() {
    let (rows, cols) = (5, 200);
    let codes = some_trits(rows * cols);
    let scale = f16::from_f32(0.0911).to_f32();
    let bytes = float::encode_f16(&values(&codes, cols, |_| scale));
    let weights = hidden_ternary(&dense(Encoding::F16, bytes, rows, cols)).unwrap();
    assert_eq!(trits(&weights), codes);
    assert_eq!(weights.scales(), &Scales::Tensor(scale));
    assert_eq!(weights.codes(), Ternary::pack(rows, cols, &codes, Scales::Tensor(1.0)).unwrap().codes());
}

#[test]
fn a_scale_a_row_is_found_in_large_tensors() {
    let (rows, cols) = (1030, 4096); // above a megabyte of codes: on all cores
    let codes = some_trits(rows * cols);
    let scale = |row: usize| 0.5 + row as f32;
    let bytes = float::encode_f32(&values(&codes, cols, scale));
    let weights = hidden_ternary(&dense(Encoding::F32, bytes, rows, cols)).unwrap();
    assert_eq!(weights.scales(), &Scales::Rows((0..rows).map(scale).collect()));
    assert_eq!(trits(&weights), codes);
}

#[test]
fn ternary_q8_0_tensors_are_found() {
    let codes: Vec<i8> = some_trits(128).iter().map(|t| t * 127).collect();
    let bytes = q8_0::encode(&codes, &[f16::from_f32(0.25); 4]);
    let weights = hidden_ternary(&dense(Encoding::Q8_0, bytes, 2, 64)).unwrap();
    assert_eq!(weights.scales(), &Scales::Tensor(31.75));
    assert_eq!(trits(&weights), some_trits(128));
}

#[test]
fn zero_rows_agree_with_every_scale() {
    let find = |values: &[f32]| hidden_ternary(&dense(Encoding::F32, float::encode_f32(values), 3, 2)).unwrap();
    let weights = find(&[0.0, 0.0, 0.5, -0.5, -0.0, 0.5]);
    assert_eq!((weights.scales(), trits(&weights)), (&Scales::Tensor(0.5), vec![0, 0, 1, -1, 0, 1]));
    assert_eq!(find(&[0.0, 0.0, 0.5, -0.5, 2.0, 0.0]).scales(), &Scales::Rows(vec![0.0, 0.5, 2.0]));
    assert_eq!(find(&[0.0; 6]).scales(), &Scales::Tensor(0.0));
}

#[test]
fn tensors_that_are_not_exactly_ternary_are_left_alone() {
    let near = f32::from_bits(0.5_f32.to_bits() + 1);
    for odd in [near, -near, 1.0, f32::NAN, f32::INFINITY] {
        for place in 0..6 {
            let mut values = [0.5, -0.5, 0.5, -0.5, 0.5, -0.5];
            values[place] = odd;
            assert!(hidden_ternary(&dense(Encoding::F32, float::encode_f32(&values), 2, 3)).is_none(), "{odd} {place}");
        }
    }
    let infinite = float::encode_f32(&[f32::INFINITY; 4]);
    assert!(hidden_ternary(&dense(Encoding::F32, infinite, 2, 2)).is_none());
}
