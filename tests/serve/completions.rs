//! Texts that go on as they began.

use serde_json::{Value, json};

use crate::server::Server;

/// The text of each choice of a stream, with what else its chunks say of it.
struct Streamed {
    text: String,
    finish: String,
    logprobs: Vec<Value>,
}

fn streamed(events: &[Value], choices: usize) -> Vec<Streamed> {
    let mut all: Vec<_> =
        (0..choices).map(|_| Streamed { text: String::new(), finish: String::new(), logprobs: Vec::new() }).collect();
    for event in events {
        for choice in event["choices"].as_array().unwrap() {
            let streamed = &mut all[choice["index"].as_u64().unwrap() as usize];
            assert_eq!(streamed.finish, "", "nothing comes after the end: {choice}");
            streamed.text += choice["text"].as_str().unwrap();
            streamed.finish += choice["finish_reason"].as_str().unwrap_or_default();
            streamed.logprobs.extend(choice["logprobs"]["token_logprobs"].as_array().into_iter().flatten().cloned());
        }
    }
    all
}

#[test]
fn a_stream_is_the_whole_answer_in_parts() {
    let server = Server::start(&["--slots", "4"]);
    for mut request in [
        json!({ "prompt": "Once upon a time", "max_tokens": 60, "temperature": 0 }),
        json!({ "prompt": "Once upon a time", "max_tokens": 60, "seed": 5, "n": 3 }),
        json!({ "prompt": ["The cat", "The dog", "🙂🙃 and é"], "max_tokens": 40, "seed": -7, "temperature": 1.5 }),
        json!({ "prompt": [[1, 2, 3], [4, 5]], "max_tokens": 20, "n": 2, "seed": 9, "logprobs": 3, "echo": true }),
        json!({ "prompt": "Once", "max_tokens": 80, "stop": ["e", " the"], "temperature": 0 }),
        json!({ "prompt": "Once", "max_tokens": 0, "echo": true, "logprobs": 1 }),
    ] {
        let whole = server.post("/v1/completions", &request.to_string()).ok();
        request["stream"] = true.into();
        request["stream_options"] = json!({ "include_usage": true });
        let events = server.post("/completions/", &request.to_string()).events();
        let (usage, chunks) = events.split_last().unwrap();
        let choices = whole["choices"].as_array().unwrap();
        for (choice, streamed) in choices.iter().zip(streamed(chunks, choices.len())) {
            assert_eq!(choice["text"], streamed.text, "{request}");
            assert_eq!(choice["finish_reason"], streamed.finish, "{request}");
            let logprobs = choice["logprobs"]["token_logprobs"].as_array().cloned().unwrap_or_default();
            let same = logprobs.iter().zip(&streamed.logprobs).all(|(a, b)| match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-4,
                (a, b) => a == b,
            });
            assert!(same && logprobs.len() == streamed.logprobs.len(), "{logprobs:?} {:?}", streamed.logprobs);
        }
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(whole["usage"][name], usage["usage"][name], "{name} of {request}");
        }
        assert_eq!(usage["choices"], json!([]));
        for chunk in chunks {
            assert!(chunk.get("usage").is_some_and(Value::is_null), "{chunk}");
            for name in ["id", "created", "model", "object", "system_fingerprint"] {
                assert_eq!(chunk[name], events[0][name], "every chunk has the same {name}");
            }
        }
    }
    server.wait_idle();
}

#[test]
fn without_being_asked_a_stream_tells_no_usage() {
    let server = Server::start(&[]);
    let request = json!({ "prompt": "Once", "max_tokens": 5, "stream": true });
    let events = server.post("/v1/completions", &request.to_string()).events();
    assert!(events.iter().all(|event| event.get("usage").is_none()), "{events:?}");
    let request = json!({ "prompt": "Once", "max_tokens": 5, "stream": true, "stream_options": { "continuous_usage_stats": true } });
    let events = server.post("/v1/completions", &request.to_string()).events();
    let made: Vec<_> = events.iter().map(|event| event["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert!(made.is_sorted() && made.last() == Some(&5), "{made:?}");
    // Without a stream it means nothing.
    let request = json!({ "prompt": "Once", "max_tokens": 5, "stream_options": { "include_usage": true } });
    assert_eq!(server.post("/v1/completions", &request.to_string()).ok()["usage"]["completion_tokens"], 5);
}

#[test]
fn a_prompt_that_is_echoed_is_scored_as_it_was_made() {
    let server = Server::start(&["--slots", "2", "--chunk", "7"]);
    let request = json!({ "prompt": "Once upon a time", "max_tokens": 30, "temperature": 0, "logprobs": 2 });
    let made = server.post("/v1/completions", &request.to_string()).ok();
    let made = &made["choices"][0];
    let text = format!("Once upon a time{}", made["text"].as_str().unwrap());
    let request = json!({ "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 2 });
    let scored = server.post("/v1/completions", &request.to_string()).ok();
    let scored = &scored["choices"][0];
    assert_eq!(scored["text"], text);
    let list = |choice: &Value, name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let (tokens, all) = (list(made, "tokens"), list(scored, "tokens"));
    assert_eq!(all[all.len() - tokens.len()..], tokens, "the text is cut into the same tokens");
    assert!(list(scored, "token_logprobs")[0].is_null() && list(scored, "top_logprobs")[0].is_null());
    let (wanted, found) = (list(made, "token_logprobs"), list(scored, "token_logprobs"));
    let found = &found[found.len() - wanted.len()..];
    for (wanted, found) in wanted.iter().zip(found) {
        let (wanted, found) = (wanted.as_f64().unwrap(), found.as_f64().unwrap());
        assert!((wanted - found).abs() < 1e-4, "{wanted} when it was made, {found} when it was read");
        assert!(found <= 0.0);
    }
    let (offsets, spelled) = (list(scored, "text_offset"), list(scored, "tokens"));
    for (place, offset) in offsets.iter().enumerate().skip(1) {
        let rest: String = text.chars().skip(offset.as_u64().unwrap() as usize).collect();
        assert!(rest.starts_with(spelled[place].as_str().unwrap()), "token {place} is at {offset}");
    }
    // Greedy tokens are the first of the most likely ones.
    let best = list(scored, "top_logprobs")[8].as_object().unwrap().clone();
    assert_eq!((best.len(), best.keys().next().map(String::as_str)), (2, all[8].as_str()));
}

#[test]
fn each_answer_has_the_seed_of_its_number() {
    let server = Server::start(&["--slots", "4"]);
    let ask = |request: Value| server.post("/v1/completions", &request.to_string()).ok();
    let long = "Once upon a time there was a little bird. ".repeat(6);
    let three = ask(json!({ "prompt": long, "max_tokens": 20, "n": 3, "seed": 40 }));
    for number in 0..3 {
        let one = ask(json!({ "prompt": long, "max_tokens": 20, "seed": 40 + number }));
        assert_eq!(one["choices"][0]["text"], three["choices"][number]["text"]);
        assert_eq!(one["usage"]["prompt_tokens"], three["usage"]["prompt_tokens"], "one prompt is counted once");
    }
    assert_eq!(three["x_sterna"]["seed"], 40);
    let random = ask(json!({ "prompt": "Once", "max_tokens": 20 }));
    let again = ask(json!({ "prompt": "Once", "max_tokens": 20, "seed": random["x_sterna"]["seed"] }));
    assert_eq!(random["choices"], again["choices"], "a seed that was told repeats the answer");
}

#[test]
fn what_ends_a_text_is_told() {
    let server = Server::start(&[]);
    let ask = |request: Value| server.post("/v1/completions", &request.to_string()).ok()["choices"][0].clone();
    let free = ask(json!({ "prompt": "Once", "max_tokens": 40, "temperature": 0, "ignore_eos": true }));
    let text = free["text"].as_str().unwrap();
    assert_eq!((&free["finish_reason"], &free["stop_reason"]), (&json!("length"), &Value::Null));
    let stop: String = text.chars().skip(20).take(5).collect();
    let ended = ask(json!({ "prompt": "Once", "max_tokens": 40, "temperature": 0, "stop": [stop, "§"] }));
    assert_eq!((&ended["finish_reason"], &ended["stop_reason"]), (&json!("stop"), &json!(stop)));
    assert_eq!(ended["text"].as_str(), text.split(&stop).next());
    let tokens = server.post("/tokenize", &json!({ "content": text }).to_string()).ok()["tokens"].clone();
    let id = &tokens[6];
    let ended = ask(json!({ "prompt": "Once", "max_tokens": 40, "temperature": 0, "stop_token_ids": [id] }));
    assert_eq!((&ended["finish_reason"], &ended["stop_reason"]), (&json!("stop"), id));
    // Not before so many were made.
    let later =
        ask(json!({ "prompt": "Once", "max_tokens": 12, "temperature": 0, "stop_token_ids": [id], "min_tokens": 12 }));
    assert_eq!(later["finish_reason"], "length");
}

#[test]
fn a_bias_bans_and_commands_tokens() {
    let server = Server::start(&[]);
    let ask = |bias: Value| {
        let request = json!({ "prompt": "Once", "max_tokens": 8, "temperature": 0, "logit_bias": bias, "logprobs": 0 });
        server.post("/v1/completions", &request.to_string()).ok()["choices"][0].clone()
    };
    let free = ask(json!({}));
    let first = server.post("/tokenize", &json!({ "content": free["logprobs"]["tokens"][0] }).to_string()).ok();
    let id = first["tokens"][0].as_u64().unwrap().to_string();
    let banned = ask(json!({ id.as_str(): -100 }));
    assert!(!banned["logprobs"]["tokens"].as_array().unwrap().contains(&free["logprobs"]["tokens"][0]));
    let commanded = ask(json!({ "300": 100.0 }));
    let tokens = commanded["logprobs"]["tokens"].as_array().unwrap();
    assert!(tokens.iter().all(|token| *token == tokens[0]) && tokens.len() == 8, "{tokens:?}");
}

#[test]
fn a_context_exactly_full_gives_one_token() {
    let server = Server::start(&["--context", "40"]);
    let ids: Vec<u32> = (10..50).collect();
    let answer = server.post("/v1/completions", &json!({ "prompt": ids, "max_tokens": 9 }).to_string()).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    let more: Vec<u32> = (10..51).collect();
    let refused = server.post("/v1/completions", &json!({ "prompt": more, "max_tokens": 9 }).to_string());
    assert_eq!(refused.error(), (400, Some("context_length_exceeded".into()), Some("prompt".into())));
    let error = &refused.json()["error"];
    assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(41), &json!(40)));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with(
        "This model's maximum context length is 40 tokens. However, your messages resulted in 41 tokens."
    ));
    assert!(message.contains("--context"), "{message}");
}

#[test]
fn what_asks_not_to_be_cached_leaves_nothing() {
    let server = Server::start(&["--slots", "2"]);
    let ids: Vec<u32> = (10..110).collect();
    let cached = |cache: bool| {
        let request = json!({ "prompt": ids, "max_tokens": 3, "cache_prompt": cache, "temperature": 0 });
        let answer = server.post("/v1/completions", &request.to_string()).ok();
        (answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(), answer["choices"].clone())
    };
    let (first, text) = cached(false);
    let (second, again) = cached(true);
    assert_eq!((first, second), (0, 0), "the first left nothing");
    assert_eq!(text, again);
    assert_eq!(cached(false).0, 0, "and takes nothing");
    let (found, same) = cached(true);
    assert_eq!((found, same), (99, text), "all but the last id, and the same text");
}
