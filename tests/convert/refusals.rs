//! What does not fit is refused by name, or joined where loss is asked for.

use sterna::Error;
use sterna::convert::ConvertOptions;
use sterna::format::Weights;
use sterna::format::encodings::Encoding::{self, F16, I2S, Q2_0, Q6K, Q8_0, Tq1_0, Tq2_0};
use sterna::model::{Model, Part, Role};

use crate::{Directory, converted, golden, try_to_convert};

fn refusal(path: &std::path::Path, encoding: Encoding) -> String {
    match try_to_convert(&Model::open(path).unwrap(), &ConvertOptions::new(encoding)) {
        Err(Error::Input(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} fits {encoding}", path.display()),
    }
}

fn lossy(path: &str, encoding: Encoding) -> crate::Converted {
    let options = ConvertOptions { lossy: true, ..ConvertOptions::new(encoding) };
    try_to_convert(&Model::open(golden(path)).unwrap(), &options).unwrap()
}

/// A model whose groups of 128 columns have scales of their own and whose rows are whole blocks of 256: Ternary Bonsai's
/// shape. The golden one has rows of 384 columns, so its layers are cut to the first 256.
fn bonsai() -> Directory {
    let directory = Directory::hugging_face("qwen3-256");
    let config = std::fs::read_to_string(directory.path.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["intermediate_size"] = 256.into();
    directory.write("config.json", &config.to_string());
    let path = directory.path.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let cut = |name: &str, view: &safetensors::tensor::TensorView| -> (Vec<usize>, Vec<u8>) {
        let (shape, data) = (view.shape(), view.data());
        match shape {
            [384, cols] => (vec![256, *cols], data[..256 * cols * 2].to_vec()),
            [rows, 384] if name.contains("down_proj") => {
                (vec![*rows, 256], data.chunks(384 * 2).flat_map(|row| &row[..256 * 2]).copied().collect())
            }
            _ => (shape.to_vec(), data.to_vec()),
        }
    };
    let tensors: Vec<_> =
        file.tensors().into_iter().map(|(name, view)| (cut(&name, &view), view.dtype(), name)).collect();
    let views = tensors.iter().map(|((shape, bytes), dtype, name)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let bytes = safetensors::tensor::serialize(views, None).unwrap();
    std::fs::write(path, bytes).unwrap();
    directory
}

#[test]
fn groups_of_128_do_not_fit_blocks_of_256() {
    let directory = bonsai();
    for encoding in [Tq1_0, Tq2_0] {
        let text = refusal(&directory.path, encoding);
        assert!(text.starts_with("tensor \"blk.0.attn_q.weight\": "), "{text}");
        assert!(text.contains("one scale for 256 columns") && text.contains("lossy"), "{text}");
    }
    let model = Model::open(&directory.path).unwrap();
    let options = ConvertOptions { lossy: true, ..ConvertOptions::new(Tq2_0) };
    let joined = try_to_convert(&model, &options).unwrap();
    assert!(joined.report.largest_error > 0.01, "{}", joined.report.largest_error);
    assert!(joined.report.changes[0].to_string().contains("lossy"));
    let role = Role::Layer(0, Part::Gate);
    let (Some(Weights::Ternary(a)), Some(Weights::Ternary(b))) =
        (model.weights(role).unwrap(), joined.model.weights(role).unwrap())
    else {
        panic!("linear layers are ternary")
    };
    assert_eq!(a.codes(), b.codes());
    let worst = joined.report.largest_error * 1.001; // f16 rounds the mean itself
    for row in 0..a.rows() {
        for col in [0, 128] {
            let (before, after) = (a.scale(row, col), b.scale(row, col));
            assert!((before - after).abs() <= worst * before.abs(), "row {row}: {before} became {after}");
        }
    }
    assert_eq!(converted(&model, Q2_0).report.largest_error, 0.0);
}

#[test]
fn several_scales_do_not_fit_i2_s() {
    for path in ["trilm-128/f16.gguf", "qwen3-256/ptq1_0.gguf", "minicpm-256/tq2_0.gguf"] {
        let text = refusal(&golden(path), I2S);
        assert!(text.starts_with("tensor \"blk.0.attn_q.weight\": I2_S has one scale for the tensor"), "{text}");
        assert!(lossy(path, I2S).report.largest_error > 0.0);
    }
}

#[test]
fn rows_of_no_whole_blocks_are_refused_also_with_loss() {
    let model = Model::open(golden("bitnet-384/i2_s.gguf")).unwrap();
    for lossy in [false, true] {
        let options = ConvertOptions { lossy, ..ConvertOptions::new(Tq1_0) };
        let error = try_to_convert(&model, &options).err().unwrap().to_string();
        assert!(error.contains("attn_q.weight") && error.contains("256 columns in a block"), "{error}");
    }
}

#[test]
fn a_model_without_tokenizer_is_refused() {
    let text = refusal(&golden("llama-256"), Q2_0);
    assert!(text.contains("put tokenizer.json beside config.json"), "{text}");
}

#[test]
fn other_encodings_are_refused() {
    assert!(refusal(&golden("bitnet-256/i2_s.gguf"), Q8_0).contains("linear layers are written in I2_S"));
    let model = Model::open(golden("bitnet-256/i2_s.gguf")).unwrap();
    let options = ConvertOptions { embeddings: Some(Tq1_0), ..ConvertOptions::new(I2S) };
    assert!(try_to_convert(&model, &options).err().unwrap().to_string().contains("embedding and head are written in"));
}

/// A model whose embedding begins with these values.
fn with_embedding(values: &[f32]) -> (Directory, Model) {
    let directory = Directory::hugging_face("llama-256");
    let path = directory.path.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let data = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let embedding = file.tensor("model.embed_tokens.weight").unwrap();
        assert_eq!(embedding.dtype(), safetensors::Dtype::BF16);
        embedding.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    for (place, value) in values.iter().enumerate() {
        bytes[data + 2 * place..][..2].copy_from_slice(&half::bf16::from_f32(*value).to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
    let model = Model::open(&directory.path).unwrap();
    (directory, model)
}

/// bf16 reaches further down than f16, and nothing is rounded unasked.
#[test]
fn an_embedding_beyond_f16_stays_bf16() {
    let (_directory, model) = with_embedding(&[1e-20]);
    let converted = converted(&model, I2S);
    let told =
        |subject| converted.report.changes.iter().find(|change| change.subject == subject).unwrap().choice.clone();
    assert_eq!((told("embedding"), told("head")), ("BF16".to_owned(), "F16".to_owned()));
}

/// A block of Q8_0 has a scale in f16: values that it would lose are not written, whether they are read back or not.
#[test]
fn an_embedding_beyond_the_scales_of_an_encoding_is_refused_by_name() {
    for (values, fits) in [([1e-20; 256], false), ([3e7; 256], false), ([1e-3; 256], true)] {
        let (_directory, model) = with_embedding(&values);
        for verify in [true, false] {
            let options = ConvertOptions { embeddings: Some(Q8_0), verify, ..ConvertOptions::new(I2S) };
            match try_to_convert(&model, &options) {
                Ok(_) => assert!(fits, "{}", values[0]),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!fits && text.contains("token_embd.weight") && text.contains("Q8_0"), "{text}");
                }
            }
        }
    }
}

#[test]
fn embeddings_are_rounded_where_asked_for() {
    for path in ["llama-256/i2_s.gguf", "qwen3-256/ptq1_0.gguf"] {
        let model = Model::open(golden(path)).unwrap();
        for tables in [F16, Encoding::Bf16, Encoding::F32, Q8_0, Q6K] {
            let options = ConvertOptions { embeddings: Some(tables), ..ConvertOptions::new(Q2_0) };
            let converted = try_to_convert(&model, &options).unwrap();
            let told = converted.report.changes.iter().find(|change| change.subject == "embedding").unwrap();
            assert_eq!(told.choice, tables.name());
            // What was rounded once is copied when it is converted again.
            let again = crate::converted(&converted.model, Q2_0);
            let wanted = if matches!(tables, F16 | Q8_0 | Q6K) { tables } else { F16 };
            let told = again.report.changes.iter().find(|change| change.subject == "embedding").unwrap();
            if tables != Encoding::Bf16 {
                assert_eq!(told.choice, wanted.name());
            }
        }
    }
}

/// Several encodings have the type number of Q2_0, and readers tell them apart by their scales: what they would not take for it is
/// not written, whether it is read back or not.
#[test]
fn scales_that_no_reader_takes_for_one_are_not_written() {
    let mut bytes = std::fs::read(golden("bitnet-256/i2_s.gguf")).unwrap();
    let place = {
        let gguf = sterna::format::gguf::Gguf::parse(bytes.clone().into()).unwrap();
        let info = gguf.tensors().iter().find(|info| info.name == "blk.0.attn_q.weight").unwrap();
        let data = gguf.data(info);
        let start = bytes.windows(data.len()).position(|window| window == &data[..]).unwrap();
        start + info.shape.iter().product::<usize>() / 4
    };
    for (scale, fits) in [(1638.0_f32, false), (1e-7, false), (99.0, true), (0.01, true)] {
        bytes[place..place + 4].copy_from_slice(&scale.to_le_bytes());
        let model = Model::from_bytes(bytes.clone()).unwrap();
        for verify in [true, false] {
            let options = ConvertOptions { verify, lossy: true, ..ConvertOptions::new(Q2_0) };
            match try_to_convert(&model, &options) {
                Ok(_) => assert!(fits, "{scale}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!fits && text.contains("attn_q.weight") && text.contains("no trained model has"), "{text}");
                }
            }
        }
        assert!(
            try_to_convert(&model, &ConvertOptions { lossy: true, ..ConvertOptions::new(Tq2_0) }).is_ok(),
            "{scale}"
        );
    }
}
