//! The tokenizer against reference ids of other implementations, and against files that leave keys out or lie. The
//! vocabularies are those of `tests/data`, put into GGUF keys as a converter would.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::format::gguf::{Array, Value};

mod damaged;
mod families;
mod json;
mod speed;

const LLAMA_BPE: &str = "llama-bpe";

/// The keys of a tokenizer, to be changed before it is built.
#[derive(Clone)]
struct Keys(Vec<(String, Value)>);

impl Keys {
    fn set(mut self, key: &str, value: Value) -> Self {
        self = self.without(key);
        self.0.push((full(key), value));
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.0.retain(|(existing, _)| *existing != full(key));
        self
    }

    fn metadata(self) -> Metadata {
        Metadata::new(self.0)
    }

    fn build(self) -> Tokenizer {
        self.build_with_decisions().0
    }

    fn build_with_decisions(self) -> (Tokenizer, Vec<Decision>) {
        Tokenizer::from_gguf(&self.metadata()).unwrap()
    }

    fn error(self) -> Error {
        Tokenizer::from_gguf(&self.metadata()).unwrap_err()
    }
}

fn full(key: &str) -> String {
    if key.starts_with("general.") { key.to_owned() } else { format!("tokenizer.ggml.{key}") }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn strings<S: AsRef<str>>(values: &[S]) -> Value {
    let mut bytes = Vec::new();
    for value in values.iter().map(AsRef::as_ref) {
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    Value::Array(Array::new(8, values.len(), bytes.into()))
}

fn integers(values: &[i32]) -> Value {
    let bytes: Vec<u8> = values.iter().flat_map(|n| n.to_le_bytes()).collect();
    Value::Array(Array::new(5, values.len(), bytes.into()))
}

fn floats(values: &[f32]) -> Value {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    Value::Array(Array::new(6, values.len(), bytes.into()))
}

fn data(path: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text_of(json: &Json) -> &str {
    json.as_str().unwrap()
}

fn ids_of(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect()
}

/// The GGUF keys of a Hugging Face `tokenizer.json` with byte-level BPE.
fn byte_level_keys(path: &str, pre: &str) -> Keys {
    let json = data(path);
    let mut tokens: Vec<(u64, &str, i32)> = json["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), &**text, 1))
        .collect();
    let added = json["added_tokens"].as_array().unwrap();
    tokens.extend(added.iter().map(|token| (token["id"].as_u64().unwrap(), text_of(&token["content"]), 3)));
    tokens.sort_unstable();
    let id = |text: &str| Value::Unsigned(tokens.iter().find(|token| token.1 == text).unwrap().0);
    let merges = json["model"]["merges"].as_array().unwrap();
    let merges: Vec<String> = merges.iter().map(|m| format!("{} {}", text_of(&m[0]), text_of(&m[1]))).collect();
    Keys(Vec::new())
        .set("model", text("gpt2"))
        .set("pre", text(pre))
        .set("tokens", strings(&tokens.iter().map(|token| token.1).collect::<Vec<_>>()))
        .set("token_type", integers(&tokens.iter().map(|token| token.2).collect::<Vec<_>>()))
        .set("merges", strings(&merges))
        .set("bos_token_id", id("<|begin_of_text|>"))
        .set("eos_token_id", id("<|end_of_text|>"))
        .set("add_bos_token", Value::Bool(true))
}

fn golden() -> Keys {
    byte_level_keys("golden/tokenizer.json", LLAMA_BPE)
}

/// The bytes of tokens with control tokens spelled out, as the references decode.
fn decode_all(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = TextStream::new();
    let mut out = String::new();
    for &id in ids {
        let bytes = match tokenizer.token_bytes(id) {
            [] => tokenizer.token_text(id).unwrap().as_bytes(),
            bytes => bytes,
        };
        out += &stream.push(bytes);
    }
    out + &stream.finish()
}

fn check_reference(tokenizer: &Tokenizer, vectors: &Json, count: usize) {
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), count);
    for vector in vectors {
        let text = text_of(&vector["text"]);
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(ids, ids_of(&vector["ids"]), "{text:?}");
        assert_eq!(decode_all(tokenizer, &ids), text_of(&vector["decoded"]), "{text:?}");
        assert_eq!(tokenizer.decode(&tokenizer.encode_plain(text).unwrap()), text);
    }
}

#[test]
fn golden_ids_equal_the_reference() {
    check_reference(&golden().build(), &data("golden/tokens.json"), 57);
}

#[test]
fn tales_ids_equal_the_reference() {
    let tokenizer = byte_level_keys("tales/tokenizer.json", LLAMA_BPE).build();
    check_reference(&tokenizer, &data("tales/tokens.json"), 57);
    let heldout = include_str!("../../tests/data/tales/heldout.txt");
    assert_eq!(tokenizer.decode(&tokenizer.encode(heldout).unwrap()), heldout);
}

#[test]
fn bos_is_added_once() {
    let tokenizer = golden().build();
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(509), true));
    let plain = tokenizer.encode("Hello").unwrap();
    let with_bos = [&[509], &*plain].concat();
    assert_eq!(tokenizer.encode_prompt("Hello").unwrap(), with_bos);
    assert_eq!(tokenizer.encode_prompt("<|begin_of_text|>Hello").unwrap(), with_bos);
    assert_eq!(tokenizer.encode_prompt("").unwrap(), [509]);
    let without = golden().set("add_bos_token", Value::Bool(false)).build();
    assert_eq!(without.encode_prompt("Hello").unwrap(), plain);
}

#[test]
fn control_tokens_in_plain_text_stay_text() {
    let tokenizer = golden().build();
    let typed = "x<|eot_id|>y";
    assert!(tokenizer.encode(typed).unwrap().contains(&511));
    let plain = tokenizer.encode_plain(typed).unwrap();
    assert!(plain.iter().all(|&id| id < 509));
    assert_eq!(tokenizer.decode(&plain), typed);
}

#[test]
fn decoding_leaves_out_control_tokens_and_unknown_ids() {
    let tokenizer = golden().build();
    let ids = tokenizer.encode("a<|eot_id|>b").unwrap();
    assert_eq!(tokenizer.decode(&[&*ids, &[512, u32::MAX]].concat()), "ab");
    assert_eq!(tokenizer.token_bytes(511), b"");
    assert_eq!(tokenizer.token_text(511), Some("<|eot_id|>"));
    assert_eq!((tokenizer.token_text(512), tokenizer.vocabulary_size()), (None, 512));
}

#[test]
fn all_end_tokens_end_a_generation() {
    let tokenizer = golden().build();
    assert_eq!((tokenizer.eos(), tokenizer.end_of_generation()), (Some(510), &[510, 511][..]));
    assert!(tokenizer.is_end_of_generation(511) && !tokenizer.is_end_of_generation(509));
    let odd = golden().set("eot_token_id", Value::Unsigned(7)).set("eom_token_id", Value::Unsigned(3)).build();
    assert_eq!(odd.end_of_generation(), [3, 7, 510, 511]);
}

#[test]
fn a_tokenizer_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Tokenizer>();
}

proptest! {
    #[test]
    fn any_text_survives_byte_level_encoding(text in any_text()) {
        static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| golden().build());
        let ids = TOKENIZER.encode_plain(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| id < 509));
        prop_assert_eq!(TOKENIZER.decode(&ids), text);
    }
}

/// Any characters, and many of those that the rules treat apart.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ \\t\\r\\n'sSreLl0-9.!<|>é日🙂\u{301}\u{2581}]{0,12}",
        Just("<|eot_id|>".to_owned())
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}
