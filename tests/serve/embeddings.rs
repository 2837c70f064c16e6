//! Vectors of texts.

use serde_json::{Value, json};

use crate::server::Server;

const MODEL: &str = "tests/data/golden/embedding-qwen3/i2_s.gguf";
const PATH: &str = "/v1/embeddings";

fn vector(entry: &Value) -> Vec<f32> {
    entry["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// What base64 stands for, by its definition.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other}"),
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(digit).collect();
    assert_eq!(text.len() % 4, 0);
    let bits = digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1));
    bits.collect::<Vec<_>>().chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

#[test]
fn texts_become_vectors_in_both_forms() {
    let server = Server::start(&["--model", MODEL, "--slots", "2"]);
    let ask = |body: Value| server.post(PATH, &body.to_string()).ok();
    let texts: Vec<String> =
        (0..7).map(|number| format!("a tern at sea, number {number}").repeat(number + 1)).collect();
    let all = ask(json!({ "input": texts }));
    let data = all["data"].as_array().unwrap();
    assert_eq!((data.len(), &all["object"], &all["model"]), (7, &json!("list"), &json!("i2_s")));
    for (index, (entry, text)) in data.iter().zip(&texts).enumerate() {
        assert_eq!((&entry["index"], &entry["object"]), (&json!(index), &json!("embedding")));
        let found = vector(entry);
        let length: f32 = found.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-4);
        let alone = ask(json!({ "input": text, "encoding_format": "base64", "dimensions": found.len() }));
        let bytes = decoded(alone["data"][0]["embedding"].as_str().unwrap());
        let numbers: Vec<_> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers, found, "text {index}, bit for bit");
        assert_eq!(alone["usage"]["prompt_tokens"], alone["usage"]["total_tokens"]);
    }
    // A text by its ids, ended as the model wants it.
    let ids = ask(json!({ "input": [[5, 6, 7], [8]] }));
    assert_eq!((ids["data"].as_array().unwrap().len(), &ids["usage"]["total_tokens"]), (2, &json!(4)));
    server.wait_idle();
}

#[test]
fn what_a_model_is_not_for_is_refused() {
    let server = Server::start(&["--model", MODEL]);
    let refused = |path: &str, body: Value| server.post(path, &body.to_string()).error();
    let model = || Some("model".to_owned());
    let turns = json!([{ "role": "user", "content": "a" }]);
    assert_eq!(refused("/v1/chat/completions", json!({ "messages": turns })), (400, None, model()));
    assert_eq!(refused("/v1/completions", json!({ "prompt": "a" })), (400, None, model()));
    assert_eq!(refused(PATH, json!({})), (400, None, Some("input".into())));
    assert_eq!(
        refused(PATH, json!({ "input": "a", "encoding_format": "int8" })),
        (400, None, Some("encoding_format".into()))
    );
    let wanted = (400, Some("unsupported_parameter".into()), Some("dimensions".into()));
    assert_eq!(refused(PATH, json!({ "input": "a", "dimensions": 3 })), wanted);
    let long = json!({ "input": "a tern at sea ".repeat(20_000) });
    let wanted = (400, Some("context_length_exceeded".into()), Some("input".into()));
    assert_eq!(refused(PATH, long), wanted);
    let other = Server::start(&[]);
    for format in ["float", "base64"] {
        let body = json!({ "input": "a", "encoding_format": format });
        assert_eq!(other.post(PATH, &body.to_string()).error(), (400, None, model()));
    }
}
