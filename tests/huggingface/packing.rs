//! The encodings of checkpoints: bytes that another implementation wrote, decode ∘ encode = identity, and sizes that lie.

use half::f16;
use proptest::prelude::*;
use sterna::format::encodings::mlx::Integers;
use sterna::format::encodings::packed_rows;
use sterna::format::{Dense, Scales, Ternary, Values};

/// The trits that the packed bytes below were made from, by transformers' `pack_weights`.
fn trits(count: usize) -> Vec<i8> {
    (0..count).map(|i| ((7 * i + i / 5 + i / 64) % 3) as i8 - 1).collect()
}

fn floats(values: &[f32], rows: usize, cols: usize) -> Dense {
    let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
    Dense::new(rows, cols, Values::F16(bytes.into())).unwrap()
}

#[test]
fn packed_rows_are_those_of_transformers() {
    let packed: [(usize, &[u8]); 2] = [(8, &[80, 37, 66, 148, 9, 80, 37, 66]), (6, &[16, 37, 2, 20, 9, 16, 37, 2])];
    for (rows, bytes) in packed {
        let decoded = packed_rows::decode(bytes, rows, 4, Scales::Tensor(0.5)).unwrap();
        let found: Vec<i8> = (0..rows).flat_map(|row| decoded.row_trits(row).collect::<Vec<_>>()).collect();
        assert_eq!(found, trits(rows * 4));
        assert_eq!(packed_rows::encode(&decoded), bytes);
    }
}

#[test]
fn packed_rows_of_other_sizes_or_with_code_3_are_refused() {
    let decode = |bytes: &[u8], rows, cols| packed_rows::decode(bytes, rows, cols, Scales::Tensor(1.0));
    for (length, rows, cols) in [(0, 0, 0), (3, 4, 4), (5, 4, 4), (4, 5, 4), (1, usize::MAX, usize::MAX)] {
        assert!(decode(&vec![0; length], rows, cols).is_err(), "{length} bytes for [{rows}, {cols}]");
    }
    assert!(decode(&[0, 0, 0b11_00_00_00, 0], 4, 4).unwrap_err().to_string().contains("row 3 holds the code 3"));
}

proptest! {
    #[test]
    fn packed_rows_survive(rows in 1_usize..20, cols in 1_usize..300, seed in any::<u64>()) {
        let trits: Vec<i8> =
            (0..rows * cols).map(|i| ((seed >> (i % 61)).wrapping_mul(i as u64 + 1) % 3) as i8 - 1).collect();
        let weights = Ternary::pack(rows, cols, &trits, Scales::Tensor(0.25)).unwrap();
        let again =
            packed_rows::decode(&packed_rows::encode(&weights), rows, cols, weights.scales().clone()).unwrap();
        prop_assert_eq!(again.codes(), weights.codes());
    }
}

/// The first integer of a word is in its lowest bits.
#[test]
fn mlx_integers_are_affine_and_lowest_first() {
    let words: Vec<u8> = [0x7654_3210_u32, 0xfedc_ba98].iter().flat_map(|word| word.to_le_bytes()).collect();
    let integers = Integers {
        bits: 4,
        columns: 8,
        words: &words,
        scales: floats(&[0.5, 0.25], 1, 2),
        biases: floats(&[-1.0, 2.0], 1, 2),
    };
    let wanted: Vec<f32> = (0..16).map(|q| if q < 8 { 0.5 * q as f32 - 1.0 } else { 0.25 * q as f32 + 2.0 }).collect();
    assert_eq!(integers.dense(1, 16).unwrap().to_f32(), wanted);
    assert!(integers.ternary(1, 16).unwrap().is_none());
    assert!(integers.dense(1, 32).is_err() && integers.dense(2, 16).is_err());
}

#[test]
fn mlx_integers_are_ternary_if_the_bias_is_minus_the_scale_and_no_code_is_3() {
    let words = |last: u8| [vec![0b10_01_00_10; 31], vec![last]].concat();
    let integers = |words: &[u8], bias: f32| {
        let integers =
            Integers { bits: 2, columns: 128, words, scales: floats(&[0.5], 1, 1), biases: floats(&[bias], 1, 1) };
        integers.ternary(1, 128).unwrap()
    };
    let ternary = integers(&words(0b10_01_00_10), -0.5).unwrap();
    assert_eq!(ternary.row_trits(0).take(4).collect::<Vec<_>>(), [1, -1, 0, 1]);
    assert_eq!(ternary.scales(), &Scales::Tensor(0.5));
    assert!(integers(&words(0b11_01_00_10), -0.5).is_none());
    assert!(integers(&words(0b10_01_00_10), -0.25).is_none());
}

/// Each 128 columns have one scale in the canonical form; smaller groups are read where they agree.
#[test]
fn smaller_groups_of_mlx_are_joined_where_they_agree() {
    let cols = 192; // a whole block, and half of one
    let found = |columns: usize, codes: u8, scales: &[f32]| {
        let biases: Vec<f32> = scales.iter().map(|scale| -scale).collect();
        let words = [vec![0b10_01_00_10; 16], vec![codes; 16], vec![0b10_01_00_10; 16]].concat();
        let groups = cols / columns;
        let (scales, biases) = (floats(scales, 1, groups), floats(&biases, 1, groups));
        Integers { bits: 2, columns, words: &words, scales, biases }.ternary(1, cols)
    };
    let (any, zeros) = (0b10_01_00_10, 0b01_01_01_01);
    let scales = |found: Option<Ternary>| found.map(|ternary| [ternary.scale(0, 0), ternary.scale(0, 128)]);
    assert_eq!(scales(found(64, any, &[0.5, 0.5, 0.25]).unwrap()), Some([0.5, 0.25]));
    assert_eq!(scales(found(64, zeros, &[0.5, 7.0, 0.25]).unwrap()), Some([0.5, 0.25])); // 7 multiplies nothing
    assert_eq!(scales(found(64, any, &[0.5, 0.25, 0.25]).unwrap()), None);
    assert_eq!(scales(found(32, any, &[0.5, 0.5, 0.5, 0.5, 0.25, 0.25]).unwrap()), Some([0.5, 0.25]));
    assert_eq!(scales(found(32, any, &[0.5, 0.5, 0.5, 0.5, 0.25, 0.5]).unwrap()), None);
    assert_eq!(scales(found(96, any, &[0.5, 0.5]).unwrap()), None);
    assert!(found(64, zeros, &[0.5, f32::INFINITY, 0.25]).unwrap_err().to_string().contains("the scale inf"));
}
