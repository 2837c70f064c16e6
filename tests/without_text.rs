//! A build without the feature `text`: every model opens and runs, ids become text and end where they should, and whoever
//! brings text for a vocabulary with merges is told which feature is missing.
//! Run with `cargo test --no-default-features --test without_text`.
#![cfg(not(feature = "text"))]

#[expect(dead_code, reason = "only some of the changes are made here")]
#[path = "common/gguf_edit.rs"]
mod edit;
#[expect(dead_code, reason = "where the fields lie is of no interest here")]
#[path = "common/gguf_fields.rs"]
mod gguf_fields;
#[expect(dead_code, reason = "files are changed here, not made from nothing")]
#[path = "common/gguf_writer.rs"]
mod gguf_writer;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use gguf_writer::{array, string};
use sterna::convert::{ConvertOptions, convert};
use sterna::format::encodings::Encoding;
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::Model;
use sterna::reference::Reference;
use sterna::{Device, Error};

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shipped() -> Model {
    Model::open(path("models/tales-4m-i2_s.gguf")).unwrap()
}

#[track_caller]
fn names_the_feature(error: &Error) {
    assert!(matches!(error, Error::Unsupported(text) if text.contains("the feature `text`")), "{error}");
}

#[test]
fn ids_become_the_ids_and_the_text_of_the_reference() {
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path("tests/data/tales/golden.json")).unwrap()).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let model = shipped();
    let mut session = Session::with_backend(&model, Reference::default(), &SessionOptions::default()).unwrap();
    for prompt in golden["prompts"].as_array().unwrap() {
        let safe = prompt["safe_tokens"].as_u64().unwrap() as usize;
        let options = GenerateOptions { max_tokens: safe, ..GenerateOptions::greedy() };
        let input = ids(&prompt["input_ids"]);
        let made: Vec<u32> = session.generate_ids(&input, &options).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(made, ids(&prompt["greedy"])[..safe]);
        let text = model.tokenizer().unwrap().decode(&made);
        assert!(!text.is_empty() && prompt["text"].as_str().unwrap().starts_with(&text), "{text:?}");
    }
}

#[test]
fn text_for_a_vocabulary_with_merges_is_refused_with_the_name_of_the_feature() {
    let model = shipped();
    assert!(model.decisions().iter().any(|d| d.subject == "text" && d.reason.contains("the feature `text`")));
    let tokenizer = model.tokenizer().unwrap();
    for error in [tokenizer.encode("Once"), tokenizer.encode_plain("Once"), tokenizer.encode_prompt("déjà vu")] {
        names_the_feature(&error.unwrap_err());
    }
    let mut session = Session::new(&model, &Device::cpu(), &SessionOptions::default()).unwrap();
    names_the_feature(&session.generate("Once", &GenerateOptions::greedy()).map(|_| ()).unwrap_err());
}

#[test]
fn a_generation_ends_at_the_end_tokens_of_the_model() {
    let prompt = [1, 7, 300];
    let made = |model: &Model| -> Vec<u32> {
        let mut session = Session::with_backend(model, Reference::default(), &SessionOptions::default()).unwrap();
        let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::greedy() };
        session.generate_ids(&prompt, &options).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let mut file = edit::parts("llama-256/tq2_0.gguf");
    let original = made(&Model::from_bytes(file.bytes()).unwrap());
    assert_eq!(original.len(), 3);
    file.set_u32("tokenizer.ggml.eos_token_id", original[0]);
    assert!(made(&Model::from_bytes(file.bytes()).unwrap()).is_empty());
}

#[test]
fn a_vocabulary_with_scores_needs_no_feature() {
    let mut file = edit::parts("llama-256/tq2_0.gguf");
    for key in ["merges", "pre", "token_type", "bos_token_id", "eos_token_id", "padding_token_id", "add_bos_token"] {
        file.unset(&format!("tokenizer.ggml.{key}"));
    }
    let tokens: Vec<u8> = ["<unk>", "<s>", "</s>", "▁", "a"].iter().flat_map(string).collect();
    file.set_text("tokenizer.ggml.model", "llama");
    file.set("tokenizer.ggml.tokens", 9, array(8, 5, tokens)).set("tokenizer.ggml.scores", 9, array(6, 5, [0; 20]));
    let model = Model::from_bytes(file.bytes()).unwrap();
    assert_eq!(model.tokenizer().unwrap().encode("a日本a").unwrap(), [3, 4, 0, 4]);
    assert!(model.decisions().iter().all(|d| d.subject != "text"));
}

/// Because it could not tell whether texts keep their ids.
#[test]
fn a_conversion_that_cannot_compare_ids_is_refused() {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-text.gguf");
    let options = ConvertOptions::new(Encoding::I2S);
    let error = convert(&shipped(), &output, &options, &mut |_| ControlFlow::Continue(())).unwrap_err();
    names_the_feature(&error);
    assert!(!output.exists());
}
