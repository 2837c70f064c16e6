//! Bytes written by independent programs: the hand-checked blocks of the format notes, and `kernels.safetensors`.

use safetensors::SafeTensors;
use sterna::format::encodings::{Encoding, I2sLayout, i2_s, tq1_0, tq2_0};
use sterna::format::{Scales, Ternary};

use crate::{ternary, trits};

/// The pattern of the hand-checked blocks.
pub fn pattern(count: usize) -> Vec<i8> {
    (0..count).map(|i| ((7 * i + i / 5 + i / 64) % 3) as i8 - 1).collect()
}

pub fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn hand_checked_blocks_decode_to_their_pattern() {
    let tail = "0000003f".to_string() + &"a5".repeat(28); // 28 bytes that mean nothing
    let i2_s_128 = "2a449902552a449902552a449902552a449902552a449902552a449902552a44".to_string() + &tail;
    let i2_s_64 = "1861841146186184114618618411461898618619669861861966986186196698".to_string() + &tail;
    let tq2_0 = "a811668055a811668055a811668055a811668055a811668055a811668055a8116a005688116a005688116a005688116a\
                 005688116a005688116a005688116a000038";
    let tq1_0 = "555fe00780555fe00780555fe00780555fe00780555fe00780555fe00780555fbf2099b049bf2099b049bf2099b049bf\
                 235fcb430038";
    for (encoding, text, cols, layout) in [
        (Encoding::I2S, i2_s_128.as_str(), 128, I2sLayout::Block128),
        (Encoding::I2S, i2_s_64.as_str(), 128, I2sLayout::Block64),
        (Encoding::Tq2_0, tq2_0, 256, I2sLayout::default()),
        (Encoding::Tq1_0, tq1_0, 256, I2sLayout::default()),
    ] {
        let weights = ternary(encoding, hex(text), 1, cols, layout);
        assert_eq!(trits(&weights), pattern(cols), "{encoding} {layout}");
        assert_eq!(weights.scales(), &Scales::Tensor(0.5), "{encoding} {layout}");
    }
}

#[test]
fn reference_tensors_decode_to_their_codes_and_encode_to_their_bytes() {
    let file = std::fs::read("tests/data/golden/kernels.safetensors").unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut checked = [0; 3];
    for (name, packed) in tensors.iter() {
        let Some((case, form)) = name.rsplit_once('.').filter(|(case, _)| *case != "block") else { continue };
        let (kind, encoding) = match form {
            "i2_s" => (0, Encoding::I2S),
            "tq1_0" => (1, Encoding::Tq1_0),
            "tq2_0" => (2, Encoding::Tq2_0),
            _ => continue,
        };
        let codes = tensors.tensor(&format!("{case}.w")).unwrap();
        let &[rows, cols] = codes.shape() else { panic!("{case} is no matrix") };
        let scale = f32::from_le_bytes(tensors.tensor(&format!("{case}.scale")).unwrap().data().try_into().unwrap());

        assert_eq!(encoding.size(rows, cols).unwrap(), packed.data().len(), "{name}");
        let weights = ternary(encoding, packed.data().to_vec(), rows, cols, I2sLayout::Block128);
        let codes: Vec<i8> = codes.data().iter().map(|&b| b as i8).collect();
        assert_eq!(trits(&weights), codes, "{name}");
        assert_eq!(weights.scales(), &Scales::Tensor(scale), "{name}");
        let repacked = Ternary::pack(rows, cols, &codes, Scales::Tensor(scale)).unwrap();
        assert_eq!(weights.codes(), repacked.codes(), "{name}: the padding too");
        let encoded = match encoding {
            Encoding::I2S => i2_s::encode(&weights, I2sLayout::Block128),
            Encoding::Tq1_0 => tq1_0::encode(&weights),
            _ => tq2_0::encode(&weights),
        };
        assert_eq!(encoded.unwrap(), packed.data(), "{name}");
        checked[kind] += 1;
    }
    assert_eq!(checked, [16, 9, 9], "cases of I2_S, TQ1_0, TQ2_0");
}
