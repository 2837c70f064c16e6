//! The file appears whole or not at all, and brings its tokenizer and its chat template.

use std::ops::ControlFlow;

use serde_json::{Value as Json, json};
use sterna::convert::{ConvertOptions, Stage, convert};
use sterna::format::encodings::Encoding::{I2S, Q2_0, Tq2_0};
use sterna::format::gguf::{Gguf, Value, resolve};
use sterna::generate::{GenerateOptions, Sampling, SessionOptions};
use sterna::model::{Model, Role};
use sterna::{Device, Error, Session};

use crate::{Directory, converted, golden, try_to_convert};

fn shipped() -> Model {
    Model::open(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf")).unwrap()
}

#[test]
fn a_stopped_conversion_leaves_nothing() {
    let (directory, model) = (Directory::new(), shipped());
    let path = directory.path.join("stopped.gguf");
    for (stage, tensor) in [(Stage::Writing, 0), (Stage::Writing, 5), (Stage::Verifying, 3)] {
        let mut seen = 0;
        let outcome = convert(&model, &path, &ConvertOptions::new(Tq2_0), &mut |progress| {
            seen = directory.names().len();
            let is_time = progress.stage == stage && progress.done == tensor;
            if is_time { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(outcome.unwrap().is_none());
        assert_eq!((seen, directory.names().len()), (1, 0), "the temporary file was beside it, and is gone");
    }
}

#[test]
fn a_file_that_is_there_stays_as_it_is() {
    let (directory, model) = (Directory::new(), shipped());
    directory.write("taken.gguf", "a word");
    let path = directory.path.join("taken.gguf");
    let go_on = &mut |_| ControlFlow::Continue(());
    let refused = convert(&model, &path, &ConvertOptions::new(I2S), go_on).unwrap_err();
    assert!(matches!(&refused, Error::Input(text) if text.contains("is there already")), "{refused}");
    // A conversion that fails keeps it too.
    let bonsai = Model::open(golden("qwen3-256/ptq1_0.gguf")).unwrap();
    let options = ConvertOptions { overwrite: true, ..ConvertOptions::new(I2S) };
    convert(&bonsai, &path, &options, go_on).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), b"a word");
    convert(&model, &path, &options, go_on).unwrap().unwrap();
    assert_eq!(directory.names(), ["taken.gguf"]);
    assert!(Model::open(&path).is_ok());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_of_the_file() {
    let (directory, model) = (Directory::new(), shipped());
    let path = directory.path.join("nowhere/new.gguf");
    let refused = convert(&model, &path, &ConvertOptions::new(I2S), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused.unwrap_err(), Error::Io { path: told, .. } if told == path));
}

#[test]
fn a_conversion_to_the_same_encoding_changes_no_tensor() {
    let original = std::fs::read(golden("bitnet-256/tq2_0.gguf")).unwrap();
    let original = Gguf::parse(original.into()).unwrap();
    let model = Model::open(golden("bitnet-256/tq2_0.gguf")).unwrap();
    let converted = Gguf::open(&converted(&model, Tq2_0).path()).unwrap();
    for info in original.tensors() {
        let other = converted.tensor(&info.name).unwrap();
        assert_eq!((&info.shape, info.type_id), (&other.shape, other.type_id), "{}", info.name);
        let size = info.span.min(other.span);
        assert!(original.data(info)[..size] == converted.data(other)[..size], "{}", info.name);
    }
}

#[test]
fn the_file_says_what_it_holds() {
    let model = shipped();
    for (encoding, type_id, file_type) in [(I2S, 36, 40), (Tq2_0, 35, 37), (Q2_0, 42, 41)] {
        let gguf = Gguf::open(&converted(&model, encoding).path()).unwrap();
        assert_eq!(gguf.metadata().unsigned("general.file_type").unwrap(), Some(file_type));
        assert_eq!(gguf.tensor("blk.0.attn_q.weight").unwrap().type_id, type_id);
        assert_eq!(resolve(&gguf).unwrap().of(type_id).unwrap(), encoding);
    }
}

#[test]
fn all_other_keys_of_a_file_stay() {
    let model = Model::open(golden("minicpm-256/tq2_0.gguf")).unwrap();
    let converted = converted(&model, Q2_0);
    let kept = |key: &str| !matches!(key, "general.file_type" | "general.quantization_version");
    let keys = |model: &Model| -> Vec<(String, Value)> {
        model.metadata().iter().filter(|(key, _)| kept(key)).map(|(k, v)| (k.to_owned(), v.clone())).collect()
    };
    assert_eq!(keys(&model), keys(&converted.model));
}

const TEXT: &str =
    "Once upon a time, a tern called Sterna flew 20,000 miles.\n\n  \"Далеко!\" she said. <|end_of_text|>";

#[test]
fn the_tokenizer_survives() {
    let directory = Directory::hugging_face("bitnet-256");
    directory
        .write("tokenizer_config.json", r#"{"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}"#);
    directory.write("generation_config.json", r#"{"eos_token_id": [511, 510]}"#);
    let file = golden("bitnet-256/i2_s.gguf");
    for path in [&directory.path, &file] {
        let original = Model::open(path).unwrap();
        let converted = converted(&original, I2S).model;
        let (a, b) = (original.tokenizer().unwrap(), converted.tokenizer().unwrap());
        assert_eq!(a.encode_prompt(TEXT).unwrap(), b.encode_prompt(TEXT).unwrap());
        assert_eq!(a.encode_plain(TEXT).unwrap(), b.encode_plain(TEXT).unwrap());
        assert_eq!((a.bos(), a.eos(), a.adds_bos()), (b.bos(), b.eos(), b.adds_bos()));
        assert_eq!(a.end_of_generation(), b.end_of_generation());
        assert_eq!(original.chat_template(), converted.chat_template());
        let same_token = |id| a.token_text(id) == b.token_text(id) && a.token_bytes(id) == b.token_bytes(id);
        assert!((0..a.vocabulary_size() as u32).all(same_token));
    }
    assert!(
        converted(&Model::open(&directory.path).unwrap(), Q2_0).model.chat_template().unwrap().contains("m.content")
    );
}

/// A tokenizer.json as Llama 2's: SentencePiece's vocabulary, with merges in the place of scores.
fn sentencepiece(normalizer: &Json) -> Json {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend("▁etaoinshrdlucmfwyp.,".chars().map(String::from));
    let merges =
        [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("a", "n"), ("e", "r"), ("▁", "a"), ("o", "n"), ("t", "er")];
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    let vocabulary: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added = |id: usize| {
        json!({"id": id, "content": tokens[id], "special": true, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [added(0), added(1), added(2)],
        "normalizer": normalizer, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
                  "merges": merges},
    })
}

#[test]
fn a_sentencepiece_tokenizer_survives() {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let directory = Directory::hugging_face("llama-256");
    let file = sentencepiece(&json!({"type": "Sequence", "normalizers": [prepend, replace]}));
    directory.write("tokenizer.json", &file.to_string());
    directory.write("tokenizer_config.json", r#"{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true}"#);
    directory.write("generation_config.json", r#"{"bos_token_id": 1, "eos_token_id": 2}"#);
    let config = std::fs::read_to_string(directory.path.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&config).unwrap();
    (config["bos_token_id"], config["eos_token_id"]) = (1.into(), 2.into());
    directory.write("config.json", &config.to_string());
    let original = Model::open(&directory.path).unwrap();
    let converted = converted(&original, I2S).model;
    let (a, b) = (original.tokenizer().unwrap(), converted.tokenizer().unwrap());
    for text in ["the tern and the other one", "  a  théâtre\n", TEXT] {
        assert_eq!(a.encode_prompt(text).unwrap(), b.encode_prompt(text).unwrap(), "{text:?}");
    }
    assert_eq!((a.bos(), a.eos(), a.adds_bos()), (b.bos(), b.eos(), b.adds_bos()));
}

/// Some checkpoints have more rows in the embedding than tokens; llama.cpp wants as many.
#[test]
fn the_vocabulary_is_padded_to_the_embedding() {
    let directory = Directory::hugging_face("bitnet-256");
    let text = std::fs::read_to_string(directory.path.join("tokenizer.json")).unwrap();
    let mut tokenizer: Json = serde_json::from_str(&text).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let last = added.pop().unwrap(); // the token 511
    assert_eq!(last["id"], 511);
    directory.write("tokenizer.json", &tokenizer.to_string());
    let original = Model::open(&directory.path).unwrap();
    let converted = converted(&original, I2S);
    let (a, b) = (original.tokenizer().unwrap(), converted.model.tokenizer().unwrap());
    assert_eq!((a.vocabulary_size(), b.vocabulary_size()), (511, 512));
    assert_eq!(b.token_text(511), Some("[PAD511]"));
    assert_eq!(a.encode("a [PAD511] b").unwrap(), b.encode("a [PAD511] b").unwrap());
    assert!(converted.report.changes.iter().any(|change| change.subject == "vocabulary"));

    // Rows that are no tokens are kept in the file, and drawn from neither.
    let bytes = std::fs::read(converted.path()).unwrap();
    let stored = Gguf::parse(bytes.into()).unwrap();
    assert_eq!(stored.tensor("token_embd.weight").unwrap().shape, [256, 512]);
    for model in [&original, &converted.model] {
        assert_eq!(model.config().vocabulary, 511);
        assert_eq!(model.weights(Role::Embedding).unwrap().unwrap().rows(), 511);
        assert!(
            model.decisions().iter().any(|made| made.to_string().starts_with("vocabulary: 511 tokens of 512 rows"))
        );
        let mut session = Session::new(model, &Device::cpu(), &SessionOptions::default()).unwrap();
        let error = session.generate_ids(&[511], &GenerateOptions::greedy()).err().unwrap().to_string();
        assert!(error.contains("outside the vocabulary of 511"), "{error}");
        let all = Sampling { temperature: 100.0, top_k: 0, ..Sampling::greedy() };
        let options =
            GenerateOptions { sampling: all, max_tokens: 100, ignore_end: true, ..GenerateOptions::default() };
        assert!(session.generate_ids(&[1], &options).unwrap().all(|id| id.unwrap() < 511));
    }
}

#[test]
fn without_verification_the_file_is_the_same() {
    let model = shipped();
    let options = ConvertOptions { verify: false, ..ConvertOptions::new(Q2_0) };
    let unverified = try_to_convert(&model, &options).unwrap();
    assert!(!unverified.report.is_verified);
    let verified = converted(&model, Q2_0);
    assert!(verified.report.is_verified);
    assert!(std::fs::read(unverified.path()).unwrap() == std::fs::read(verified.path()).unwrap());
}
