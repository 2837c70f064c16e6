//! Encoding and decoding ternary weights: nothing changes, nothing is copied that need not be.

use bytes::Bytes;
use proptest::prelude::*;
use sterna::format::encodings::{Encoding, I2sLayout, i2_s, tq1_0, tq2_0};
use sterna::format::ternary::ZERO_BYTE;
use sterna::format::{Scales, Ternary};

use crate::{LAYOUTS, some_ternary, some_trits, ternary, trits};

/// Shapes whose rows begin anywhere in a block, `rows * cols` a multiple of 128 and `rows` of 4.
fn ragged() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        (1..5_usize, 1..40_usize).prop_map(|(rows, cols)| (4 * rows, 32 * cols)),
        (1..4_usize, 1..60_usize).prop_map(|(rows, cols)| (16 * rows, 8 * cols)),
        (1..3_usize, 1..200_usize).prop_map(|(rows, cols)| (128 * rows, cols)),
    ]
}

fn equal(a: &Ternary, b: &Ternary) {
    assert_eq!((a.rows(), a.cols()), (b.rows(), b.cols()));
    assert_eq!(a.codes(), b.codes(), "codes with their padding, [{}, {}]", a.rows(), a.cols());
    assert_eq!(a.scales(), b.scales());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn i2_s_keeps_all_weights_in_each_layout((rows, cols) in ragged(), scale in -4.0_f32..4.0) {
        let weights = some_ternary(rows, cols, Scales::Tensor(scale));
        for layout in LAYOUTS {
            let bytes = i2_s::encode(&weights, layout).unwrap();
            prop_assert_eq!(bytes.len(), Encoding::I2S.size(rows, cols).unwrap());
            equal(&ternary(Encoding::I2S, bytes, rows, cols, layout), &weights);
        }
    }

    #[test]
    fn tq_keeps_trits_and_f16_scales(
        rows in 1..6_usize,
        blocks in 1..5_usize,
        steps in prop::collection::vec(-9..9_i8, 20),
    ) {
        let cols = 256 * blocks;
        let one = |i: usize| f32::from(steps[i % steps.len()]) * 0.125;
        let all = |count| (0..count).map(one).collect::<Vec<f32>>();
        let groups = Scales::Groups { columns: 256, values: all(rows * blocks) };
        for scales in [Scales::Tensor(one(0)), Scales::Rows(all(rows)), groups] {
            let weights = some_ternary(rows, cols, scales);
            for (encoding, bytes) in [
                (Encoding::Tq1_0, tq1_0::encode(&weights).unwrap()),
                (Encoding::Tq2_0, tq2_0::encode(&weights).unwrap()),
            ] {
                prop_assert_eq!(bytes.len(), encoding.size(rows, cols).unwrap());
                let decoded = ternary(encoding, bytes, rows, cols, I2sLayout::default());
                prop_assert_eq!(decoded.codes(), weights.codes());
                for row in 0..rows {
                    for col in (0..cols).step_by(256) {
                        prop_assert_eq!(decoded.scale(row, col), weights.scale(row, col));
                    }
                }
            }
        }
    }
}

#[test]
fn large_tensors_decode_on_all_cores_to_the_same_codes() {
    let (rows, cols) = (1028, 4096); // just above a megabyte of codes, rows that no number of threads divides evenly
    let weights = some_ternary(rows, cols, Scales::Tensor(0.25));
    for layout in LAYOUTS {
        equal(&ternary(Encoding::I2S, i2_s::encode(&weights, layout).unwrap(), rows, cols, layout), &weights);
    }
    for (encoding, bytes) in
        [(Encoding::Tq1_0, tq1_0::encode(&weights).unwrap()), (Encoding::Tq2_0, tq2_0::encode(&weights).unwrap())]
    {
        equal(&ternary(encoding, bytes, rows, cols, I2sLayout::default()), &weights);
    }
}

#[test]
fn row4_puts_the_first_of_four_rows_in_the_top_bits() {
    let mut bytes = vec![0b10_01_00_10; 128]; // every column of four rows: +1, 0, −1, +1
    bytes.extend([1.0_f32.to_le_bytes(); 8].concat());
    let weights = ternary(Encoding::I2S, bytes, 4, 128, I2sLayout::Row4);
    let rows: Vec<Vec<i8>> = (0..4).map(|row| weights.row_trits(row).collect()).collect();
    assert_eq!(rows, [1, 0, -1, 1].map(|trit| vec![trit; 128]));
}

#[test]
fn layouts_of_the_same_weights_differ_in_bytes() {
    let weights = some_ternary(8, 256, Scales::Tensor(1.0));
    let [a, b, c] = LAYOUTS.map(|layout| i2_s::encode(&weights, layout).unwrap());
    assert!(a != b && b != c && a != c && a.len() == b.len() && b.len() == c.len());
}

#[test]
fn rows_that_straddle_blocks_are_padded_with_zero_trits() {
    for cols in [1, 80, 96, 192, 8640] {
        let rows = 128;
        let weights = some_ternary(rows, cols, Scales::Tensor(1.0));
        let bytes = i2_s::encode(&weights, I2sLayout::Block128).unwrap();
        let decoded = ternary(Encoding::I2S, bytes, rows, cols, I2sLayout::Block128);
        assert_eq!(trits(&decoded), some_trits(rows * cols), "{cols} columns");
        // `Ternary::pack` begins with rows of zero trits, so equal bytes mean equal padding.
        equal(&decoded, &weights);
    }
    assert_eq!(some_ternary(128, 1, Scales::Tensor(1.0)).codes()[1..32], [ZERO_BYTE; 31]);
}

#[test]
fn i2_s_with_whole_blocks_a_row_is_not_copied() {
    let weights = some_ternary(6, 256, Scales::Tensor(1.0));
    let file: Bytes = [vec![7; 32], i2_s::encode(&weights, I2sLayout::Block128).unwrap(), vec![7; 9]].concat().into();
    let span = file.slice(32..); // longer than the tensor
    let decoded = ternary(Encoding::I2S, span.clone(), 6, 256, I2sLayout::Block128);
    assert_eq!(decoded.codes().as_ptr(), span.as_ptr());
    equal(&decoded, &weights);

    let row4 = ternary(Encoding::I2S, span.clone(), 4, 256, I2sLayout::Row4);
    assert!(!span.as_ptr_range().contains(&row4.codes().as_ptr()), "another layout is repacked");
}

#[test]
fn the_first_row_without_trits_is_told_however_many_look() {
    let (rows, cols) = (40_000, 512); // five million bytes, in pieces of one
    let codes = vec![ZERO_BYTE; rows * cols / 4];
    let wrong_row = |wrong: &[usize]| {
        let mut codes = codes.clone();
        wrong.iter().for_each(|row| codes[row * cols / 4 + 70] = 0b01_11_01_01);
        Ternary::new(rows, cols, codes.into(), Scales::Tensor(1.0)).unwrap().wrong_row()
    };
    assert_eq!(wrong_row(&[]), None);
    for wrong in [&[0][..], &[rows - 1], &[8191, 8192], &[8192, 39_000], &[20_000, 12_345, 33_333], &[9000, 9001, 0]] {
        assert_eq!(wrong_row(wrong), wrong.iter().min().copied());
    }
}
