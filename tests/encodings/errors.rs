//! Damaged, lying and foreign tensors give an error that names the trouble; so do weights that an encoding cannot hold.

use bytes::Bytes;
use half::f16;
use sterna::Error;
use sterna::format::Scales;
use sterna::format::encodings::{Encoding, I2sLayout, TlScale, i2_s, q6_k, q8_0, tq1_0, tq2_0};

use crate::{LAYOUTS, some_ternary};

/// Each encoding with a shape that it can have.
const ALL: [(Encoding, usize, usize); 32] = [
    (Encoding::F32, 4, 256),
    (Encoding::F16, 4, 256),
    (Encoding::Bf16, 4, 256),
    (Encoding::Q4_0, 4, 256),
    (Encoding::Q4_1, 4, 256),
    (Encoding::Q5_0, 4, 256),
    (Encoding::Q5_1, 4, 256),
    (Encoding::Q8_0, 4, 256),
    (Encoding::Q2K, 4, 256),
    (Encoding::Q3K, 4, 256),
    (Encoding::Q4K, 4, 256),
    (Encoding::Q5K, 4, 256),
    (Encoding::Q6K, 4, 256),
    (Encoding::I2S, 4, 256),
    (Encoding::Tq1_0, 4, 256),
    (Encoding::Tq2_0, 4, 256),
    (Encoding::Q2_0, 4, 192),
    (Encoding::Pq2_0, 4, 256),
    (Encoding::Ptq1_0, 4, 256),
    (Encoding::Iq1Bn, 4, 192),
    (Encoding::Iq2Bn, 4, 192),
    (Encoding::Iq2BnR4, 4, 192),
    (Encoding::Stq1_0, 4, 256),
    (Encoding::Tl1(TlScale::Inside), 1024, 4096),
    (Encoding::Tl1(TlScale::Beside), 1536, 1536),
    (Encoding::Tl2(TlScale::Inside), 1024, 4096),
    (Encoding::Tl2(TlScale::Beside), 1536, 1536),
    (Encoding::I2V, 4, 256),
    (Encoding::I2V4, 4, 256),
    (Encoding::I2V8, 4, 256),
    (Encoding::I1V, 4, 256),
    (Encoding::I1V2, 4, 256),
];

/// The text of the error, which must say that the bytes are malformed.
fn malformed(encoding: Encoding, bytes: Vec<u8>, rows: usize, cols: usize, layout: I2sLayout) -> String {
    match encoding.decode(&Bytes::from(bytes), rows, cols, layout) {
        Err(Error::Malformed(text)) => text,
        other => panic!("{encoding} [{rows}, {cols}]: {:?}", other.map(|_| "decoded")),
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
    for (id, name) in [(16, "IQ2_XXS"), (38, "TL1"), (39, "TL2"), (42, "Q2_0"), (37, "I8_S"), (999, "unknown")] {
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
    for (encoding, rows, cols) in ALL {
        let size = encoding.size(rows, cols).unwrap();
        for missing in [1, size / 2, size] {
            let text = default_malformed(encoding, vec![0; size - missing], rows, cols);
            assert!(text.contains(&size.to_string()) && text.contains(&(size - missing).to_string()), "{text}");
        }
        assert!(encoding.decode(&vec![0; size + 40].into(), rows, cols, I2sLayout::default()).is_ok(), "{encoding}");
    }
}

#[test]
fn any_bytes_decode_or_are_an_error() {
    let mut state = 7_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for (encoding, rows, cols) in ALL {
        let size = encoding.size(rows, cols).unwrap();
        for bytes in [vec![0xff; size], vec![0xaa; size], (0..size).map(|_| random()).collect()] {
            match encoding.decode(&Bytes::from(bytes), rows, cols, I2sLayout::default()) {
                Ok(weights) => assert_eq!((weights.rows(), weights.cols()), (rows, cols), "{encoding}"),
                Err(Error::Malformed(text)) => assert!(!text.is_empty()),
                // Random scales for 64 columns differ.
                Err(Error::Unsupported(text)) => assert!(encoding == Encoding::Q2_0, "{encoding}: {text}"),
                Err(other) => panic!("{encoding}: {other}"),
            }
        }
    }
}

#[test]
fn bytes_that_are_no_trits_are_errors() {
    for (encoding, rows, cols) in ALL {
        let size = encoding.size(rows, cols).unwrap();
        // These read every byte as some trits.
        let is_total = [Encoding::Tq1_0, Encoding::Ptq1_0, Encoding::Iq1Bn, Encoding::Stq1_0].contains(&encoding);
        if !encoding.is_ternary() || is_total {
            continue;
        }
        let mut bytes = vec![0; size];
        let place = match encoding {
            Encoding::Tl1(TlScale::Inside) | Encoding::Tl2(TlScale::Inside) | Encoding::I2S => size - 33,
            Encoding::Tl2(TlScale::Beside) => 0, // ends with signs
            Encoding::Tq2_0 => size - 3,
            _ => size - 1,
        };
        bytes[place] = 0xff;
        assert!(default_malformed(encoding, bytes, rows, cols).contains("no "), "{encoding}");
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
    for (encoding, ..) in ALL.into_iter().filter(|(e, ..)| !matches!(e, Encoding::Tl1(_) | Encoding::Tl2(_))) {
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
        for (encoding, scale) in [(Encoding::Iq1Bn, &half[..]), (Encoding::Iq2Bn, &bad.to_le_bytes())] {
            let mut bytes = vec![0b01_01_01_01; encoding.size(2, 64).unwrap()];
            let row = bytes.len() / 2;
            bytes[row..row + scale.len()].copy_from_slice(scale);
            assert!(default_malformed(encoding, bytes, 2, 64).contains("row 1"), "{encoding}");
        }
        let tl2 = Encoding::Tl2(TlScale::Inside);
        let mut bytes = vec![0; tl2.size(1536, 1536).unwrap()];
        let tail = bytes.len() - 32;
        bytes[tail..tail + 4].copy_from_slice(&bad.to_le_bytes());
        assert!(default_malformed(tl2, bytes, 1536, 1536).contains("scale"));
        for (encoding, cols, size, place) in [
            (Encoding::Tq1_0, 256, 54, 52),
            (Encoding::Tq2_0, 256, 66, 64),
            (Encoding::Q2_0, 64, 18, 0),
            (Encoding::Pq2_0, 128, 34, 0),
            (Encoding::Ptq1_0, 128, 28, 26),
            (Encoding::Stq1_0, 256, 42, 40),
            (Encoding::Q4_0, 32, 18, 0),
            (Encoding::Q4_1, 32, 20, 2),
            (Encoding::Q5_0, 32, 22, 0),
            (Encoding::Q5_1, 32, 24, 0),
            (Encoding::Q8_0, 32, 34, 0),
            (Encoding::Q2K, 256, 84, 82),
            (Encoding::Q3K, 256, 110, 108),
            (Encoding::Q4K, 256, 144, 0),
            (Encoding::Q5K, 256, 176, 2),
            (Encoding::Q6K, 256, 210, 208),
        ] {
            // In the second block, whose trits are all zero in most: even there it is no number.
            let mut bytes = vec![0b01_01_01_01; 2 * size];
            bytes[size + place..][..2].copy_from_slice(&half);
            let cols = 2 * cols;
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
