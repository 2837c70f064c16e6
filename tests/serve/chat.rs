//! Conversations.

use serde_json::{Value, json};

use crate::server::Server;

/// A template whose turns begin within a thought.
const THINKING: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if add_generation_prompt %}assistant: <think>\n{% endif %}{# </think> #}";

fn turns() -> Value {
    json!([{ "role": "system", "content": "Tell stories." }, { "role": "user", "content": "Of a bird 🐦." }])
}

/// What the chunks of a stream add up to: content, reasoning, finish, the number of logprobs.
fn sum(events: &[Value], choice: usize) -> (String, String, String, usize) {
    let [mut content, mut reasoning, mut finish, mut role]: [String; 4] = Default::default();
    let (mut roles, mut logprobs) = (0, 0);
    for event in events {
        assert_eq!(event["object"], "chat.completion.chunk");
        for part in event["choices"].as_array().unwrap().iter().filter(|part| part["index"] == choice) {
            assert_eq!(finish, "", "nothing comes after the end");
            let delta = &part["delta"];
            if let Some(name) = delta["role"].as_str() {
                (role, roles) = (name.to_owned(), roles + 1);
                assert!(content.is_empty() && delta["content"] == "", "the role comes first, with no text");
            }
            assert_eq!((role.as_str(), roles), ("assistant", 1));
            content += delta["content"].as_str().unwrap_or_default();
            reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
            logprobs += part["logprobs"]["content"].as_array().map_or(0, Vec::len);
            if let Some(reason) = part["finish_reason"].as_str() {
                assert_eq!(*delta, json!({}), "the end adds nothing");
                finish += reason;
            } else {
                assert!(part["finish_reason"].is_null());
            }
        }
    }
    (content, reasoning, finish, logprobs)
}

#[test]
fn a_stream_is_the_whole_answer_in_parts() {
    let server = Server::start(&["--slots", "4"]);
    for mut request in [
        json!({ "messages": turns(), "max_tokens": 50, "temperature": 0 }),
        json!({ "messages": turns(), "max_completion_tokens": 50, "seed": 3, "n": 3, "temperature": 1.7 }),
        json!({ "messages": turns(), "max_tokens": 30, "logprobs": true, "top_logprobs": 4, "temperature": 0 }),
        json!({ "messages": turns(), "max_tokens": 50, "stop": "e", "temperature": 0 }),
    ] {
        let whole = server.post("/v1/chat/completions", &request.to_string()).ok();
        assert_eq!(whole["object"], "chat.completion");
        assert!(whole["id"].as_str().unwrap().strip_prefix("chatcmpl-").is_some_and(|id| id.len() == 32));
        request["stream"] = true.into();
        request["stream_options"] = json!({ "include_usage": true });
        let events = server.post("/v1/chat/completions", &request.to_string()).events();
        let (usage, chunks) = events.split_last().unwrap();
        for choice in whole["choices"].as_array().unwrap() {
            let number = choice["index"].as_u64().unwrap() as usize;
            let (content, reasoning, finish, logprobs) = sum(chunks, number);
            assert_eq!((choice["message"]["content"].as_str().unwrap(), ""), (content.as_str(), reasoning.as_str()));
            assert_eq!(choice["finish_reason"], finish);
            assert_eq!(choice["logprobs"]["content"].as_array().map_or(0, Vec::len), logprobs);
            for name in ["refusal", "content", "role"] {
                assert!(choice["message"].get(name).is_some(), "{name} is always there");
            }
            assert!(choice.get("logprobs").is_some());
        }
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(whole["usage"][name], usage["usage"][name]);
        }
    }
}

#[test]
fn logprobs_tell_true_bytes_and_the_most_likely_first() {
    let server = Server::start(&[]);
    let request =
        json!({ "messages": turns(), "max_tokens": 30, "logprobs": true, "top_logprobs": 5, "temperature": 0 });
    let answer = server.post("/v1/chat/completions", &request.to_string()).ok();
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len() as u64, answer["usage"]["completion_tokens"].as_u64().unwrap());
    let mut bytes = Vec::new();
    for token in &tokens {
        bytes.extend(token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8));
        let best = token["top_logprobs"].as_array().unwrap();
        assert_eq!(best.len(), 5);
        assert_eq!((&best[0]["token"], &best[0]["logprob"]), (&token["token"], &token["logprob"]), "greedy");
        let logprobs: Vec<_> = best.iter().map(|token| token["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] <= 0.0, "{logprobs:?}");
        assert!(logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>() <= 1.0 + 1e-4);
    }
    assert_eq!(String::from_utf8(bytes).unwrap(), answer["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn thoughts_are_told_apart_and_end_when_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("thinking.jinja");
    std::fs::write(&template, THINKING).unwrap();
    let template = template.to_str().unwrap();
    let server = Server::start(&["--chat-template", template]);
    let ask = |more: Value| {
        let mut request = json!({ "messages": turns(), "max_tokens": 40, "temperature": 0, "ignore_eos": true });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let whole = server.post("/v1/chat/completions", &request.to_string()).ok();
        request["stream"] = true.into();
        let (content, reasoning, finish, _) =
            sum(&server.post("/v1/chat/completions", &request.to_string()).events(), 0);
        let message = &whole["choices"][0]["message"];
        assert_eq!(message["content"], content);
        assert_eq!(message["reasoning_content"].as_str().unwrap_or_default(), reasoning);
        assert_eq!(whole["choices"][0]["finish_reason"], finish);
        (reasoning, content, whole["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap(), finish)
    };
    let (reasoning, content, tokens, finish) = ask(json!({}));
    assert!(!reasoning.is_empty() && content.is_empty(), "a thought without an end is all thought");
    assert_eq!((tokens, finish.as_str()), (40, "length"));
    let (short, content, tokens, _) = ask(json!({ "thinking_budget": 10 }));
    assert!(reasoning.starts_with(&short) && !content.is_empty(), "{short:?} {content:?}");
    // The tokens that end it count too, as long as it has not ended.
    assert!((10..25).contains(&tokens), "{tokens}");
    for off in
        [json!({ "thinking_budget": 0 }), json!({ "reasoning_effort": "none" }), json!({ "enable_thinking": false })]
    {
        let (reasoning, content, ..) = ask(off.clone());
        assert!(reasoning.is_empty() && !content.is_empty(), "{off}: {reasoning:?}");
    }
    // Under other names.
    for (name, fields) in
        [("reasoning", &["reasoning"][..]), ("both", &["reasoning", "reasoning_content"]), ("none", &[])]
    {
        let server = Server::start(&["--chat-template", template, "--reasoning-field", name]);
        let request = json!({ "messages": turns(), "max_tokens": 5, "temperature": 0, "ignore_eos": true });
        let answer = server.post("/v1/chat/completions", &request.to_string()).ok();
        let message = answer["choices"][0]["message"].as_object().unwrap();
        let mut found: Vec<_> = message.keys().filter(|key| key.starts_with("reasoning")).collect();
        found.sort();
        assert_eq!(found, fields, "{name}");
    }
}

#[test]
fn the_second_turn_computes_what_is_new() {
    let server = Server::start(&["--slots", "3"]);
    let mut turns = json!([{ "role": "user", "content": "Tell me of the sea and the birds over it." }]);
    let first = server
        .post("/v1/chat/completions", &json!({ "messages": turns, "max_tokens": 20, "temperature": 0 }).to_string());
    let first = first.ok();
    let turns = turns.as_array_mut().unwrap();
    turns.push(first["choices"][0]["message"].clone());
    turns.push(json!({ "role": "user", "content": "And then?" }));
    let second = server.post("/v1/chat/completions", &json!({ "messages": turns, "max_tokens": 5 }).to_string()).ok();
    let (prompt, cached) =
        (&first["usage"]["prompt_tokens"], &second["usage"]["prompt_tokens_details"]["cached_tokens"]);
    assert!(cached.as_u64() >= prompt.as_u64(), "{cached} of the {prompt} tokens of the first turn");
}

#[test]
fn what_a_template_says_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("strict.jinja");
    let source = "{% if messages|length > 1 %}{{ raise_exception('one turn alone, please') }}{% endif %}{{ messages[0].content }}";
    std::fs::write(&template, source).unwrap();
    let server = Server::start(&["--chat-template", template.to_str().unwrap()]);
    let refused = server.post("/v1/chat/completions", &json!({ "messages": turns() }).to_string());
    assert_eq!((refused.error().0, refused.error().2), (400, Some("messages".into())));
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("one turn alone, please"));
    let one = json!({ "messages": [{ "role": "user", "content": "a" }], "max_tokens": 3 });
    server.post("/v1/chat/completions", &one.to_string()).ok();
    assert_eq!(server.get("/props").ok()["chat_template"], source);
}
