//! A conversion tells what it read: layers of zeros are named, and what no model can have is not copied.

use sterna::convert::ConvertOptions;
use sterna::format::encodings::Encoding::{self, I2S, Q2_0, Tq1_0, Tq2_0};
use sterna::format::gguf::Gguf;
use sterna::model::{Model, Part, Role};

use crate::{converted, golden, try_to_convert};

/// A golden file with the bytes of some tensors changed.
fn changed(path: &str, change: impl Fn(&str, &mut [u8])) -> Model {
    let mut bytes = std::fs::read(golden(path)).unwrap();
    let gguf = Gguf::parse(bytes.clone().into()).unwrap();
    for info in gguf.tensors() {
        change(&info.name, &mut bytes[info.offset..info.offset + info.span]);
    }
    Model::from_bytes(bytes).unwrap()
}

fn told(converted: &crate::Converted) -> String {
    converted.report.changes.iter().map(|change| format!("{change}\n")).collect()
}

#[test]
fn layers_of_zeros_are_named_in_every_encoding() {
    let name = "blk.1.ffn_up.weight";
    let model = changed("bitnet-256/i2_s.gguf", |tensor, bytes| {
        if tensor == name {
            bytes.fill(0);
        }
    });
    for encoding in [I2S, Tq1_0, Tq2_0, Q2_0] {
        let converted = converted(&model, encoding);
        assert_eq!(converted.report.zero_layers, [Role::Layer(1, Part::Up)]);
        let told = told(&converted);
        assert!(told.contains(&format!("of the linear layers 1 is all zero: {name}")), "{told}");
    }
}

#[test]
fn the_shares_of_trits_are_those_of_the_model() {
    let model = Model::open(golden("bitnet-256/i2_s.gguf")).unwrap();
    let converted = converted(&model, Tq2_0);
    let mut trits = [0; 3];
    for role in model.roles().into_iter().filter(|role| role.is_linear()) {
        let Some(sterna::format::Weights::Ternary(weights)) = model.weights(role).unwrap() else { panic!("ternary") };
        (0..weights.rows()).flat_map(|row| weights.row_trits(row).collect::<Vec<_>>()).for_each(|trit| {
            trits[(trit + 1) as usize] += 1;
        });
    }
    assert_eq!(converted.report.trits, trits);
    assert!(converted.report.zero_layers.is_empty());
    assert!(told(&converted).contains("% are 0"), "{}", told(&converted));
}

/// I2_S is used where it lies, so that opening it looks at some blocks; a conversion reads all of it.
#[test]
fn a_code_that_is_no_trit_is_not_copied() {
    let name = "blk.0.ffn_down.weight";
    let model = changed("bitnet-256/i2_s.gguf", |tensor, bytes| {
        if tensor == name {
            bytes[bytes.len() / 2 + 37] |= 0b11;
        }
    });
    for encoding in [I2S, Tq2_0, Q2_0] {
        let error = refusal(&model, &ConvertOptions::new(encoding));
        assert!(error.contains(name) && error.contains("code"), "{encoding}: {error}");
    }
}

#[test]
fn values_that_are_no_numbers_are_not_copied() {
    let model = changed("llama-256/tq2_0.gguf", |tensor, bytes| {
        if tensor == "token_embd.weight" {
            bytes[5000..5002].copy_from_slice(&[0, 0x7e]);
        }
    });
    for embeddings in [None, Some(Encoding::F16), Some(Encoding::Q8_0)] {
        let options = ConvertOptions { embeddings, ..ConvertOptions::new(Tq2_0) };
        let error = refusal(&model, &options);
        assert!(error.contains("token_embd.weight") && error.contains("1 of 131072 values are not finite"), "{error}");
    }
}

fn refusal(model: &Model, options: &ConvertOptions) -> String {
    try_to_convert(model, options).err().expect("it is refused").to_string()
}
