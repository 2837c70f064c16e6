//! The dense block formats against what the `gguf` package makes of the same bytes, and the way back to bytes.

use half::f16;
use safetensors::SafeTensors;
use sterna::Error;
use sterna::format::encodings::{Encoding, float, q8_0};
use sterna::format::{Scales, Values, Weights};

use crate::{dense, some_ternary, some_trits};

#[test]
fn block_formats_decode_as_the_reference_does() {
    let file = std::fs::read("tests/data/encodings/dense.safetensors").unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    for (encoding, columns) in [
        (Encoding::Q4_0, Some(32)),
        (Encoding::Q4_1, None),
        (Encoding::Q5_0, Some(32)),
        (Encoding::Q5_1, None),
        (Encoding::Q2K, None),
        (Encoding::Q3K, Some(16)),
        (Encoding::Q4K, None),
        (Encoding::Q5K, None),
    ] {
        let bytes = tensors.tensor(&format!("{encoding}.bytes")).unwrap().data().to_vec();
        let values = tensors.tensor(&format!("{encoding}.values")).unwrap();
        let &[rows, cols] = values.shape() else { panic!("{encoding} is a matrix") };
        assert_eq!(bytes.len(), encoding.size(rows, cols).unwrap(), "{encoding}");
        let expected: Vec<f32> = values.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let weights = dense(encoding, bytes, rows, cols);
        match (weights.values(), columns) {
            (Values::Int8 { columns: found, .. }, Some(columns)) => {
                assert_eq!(*found, columns, "{encoding}");
                assert_eq!(weights.to_f32(), expected, "{encoding} loses nothing");
            }
            (Values::F16(_), None) => {
                let rounded: Vec<f32> = expected.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
                assert_eq!(weights.to_f32(), rounded, "{encoding} is rounded to f16 once");
            }
            other => panic!("{encoding}: {other:?}"),
        }
    }
}

#[test]
fn weights_beyond_f16_become_f32() {
    // A block of Q4_1: scale 60000, offset 0, codes 0 … 15 twice.
    let mut bytes = [f16::from_f32(60_000.0).to_le_bytes(), [0, 0]].concat();
    bytes.extend((0..16).map(|code| code | code << 4));
    let weights = dense(Encoding::Q4_1, bytes, 1, 32);
    assert!(matches!(weights.values(), Values::F32(_)));
    let code = |i: usize| (i % 16) as f32;
    assert!(weights.to_f32().iter().enumerate().all(|(i, &value)| value == 60_000.0 * code(i)));
}

/// A small tensor of the caller's kind.
fn floats(values: &[f32], rows: usize) -> Weights {
    Weights::Dense(dense(Encoding::F32, float::encode_f32(values), rows, values.len() / rows))
}

#[test]
fn dense_weights_are_written_in_each_precision() {
    let values: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
    for (encoding, error) in [
        (Encoding::F32, 0.0),
        (Encoding::F16, 2.5e-4),
        (Encoding::Bf16, 2e-3),
        (Encoding::Q8_0, 5e-3),
        (Encoding::Q6K, 2e-2),
    ] {
        let bytes = encoding.encode(&floats(&values, 2)).unwrap();
        assert_eq!(bytes.len(), encoding.size(2, 256).unwrap());
        let back = dense(encoding, bytes, 2, 256).to_f32();
        assert!(back.iter().zip(&values).all(|(a, b)| (a - b).abs() <= error), "{encoding}");
    }
}

#[test]
fn q8_0_is_written_as_it_was_read() {
    let codes: Vec<i8> = (0..128).map(|i| (i * 37 % 101) as i8 - 50).collect(); // no block reaches 127
    let bytes = q8_0::encode(&codes, &[0.25, 0.5, 2.0, 0.125].map(f16::from_f32));
    let weights = Weights::Dense(dense(Encoding::Q8_0, bytes.clone(), 2, 64));
    assert_eq!(Encoding::Q8_0.encode(&weights).unwrap(), bytes);
}

#[test]
fn ternary_weights_are_written_as_floats() {
    let weights = some_ternary(3, 96, Scales::Rows(vec![0.5, 0.25, 2.0]));
    let bytes = Encoding::F16.encode(&Weights::Ternary(weights)).unwrap();
    let expected: Vec<f32> =
        some_trits(288).iter().enumerate().map(|(i, &t)| f32::from(t) * [0.5, 0.25, 2.0][i / 96]).collect();
    assert_eq!(dense(Encoding::F16, bytes, 3, 96).to_f32(), expected);
}

#[test]
fn what_an_encoding_cannot_hold_is_refused_with_the_reason() {
    let refused = |encoding: Encoding, weights: &Weights, says: &str| match encoding.encode(weights) {
        Err(Error::Input(text)) => assert!(text.contains(says), "{encoding}: {text:?} does not say {says:?}"),
        other => panic!("{encoding}: {other:?}"),
    };
    let ternary = |rows, cols, scales| Weights::Ternary(some_ternary(rows, cols, scales));
    refused(Encoding::F16, &floats(&[1.0, 1e6], 1), "row 0");
    refused(Encoding::F16, &floats(&[1.0, f32::NAN], 2), "row 1");
    refused(Encoding::Q8_0, &floats(&[1.0; 40], 1), "40");
    refused(Encoding::I2S, &floats(&[1.0; 128], 1), "dense");
    refused(Encoding::Q4K, &floats(&[1.0; 256], 1), "not written");
    refused(Encoding::I2V, &ternary(2, 128, Scales::Tensor(0.5)), "beside");
    refused(Encoding::Iq2Bn, &ternary(1, 256, Scales::Groups { columns: 128, values: vec![1.0, 2.0] }), "several");
    refused(Encoding::Stq1_0, &ternary(1, 256, Scales::Tensor(1.0)), "exactly one is zero");
    refused(Encoding::Pq2_0, &ternary(1, 128, Scales::Tensor(1e6)), "f16 range");
    refused(Encoding::Iq2BnR4, &ternary(3, 64, Scales::Tensor(1.0)), "four rows");
}
