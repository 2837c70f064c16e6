//! Ternary weights found in dense tensors: exactly, or within the rounding of a conversion.

use half::f16;
use sterna::format::encodings::hidden::hidden_ternary;
use sterna::format::encodings::{Encoding, float, q8_0};
use sterna::format::{Dense, Scales, Ternary};

use crate::{dense, some_trits, trits};

/// The ternary form, which must describe itself so.
#[track_caller]
fn found(dense: &Dense, text: &str) -> Ternary {
    let hidden = hidden_ternary(dense).unwrap().expect("it is ternary");
    assert_eq!(hidden.to_string(), text);
    hidden.ternary
}

fn f32s(values: &[f32], rows: usize) -> Dense {
    dense(Encoding::F32, float::encode_f32(values), rows, values.len() / rows)
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
    let weights = found(&dense(Encoding::F16, bytes, rows, cols), "one scale, exact");
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
    let weights = found(&dense(Encoding::F32, bytes, rows, cols), "one scale a row, exact");
    assert_eq!(weights.scales(), &Scales::Rows((0..rows).map(scale).collect()));
    assert_eq!(trits(&weights), codes);
}

#[test]
fn ternary_q8_0_tensors_are_found() {
    let codes: Vec<i8> = some_trits(128).iter().map(|t| t * 127).collect();
    let bytes = q8_0::encode(&codes, &[f16::from_f32(0.25); 4]);
    let weights = found(&dense(Encoding::Q8_0, bytes, 2, 64), "one scale, exact");
    assert_eq!(weights.scales(), &Scales::Tensor(31.75));
    assert_eq!(trits(&weights), some_trits(128));
}

#[test]
fn zero_rows_agree_with_every_scale() {
    let find = |values: &[f32]| {
        hidden_ternary(&dense(Encoding::F32, float::encode_f32(values), 3, 2)).unwrap().unwrap().ternary
    };
    let weights = find(&[0.0, 0.0, 0.5, -0.5, -0.0, 0.5]);
    assert_eq!((weights.scales(), trits(&weights)), (&Scales::Tensor(0.5), vec![0, 0, 1, -1, 0, 1]));
    assert_eq!(find(&[0.0, 0.0, 0.5, -0.5, 2.0, 0.0]).scales(), &Scales::Rows(vec![0.0, 0.5, 2.0]));
    assert_eq!(find(&[0.0; 6]).scales(), &Scales::Tensor(0.0));
}

#[test]
fn runs_of_rows_are_one_scale_each() {
    // A model trained on four devices; the third and fourth found the same scale.
    let (rows, cols) = (96, 200);
    let codes = some_trits(rows * cols);
    let scale = |row: usize| [0.5, 0.25, 0.75, 0.75][row / 24];
    let weights = found(&f32s(&values(&codes, cols, scale), rows), "one scale for each of 3 runs of rows, exact");
    assert_eq!(weights.scales(), &Scales::RowRanges(vec![(24, 0.5), (48, 0.25), (96, 0.75)]));
    assert_eq!(trits(&weights), codes);
}

#[test]
fn runs_of_columns_are_groups_as_wide_as_they_are() {
    let (rows, cols) = (3, 1536);
    let codes = some_trits(rows * cols);
    let scaled = |run: usize| -> Vec<f32> {
        let scale = |i: usize| 0.5 + (i % cols / run) as f32;
        codes.iter().enumerate().map(|(i, &t)| f32::from(t) * scale(i)).collect()
    };
    for (run, text) in [
        (768, "one scale for 768 columns, exact"),
        (384, "one scale for 384 columns, exact"),
        (256, "one scale for 256 columns, exact"),
        (128, "one scale for 128 columns, exact"),
    ] {
        let weights = found(&f32s(&scaled(run), rows), text);
        assert_eq!(trits(&weights), codes);
        assert_eq!(weights.scale(2, 1535), 0.5 + (1535 / run) as f32);
    }
    assert!(hidden_ternary(&f32s(&scaled(64), rows)).unwrap().is_none(), "scales for 64 columns have no place");
}

#[test]
fn rounded_magnitudes_take_the_mean_within_one_percent() {
    let (rows, cols) = (4, 256);
    let codes = some_trits(rows * cols);
    let rounded = |i: usize| 0.5 * (1.0 + (i % 3) as f32 * 0.004);
    let noisy: Vec<f32> = codes.iter().enumerate().map(|(i, &t)| f32::from(t) * rounded(i)).collect();
    let weights = found(&f32s(&noisy, rows), "one scale, within 1 %");
    assert_eq!(trits(&weights), codes);
    let error = |i: usize| (noisy[i] - f32::from(codes[i]) * weights.scale(i / cols, i % cols)).abs();
    assert!((0..rows * cols).all(|i| error(i) <= 0.005 * 0.5));

    // One scale a row that differs by more than a percent from the next.
    let by_row: Vec<f32> = noisy.iter().enumerate().map(|(i, v)| v * (1.0 + (i / cols) as f32)).collect();
    assert_eq!(trits(&found(&f32s(&by_row, rows), "one scale a row, within 1 %")), codes);
    // What offsets leave of zeros.
    let near_zeros: Vec<f32> = codes.iter().map(|&t| if t == 0 { 1e-4 } else { 0.5 * f32::from(t) }).collect();
    assert_eq!(trits(&found(&f32s(&near_zeros, rows), "one scale, within 1 %")), codes);
}

#[test]
fn tensors_that_are_not_ternary_are_left_alone() {
    for odd in [0.51, -0.51, 1.0, 0.01, f32::NAN, f32::INFINITY] {
        for place in 0..6 {
            let mut values = [0.5, -0.5, 0.5, -0.5, 0.5, -0.5];
            values[place] = odd;
            // In the same row as others, whose scale it would have to share.
            assert!(hidden_ternary(&f32s(&values, 2)).unwrap().is_none(), "{odd} {place}");
        }
    }
    assert!(hidden_ternary(&f32s(&[f32::INFINITY; 4], 2)).unwrap().is_none());
    let waves: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin()).collect();
    assert!(hidden_ternary(&f32s(&waves, 4)).unwrap().is_none());
}

/// ggml's `quantize_row_q4_0_ref` and `quantize_row_q5_0_ref`, but for the bytes' order: the first value of the largest
/// magnitude becomes −`half`.
fn cut_to_integers(values: &[f32], half: i32) -> (Vec<i32>, Vec<f16>) {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block in values.chunks(32) {
        let largest = block.iter().fold(0.0_f32, |m, &v| if v.abs() > m.abs() { v } else { m });
        let scale = largest / -(half as f32);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        codes.extend(block.iter().map(|v| ((v * inverse + half as f32 + 0.5) as i32).min(2 * half - 1)));
        scales.push(f16::from_f32(scale));
    }
    (codes, scales)
}

#[test]
fn ternary_weights_are_found_in_q4_0_and_q5_0_whose_codes_are_uneven() {
    let (rows, cols) = (8, 256);
    let trit_values = some_trits(rows * cols);
    let floats = values(&trit_values, cols, |row| if row < 4 { 0.5 } else { 0.125 });
    for (encoding, half) in [(Encoding::Q4_0, 8), (Encoding::Q5_0, 16)] {
        let (codes, scales) = cut_to_integers(&floats, half);
        let mut bytes = Vec::new();
        for (codes, scale) in codes.chunks(32).zip(&scales) {
            bytes.extend(scale.to_le_bytes());
            if encoding == Encoding::Q5_0 {
                let high = codes.iter().enumerate().fold(0_u32, |bits, (i, &code)| bits | ((code >> 4) as u32) << i);
                bytes.extend(high.to_le_bytes());
            }
            bytes.extend((0..16).map(|i| (codes[i] & 15 | (codes[i + 16] & 15) << 4) as u8));
        }
        let weights = found(&dense(encoding, bytes, rows, cols), "one scale a row, exact");
        assert_eq!(trits(&weights), trit_values, "{encoding}");
        assert_eq!((weights.scale(0, 0), weights.scale(7, 0)), (0.5, 0.125), "{encoding}: not {} of it", half - 1);
    }
}

#[test]
fn ternary_weights_are_found_in_q2_k() {
    // Each 16 columns: scale 15 and offset 15 of d = m = s / 15, codes 0, 1, 2.
    let (rows, cols) = (2, 512);
    let trit_values = some_trits(rows * cols);
    let d = f16::from_f32(0.75 / 15.0);
    let mut bytes = Vec::new();
    for block in trit_values.chunks(256) {
        bytes.extend([0xff; 16]);
        for half in block.chunks(128) {
            let code = |i: usize| (half[i] + 1) as u8;
            bytes.extend((0..32).map(|l| code(l) | code(l + 32) << 2 | code(l + 64) << 4 | code(l + 96) << 6));
        }
        bytes.extend([d.to_le_bytes(), d.to_le_bytes()].concat());
    }
    let weights = found(&dense(Encoding::Q2K, bytes, rows, cols), "one scale, exact");
    assert_eq!(trits(&weights), trit_values);
    assert_eq!(weights.scales(), &Scales::Tensor(f16::from_f32(d.to_f32() * 15.0).to_f32()));
}
