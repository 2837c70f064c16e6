//! Floats, Q8_0 and Q6_K: values as the format notes give them, the errors of rounding, and no copies of floats.

use bytes::Bytes;
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;
use sterna::format::Values;
use sterna::format::encodings::{Encoding, float, q6_k, q8_0};

use crate::dense;

/// Q8_0 from its one-line definition.
fn plain_q8_0(bytes: &[u8], i: usize) -> f32 {
    let block = &bytes[i / 32 * 34..];
    f16::from_le_bytes([block[0], block[1]]).to_f32() * f32::from(block[2 + i % 32] as i8)
}

/// Q6_K, weight by weight: element 128h + 32k + l of a block.
fn plain_q6_k(bytes: &[u8], i: usize) -> f32 {
    let block = &bytes[i / 256 * 210..];
    let (ql, qh, sc) = (&block[..128], &block[128..192], &block[192..208]);
    let (h, k, l) = (i % 256 / 128, i % 128 / 32, i % 32);
    let low = ql[64 * h + 32 * (k % 2) + l];
    let nibble = if k < 2 { low % 16 } else { low / 16 };
    let high = qh[32 * h + l] >> (2 * k) & 3;
    let q = i32::from(nibble) + 16 * i32::from(high) - 32;
    let sc = sc[8 * h + 2 * k + usize::from(l >= 16)] as i8;
    f16::from_le_bytes([block[208], block[209]]).to_f32() * f32::from(sc) * q as f32
}

/// Random blocks; the f16 at `scale` in each becomes a small number, since most random bits are huge ones.
fn blocks(count: usize, size: usize, scale: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), count * size).prop_map(move |mut bytes| {
        for block in bytes.chunks_mut(size) {
            let d = f16::from_f32(f32::from(block[scale] as i8) / 512.0);
            block[scale..scale + 2].copy_from_slice(&d.to_le_bytes());
        }
        bytes
    })
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m: f32, v| m.max(v.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn q8_0_decodes_as_defined(bytes in blocks(6, 34, 0)) {
        let decoded = dense(Encoding::Q8_0, bytes.clone(), 2, 96).to_f32();
        prop_assert_eq!(decoded, (0..192).map(|i| plain_q8_0(&bytes, i)).collect::<Vec<_>>());
    }

    #[test]
    fn q6_k_decodes_as_defined(bytes in blocks(6, 210, 208)) {
        let decoded = dense(Encoding::Q6K, bytes.clone(), 3, 512).to_f32();
        prop_assert_eq!(decoded, (0..1536).map(|i| plain_q6_k(&bytes, i)).collect::<Vec<_>>());
    }

    #[test]
    fn q8_0_keeps_codes_and_scales(codes in vec(any::<i8>(), 128), steps in vec(-99..99_i8, 4)) {
        let scales: Vec<f16> = steps.iter().map(|&s| f16::from_f32(f32::from(s) / 64.0)).collect();
        let decoded = dense(Encoding::Q8_0, q8_0::encode(&codes, &scales), 2, 64);
        let Values::Int8 { columns: 32, codes: got, scales: got_scales } = decoded.values() else { panic!() };
        prop_assert!(got.iter().map(|&b| b as i8).eq(codes));
        prop_assert!(got_scales.iter().copied().eq(scales.iter().map(|s| s.to_f32())));
    }

    #[test]
    fn q6_k_keeps_codes_and_scales(
        codes in vec(-32..32_i8, 512),
        inner in vec(any::<i8>(), 32),
        steps in vec(-99..99_i8, 2),
    ) {
        let outer: Vec<f16> = steps.iter().map(|&s| f16::from_f32(f32::from(s) / 640.0)).collect();
        let decoded = dense(Encoding::Q6K, q6_k::encode(&codes, &inner, &outer), 1, 512);
        let Values::Int8 { columns: 16, codes: got, scales } = decoded.values() else { panic!() };
        prop_assert!(got.iter().map(|&b| b as i8).eq(codes));
        let exact = |i: usize| f64::from(outer[i / 16].to_f32()) * f64::from(inner[i]);
        prop_assert!(scales.iter().enumerate().all(|(i, &scale)| f64::from(scale) == exact(i)));
    }

    #[test]
    fn q8_0_rounds_within_its_bound(values in vec(-5.0_f32..5.0, 256)) {
        let decoded = dense(Encoding::Q8_0, q8_0::quantize(&values).unwrap(), 1, 256);
        let Values::Int8 { scales, .. } = decoded.values() else { panic!() };
        for (i, (value, got)) in values.iter().zip(decoded.to_f32()).enumerate() {
            prop_assert!((value - got).abs() <= 0.57 * scales[i / 32], "{} became {}", value, got);
            prop_assert!(scales[i / 32] <= largest(&values[i / 32 * 32..][..32]) / 127.0 * 1.001);
        }
    }

    #[test]
    fn q6_k_rounds_within_its_bound(values in vec(-5.0_f32..5.0, 512)) {
        let decoded = dense(Encoding::Q6K, q6_k::quantize(&values).unwrap(), 2, 256);
        let Values::Int8 { scales, .. } = decoded.values() else { panic!() };
        for (i, (value, got)) in values.iter().zip(decoded.to_f32()).enumerate() {
            let scale = scales[i / 16];
            prop_assert!((value - got).abs() <= 0.5001 * scale, "{} became {}", value, got);
            // Rounded up by one step of the outer scale at most.
            let (group, block) = (&values[i / 16 * 16..][..16], &values[i / 256 * 256..][..256]);
            prop_assert!(scale <= (largest(group) + largest(block) / 127.0) / 31.0 * 1.002);
        }
    }

    #[test]
    fn floats_keep_their_values(values in vec(-1e4_f32..1e4, 24)) {
        prop_assert_eq!(dense(Encoding::F32, float::encode_f32(&values), 3, 8).to_f32(), values.clone());
        let halves: Vec<f32> = values.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
        prop_assert_eq!(dense(Encoding::F16, float::encode_f16(&values), 3, 8).to_f32(), halves);
        let brains: Vec<f32> = values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
        prop_assert_eq!(dense(Encoding::Bf16, float::encode_bf16(&values), 3, 8).to_f32(), brains);
    }
}

#[test]
fn zeros_stay_zeros() {
    let values = [0.0; 512];
    assert_eq!(dense(Encoding::Q8_0, q8_0::quantize(&values).unwrap(), 2, 256).to_f32(), values);
    assert_eq!(dense(Encoding::Q6K, q6_k::quantize(&values).unwrap(), 2, 256).to_f32(), values);
}

#[test]
fn large_q6_k_tensors_decode_on_all_cores_to_the_same_values() {
    let (rows, cols) = (515, 2048); // just above a megabyte of codes
    let values: Vec<f32> = (0..rows * cols).map(|i| (i as f32 * 0.7).sin()).collect();
    let bytes = q6_k::quantize(&values).unwrap();
    let decoded = dense(Encoding::Q6K, bytes.clone(), rows, cols).to_f32();
    assert!(decoded.iter().enumerate().all(|(i, &v)| v == plain_q6_k(&bytes, i)));
}

#[test]
fn floats_are_not_copied() {
    let file = Bytes::from(vec![0; 1024]);
    let span = file.slice(3..); // not aligned either
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Bf16] {
        let weights = dense(encoding, span.clone(), 4, 8);
        let (Values::F32(held) | Values::F16(held) | Values::Bf16(held)) = weights.values() else { panic!() };
        assert_eq!(held.as_ptr(), span.as_ptr(), "{encoding}");
    }
}
