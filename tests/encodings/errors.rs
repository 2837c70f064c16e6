//! Damaged, lying and foreign tensors give an error that names the trouble; so do weights that an encoding cannot hold.

use bytes::Bytes;
use half::f16;
use sterna::Error;
use sterna::format::Scales;
use sterna::format::encodings::{Encoding, I2sLayout, i2_s, q6_k, q8_0, tq1_0, tq2_0};

use crate::{LAYOUTS, some_ternary};

const ALL: [Encoding; 8] = [
    Encoding::F32,
    Encoding::F16,
    Encoding::Bf16,
    Encoding::Q8_0,
    Encoding::Q6K,
    Encoding::I2S,
    Encoding::Tq1_0,
    Encoding::Tq2_0,
];

/// The text of the error, which must say that the bytes are malformed.
fn malformed(encoding: Encoding, bytes: Vec<u8>, rows: usize, cols: usize, layout: I2sLayout) -> String {
    match encoding.decode(&Bytes::from(bytes), rows, cols, layout) {
        Err(Error::Malformed(text)) => text,
        other => panic!("{encoding} [{rows}, {cols}]: {other:?}"),
    }
}

fn default_malformed(encoding: Encoding, bytes: Vec<u8>, rows: usize, cols: usize) -> String {
    malformed(encoding, bytes, rows, cols, I2sLayout::default())
}

#[test]
fn type_numbers_map_to_names() {
    let names = [0, 1, 8, 14, 30, 34, 35, 36].map(|id| Encoding::from_ggml(id).unwrap().name());
    assert_eq!(names, ["F32", "F16", "Q8_0", "Q6_K", "BF16", "TQ1_0", "TQ2_0", "I2_S"]);
}

#[test]
fn other_types_are_unsupported_by_number_and_name() {
    for (id, name) in [(12, "Q4_K"), (38, "TL1"), (39, "TL2"), (42, "Q2_0"), (135, "IQ2_BN"), (999, "unknown")] {
        let Err(Error::Unsupported(text)) = Encoding::from_ggml(id) else { panic!("{id} is not supported") };
        assert!(text.contains(&id.to_string()) && text.contains(name), "{text}");
    }
}

#[test]
fn layouts_are_parsed_and_printed() {
    for layout in LAYOUTS {
        assert_eq!(layout.to_string().parse::<I2sLayout>().unwrap(), layout);
    }
    assert!(matches!("32".parse::<I2sLayout>(), Err(Error::Input(text)) if text.contains("row4")));
}

#[test]
fn one_byte_too_few_is_an_error_with_both_numbers() {
    for encoding in ALL {
        let size = encoding.size(4, 256).unwrap();
        let text = default_malformed(encoding, vec![0; size - 1], 4, 256);
        assert!(text.contains(&size.to_string()) && text.contains(&(size - 1).to_string()), "{text}");
        assert!(encoding.decode(&Bytes::from(vec![0; size + 40]), 4, 256, I2sLayout::default()).is_ok(), "{encoding}");
    }
}

#[test]
fn rows_that_are_no_whole_blocks_are_errors_with_both_numbers() {
    for (encoding, cols, block) in [
        (Encoding::Q8_0, 40, "32"),
        (Encoding::Q6K, 128, "256"),
        (Encoding::Tq1_0, 384, "256"),
        (Encoding::Tq2_0, 255, "256"),
    ] {
        let text = encoding.size(2, cols).unwrap_err().to_string();
        assert!(text.contains(block) && text.contains(&cols.to_string()), "{text}");
    }
    assert!(Encoding::I2S.size(3, 32).unwrap_err().to_string().contains("96"));
    assert!(Encoding::I2S.size(4, 32).is_ok());
    assert!(malformed(Encoding::I2S, vec![0; 1000], 6, 128, I2sLayout::Row4).contains('6'));
}

#[test]
fn sizes_beyond_counting_and_empty_shapes_are_errors() {
    for encoding in ALL {
        for (rows, cols) in [(usize::MAX, 256), (usize::MAX / 256, 1 << 40), (0, 256), (4, 0), (1 << 63, 1 << 8)] {
            assert!(matches!(encoding.size(rows, cols), Err(Error::Malformed(_))), "{encoding} [{rows}, {cols}]");
        }
    }
}

#[test]
fn code_3_is_an_error() {
    let scale = f16::ONE.to_le_bytes();
    for bad in [0b11_00_00_00, 0b00_11_00_00, 0b00_00_11_00, 0b00_00_00_11] {
        let mut tq2_0 = vec![0; 66];
        tq2_0[64..].copy_from_slice(&scale);
        tq2_0[63] = bad;
        assert!(default_malformed(Encoding::Tq2_0, tq2_0, 1, 256).contains("code 3"));

        for layout in LAYOUTS {
            let mut i2_s = vec![0; 4 * 96 / 4 + 32];
            i2_s[70] = bad;
            assert!(malformed(Encoding::I2S, i2_s, 4, 96, layout).contains("code 3"), "{layout}");
        }
    }
}

#[test]
fn mapped_i2_s_is_searched_from_end_to_end_in_samples() {
    let (rows, cols) = (64, 1024); // 512 blocks of 32 bytes
    let clean = vec![0; Encoding::I2S.size(rows, cols).unwrap()];
    for place in [0, rows * cols / 4 - 1] {
        let mut bytes = clean.clone();
        bytes[place] = 3;
        assert!(default_malformed(Encoding::I2S, bytes, rows, cols).contains("code 3"), "byte {place}");
    }
    let mut bytes = clean;
    bytes[..rows * cols / 4].chunks_mut(320).for_each(|some| some[0] = 3); // in one block of ten
    assert!(default_malformed(Encoding::I2S, bytes, rows, cols).contains("code 3"));
    assert!(default_malformed(Encoding::I2S, vec![3; 64], 1, 128).contains("code 3"), "a single block");
}

#[test]
fn scales_that_are_not_finite_are_errors() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for layout in LAYOUTS {
            let mut i2_s = vec![0b01_01_01_01; 4 * 128 / 4 + 32];
            i2_s[128..132].copy_from_slice(&bad.to_le_bytes());
            assert!(malformed(Encoding::I2S, i2_s, 4, 128, layout).contains("scale"));
        }
        let half = f16::from_f32(bad).to_le_bytes();
        for (encoding, size, place) in
            [(Encoding::Tq1_0, 54, 52), (Encoding::Tq2_0, 66, 64), (Encoding::Q8_0, 34, 0), (Encoding::Q6K, 210, 208)]
        {
            // In the second block, whose trits are all zero in TQ2_0: even there it is no number.
            let mut bytes = vec![0b01_01_01_01; 2 * size];
            bytes[size + place..][..2].copy_from_slice(&half);
            let cols = if encoding == Encoding::Q8_0 { 64 } else { 512 };
            assert!(default_malformed(encoding, bytes, 1, cols).contains("finite"), "{encoding}");
        }
    }
}

#[test]
fn weights_that_an_encoding_cannot_hold_are_refused() {
    let input = |result: Result<Vec<u8>, Error>| assert!(matches!(result, Err(Error::Input(_))), "{result:?}");
    input(i2_s::encode(&some_ternary(4, 128, Scales::Rows(vec![1.0; 4])), I2sLayout::Block128));
    input(i2_s::encode(&some_ternary(3, 32, Scales::Tensor(1.0)), I2sLayout::Block128));
    input(i2_s::encode(&some_ternary(6, 128, Scales::Tensor(1.0)), I2sLayout::Row4));
    for encode in [tq1_0::encode, tq2_0::encode] {
        input(encode(&some_ternary(2, 128, Scales::Tensor(1.0))));
        input(encode(&some_ternary(1, 256, Scales::Groups { columns: 128, values: vec![1.0, 2.0] })));
        input(encode(&some_ternary(1, 256, Scales::Tensor(1e6))));
        input(encode(&some_ternary(1, 256, Scales::Tensor(1e-12))));
    }
    for quantize in [q8_0::quantize, q6_k::quantize] {
        input(quantize(&[1.0; 40]));
        for bad in [f32::NAN, f32::INFINITY, 3e38] {
            let mut values = [0.5; 256];
            values[200] = bad;
            input(quantize(&values));
        }
    }
}
