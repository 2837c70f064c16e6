//! A config from config.json, written as GGUF keys, is read as the same config, for every family and every scaling of
//! rotations.

use serde_json::{Value as Json, json};
use sterna::backend::{Activation, Numerics, RopePairs};
use sterna::format::encodings::Encoding::{I2S, Q2_0};
use sterna::model::{Config, Model};

use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::array;
use crate::{Directory, converted};

/// Bases and divisors of rotations are f32 in a GGUF file.
const ROTATION: f64 = 1e-6;

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ROTATION * a)
}

/// Converts a golden checkpoint whose config was changed, and compares what both files say.
fn check(name: &str, architecture: &str, change: impl FnOnce(&mut Json)) -> (Config, Config) {
    let directory = Directory::hugging_face(name);
    let text = std::fs::read_to_string(directory.path.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&text).unwrap();
    change(&mut config);
    directory.write("config.json", &config.to_string());
    let original = Model::open(&directory.path).unwrap();
    let converted = converted(&original, I2S).model;
    let (a, mut b) = (original.config().clone(), converted.config().clone());
    assert_eq!(b.architecture, architecture);
    let read = b.clone();
    assert!(close(&a.rope.frequencies, &b.rope.frequencies), "{:?}", b.rope);
    assert!((a.rope.magnitude - b.rope.magnitude).abs() <= ROTATION);
    match (&a.long_rope, &b.long_rope) {
        (None, None) => {}
        (Some(a), Some(b)) => assert!(a.beyond == b.beyond && close(&a.frequencies, &b.frequencies)),
        other => panic!("{other:?}"),
    }
    b.rope = a.rope.clone();
    b.long_rope.clone_from(&a.long_rope);
    b.architecture.clone_from(&a.architecture);
    assert_eq!(a, b);
    (a, read)
}

fn pairs(read: &Config) -> RopePairs {
    read.rope.pairs
}

#[test]
fn bitnet_is_named_by_its_activation() {
    let (config, read) = check("bitnet-256", "bitnet-b1.58", |_| {});
    assert_eq!((config.activation, pairs(&read)), (Activation::SquaredRelu, RopePairs::Half));
    let (config, _) = check("bitnet-128-silu", "bitnet", |_| {});
    assert_eq!(config.activation, Activation::Silu);
}

#[test]
fn llama_has_pairs() {
    let (_, read) = check("llama-256", "llama", |_| {});
    assert_eq!(pairs(&read), RopePairs::Interleaved);
}

/// The name alone would say int8 for each token.
#[test]
fn activations_that_the_name_does_not_imply_have_a_key() {
    let (_, read) = check("llama-256", "llama", |_| {});
    assert_eq!(read.numerics, Numerics::Int8Rows);
    let directory = Directory::hugging_face("trilm-128");
    let model = Model::open(&directory.path).unwrap();
    let converted = converted(&model, sterna::format::encodings::Encoding::Q2_0).model;
    assert_eq!(converted.config().numerics, Numerics::Int8Groups);
    assert_eq!(converted.metadata().string("sterna.activations").unwrap(), Some("groups"));
}

#[test]
fn minicpm_keeps_its_factors_and_its_two_sets_of_rotations() {
    let factors = |from: f64| (0..32).map(|i| from + f64::from(i) / 10.0).collect::<Vec<_>>();
    let (config, read) = check("llama-256", "minicpm", |config| {
        config["model_type"] = "minicpm".into();
        for (name, value) in [("scale_emb", 12.0), ("scale_depth", 1.4), ("dim_model_base", 128.0)] {
            config[name] = value.into();
        }
        config["rope_scaling"] = json!({
            "rope_type": "longrope", "short_factor": factors(1.0), "long_factor": factors(1.5),
            "original_max_position_embeddings": 64
        });
    });
    assert!(config.rope.magnitude > 1.0, "the context is longer than the original one");
    assert_eq!((read.factors.embedding, read.factors.logits), (12.0, 2.0));
    assert_eq!(pairs(&read), RopePairs::Interleaved);
}

#[test]
fn every_scaling_of_rotations_survives() {
    let scalings = [
        json!({"rope_type": "linear", "factor": 2.5}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16.0,
            "beta_slow": 2.0, "attention_factor": 1.5}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}),
    ];
    for scaling in scalings {
        check("llama-256", "llama", |config| config["rope_scaling"] = scaling);
    }
}

#[test]
fn hunyuan_folds_its_factor_into_the_base() {
    let directory = Directory::hugging_face("qwen3-256");
    let text = std::fs::read_to_string(directory.path.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&text).unwrap();
    config["model_type"] = "hunyuan_v1_dense".into();
    config["rope_scaling"] = json!({"type": "dynamic", "alpha": 1000.0});
    directory.write("config.json", &config.to_string());
    let original = Model::open(&directory.path).unwrap();
    let converted = converted(&original, sterna::format::encodings::Encoding::Q2_0).model;
    let (a, b) = (original.config(), converted.config());
    assert_eq!((b.architecture.as_str(), a.head_norms, a.numerics), ("hunyuan-dense", b.head_norms, b.numerics));
    assert!(close(&a.rope.frequencies, &b.rope.frequencies));
}

#[test]
fn a_key_of_unknown_activations_is_an_error() {
    let text = b"sterna.activations";
    let model = Model::open(&Directory::hugging_face("trilm-128").path).unwrap();
    let converted = converted(&model, sterna::format::encodings::Encoding::Q2_0);
    let mut file = std::fs::read(converted.path()).unwrap();
    let place = file.windows(text.len()).position(|window| window == text).unwrap();
    let value = place + text.len() + 4 + 8; // behind the type and the length
    assert_eq!(&file[value..][..6], b"groups");
    file[value] = b'G';
    std::fs::write(converted.directory.path.join("other.gguf"), file).unwrap();
    let error = Model::open(converted.directory.path.join("other.gguf")).unwrap_err();
    assert!(
        matches!(&error, sterna::Error::Model(text) if text.contains("\"sterna.activations\": \"Groups\"")),
        "{error}"
    );
}

/// Files have no key for the gate: what the name does not imply cannot be said.
#[test]
fn a_network_that_keys_cannot_describe_is_refused() {
    let directory = Directory::hugging_face("llama-256");
    let text = std::fs::read_to_string(directory.path.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&text).unwrap();
    config["hidden_act"] = "relu2".into();
    directory.write("config.json", &config.to_string());
    let model = Model::open(&directory.path).unwrap();
    let error = crate::try_to_convert(&model, &sterna::convert::ConvertOptions::new(I2S)).err().unwrap().to_string();
    assert!(error.contains("\"llama\"") && error.contains("Silu instead of activation: SquaredRelu"), "{error}");
}

#[test]
fn what_a_directory_says_of_sampling_comes_along() {
    let directory = Directory::hugging_face("bitnet-256");
    let fields = r#"{"do_sample": true, "temperature": 0.6, "top_k": 50, "top_p": 0.9, "min_p": null, "repetition_penalty": "much"}"#;
    directory.write("generation_config.json", fields);
    let original = Model::open(&directory.path).unwrap();
    let wanted = original.sampling_defaults();
    assert_eq!((wanted.temperature, wanted.top_k, wanted.top_p), (Some(0.6), Some(50), Some(0.9)));
    assert_eq!((wanted.min_p, wanted.repetition_penalty), (None, None));
    let ignored = "sampling: \"repetition_penalty\" of generation_config.json is ignored";
    assert!(original.decisions().iter().any(|decision| decision.to_string().starts_with(ignored)));
    assert_eq!(converted(&original, I2S).model.sampling_defaults(), wanted);

    directory.write("generation_config.json", r#"{"do_sample": false, "temperature": 1.0}"#);
    assert_eq!(Model::open(&directory.path).unwrap().sampling_defaults().temperature, Some(0.0));
}

/// Blocks that draft are not copied, and no key speaks of them: other programs would look for their tensors.
#[test]
fn blocks_that_draft_are_dropped_with_their_keys() {
    let mut file = parts("qwen35-128-hf/ptq1_0.gguf");
    file.set_u32("qwen35.block_count", 3).set_u32("qwen35.nextn_predict_layers", 1);
    file.set("qwen35.attention.recurrent_layers", 9, array(7, 3, [1, 0, 0]));
    file.add("blk.2.nextn.eh_proj.weight", &[8], 0, [0; 32]);
    let file = TemporaryFile::new(&file.bytes());
    let original = Model::open(&file.path).unwrap();
    let converted = converted(&original, Q2_0).model;
    assert_eq!(converted.config(), original.config());
    assert_eq!(converted.metadata().unsigned("qwen35.block_count").unwrap(), Some(2));
    assert_eq!(converted.metadata().get("qwen35.nextn_predict_layers"), None);
    let layers = converted.metadata().array("qwen35.attention.recurrent_layers").unwrap().unwrap();
    assert_eq!(layers.truths().unwrap().collect::<Vec<_>>(), [true, false]);
}

/// What a directory says of its recurrent layers, and of images, which mean nothing here, other programs find in the file.
#[test]
fn recurrent_layers_have_keys() {
    let directory = Directory::hugging_face("qwen35-128-hf");
    let converted = converted(&Model::open(&directory.path).unwrap(), Q2_0).model;
    let keys = converted.metadata();
    let size = |key: &str| keys.unsigned(&format!("qwen35.{key}")).unwrap();
    let found = ["conv_kernel", "state_size", "group_count", "time_step_rank", "inner_size"];
    assert_eq!(found.map(|key| size(&format!("ssm.{key}"))), [Some(4), Some(128), Some(2), Some(6), Some(768)]);
    assert_eq!(size("rope.dimension_count"), Some(16));
    let sections = keys.array("qwen35.rope.dimension_sections").unwrap().unwrap();
    assert_eq!(sections.integers().unwrap().collect::<Vec<_>>(), [4, 2, 2, 0]);
}
