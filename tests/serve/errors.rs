//! What is refused, and how: status, code and field are what clients act on.

use serde_json::json;

use crate::server::Server;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[test]
fn what_is_wrong_is_told_by_status_code_and_field() {
    let server = Server::start(&["--slots", "2", "--alias", "gpt-4o,small"]);
    let of = |more: &str| format!(r#"{{"messages":[{{"role":"user","content":"a"}}],"max_tokens":1{more}}}"#);
    let text = |more: &str| format!(r#"{{"prompt":"a","max_tokens":1{more}}}"#);
    let unsupported = Some("unsupported_parameter");
    let cases = [
        // No JSON of the right kind.
        (CHAT, "".into(), Some("invalid_json"), None),
        (CHAT, "{".into(), Some("invalid_json"), None),
        (CHAT, "[]".into(), Some("invalid_json"), None),
        (CHAT, r#"{"messages": [1,]}"#.into(), Some("invalid_json"), None),
        // Fields that are missing or wrong.
        (CHAT, "{}".into(), None, Some("messages")),
        (CHAT, r#"{"messages":[]}"#.into(), None, Some("messages")),
        (CHAT, r#"{"messages":null}"#.into(), None, Some("messages")),
        (CHAT, r#"{"messages":"a"}"#.into(), None, Some("messages")),
        (CHAT, r#"{"messages":[{"role":"wizard","content":"a"}]}"#.into(), None, Some("messages[0].role")),
        (CHAT, r#"{"messages":[{"role":"user","content":3}]}"#.into(), None, Some("messages[0]")),
        (
            CHAT,
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]}"#.into(),
            Some("unsupported_content_type"),
            Some("messages[0].content"),
        ),
        (CHAT, of(r#","temperature":"0.5""#), None, Some("temperature")),
        (CHAT, of(r#","temperature":-1"#), None, Some("temperature")),
        (CHAT, of(r#","top_p":0"#), None, Some("top_p")),
        (CHAT, of(r#","top_p":1.1"#), None, Some("top_p")),
        (CHAT, of(r#","n":0"#), None, Some("n")),
        (CHAT, of(r#","n":3"#), None, Some("n")),
        (CHAT, of(r#","n":1.5"#), None, Some("n")),
        (CHAT, of(r#","presence_penalty":3"#), None, Some("presence_penalty")),
        (CHAT, of(r#","frequency_penalty":-2.1"#), None, Some("frequency_penalty")),
        (CHAT, of(r#","logit_bias":{"x":1}"#), None, Some("logit_bias")),
        (CHAT, of(r#","logit_bias":{"99999":1}"#), None, Some("logit_bias")),
        (CHAT, of(r#","logit_bias":{"5":101}"#), None, Some("logit_bias")),
        (CHAT, of(r#","stop":[1]"#), None, Some("stop")),
        (CHAT, of(r#","stop":7"#), None, Some("stop")),
        (CHAT, of(r#","stream":"yes""#), None, Some("stream")),
        (CHAT, of(r#","seed":"x""#), None, Some("seed")),
        (CHAT, of(r#","logprobs":2"#), None, Some("logprobs")),
        (CHAT, of(r#","top_logprobs":2"#), None, Some("top_logprobs")),
        (CHAT, of(r#","logprobs":true,"top_logprobs":21"#), None, Some("top_logprobs")),
        (CHAT, of(r#","max_completion_tokens":0"#), None, Some("max_tokens")),
        (CHAT, of(r#","reasoning_effort":"extreme""#), None, Some("reasoning_effort")),
        (CHAT, of(r#","chat_template_kwargs":{"a":[1]}"#), None, Some("chat_template_kwargs")),
        (CHAT, of(r#","continue_final_message":true"#), None, Some("messages")),
        (CHAT, of(r#","tools":[{"type":"function","function":{"name":"f"}}]"#), None, Some("tools")),
        (CHAT, of(r#","tools":[{"type":"retrieval"}]"#), None, Some("tools[0]")),
        (TEXT, "{}".into(), None, Some("prompt")),
        (TEXT, r#"{"prompt":[]}"#.into(), None, Some("prompt")),
        (TEXT, r#"{"prompt":{"a":1}}"#.into(), None, Some("prompt")),
        (TEXT, r#"{"prompt":[1,"a"]}"#.into(), None, Some("prompt")),
        (TEXT, r#"{"prompt":[1,99999]}"#.into(), None, Some("prompt")),
        (TEXT, r#"{"prompt":"a","max_tokens":0}"#.into(), None, Some("max_tokens")),
        (TEXT, text(r#","logprobs":6"#), None, Some("logprobs")),
        (TEXT, text(r#","stop_token_ids":[-1]"#), None, Some("stop_token_ids")),
        // Known, and not to be had here.
        (CHAT, of(r#","functions":[{"name":"f"}]"#), unsupported, Some("functions")),
        (CHAT, of(r#","audio":{"voice":"x"}"#), unsupported, Some("audio")),
        (CHAT, of(r#","modalities":["text","audio"]"#), unsupported, Some("modalities")),
        (CHAT, of(r#","prediction":{}"#), unsupported, Some("prediction")),
        (CHAT, of(r#","web_search_options":{}"#), unsupported, Some("web_search_options")),
        (CHAT, of(r#","store":true"#), unsupported, Some("store")),
        (CHAT, of(r#","grammar":"root ::= a""#), unsupported, Some("grammar")),
        (CHAT, of(r#","guided_json":{}"#), unsupported, Some("guided_json")),
        (CHAT, of(r#","chat_template":"x""#), unsupported, Some("chat_template")),
        (CHAT, of(r#","use_beam_search":true"#), unsupported, Some("use_beam_search")),
        (CHAT, of(r#","id_slot":2"#), unsupported, Some("id_slot")),
        (TEXT, text(r#","best_of":2"#), unsupported, Some("best_of")),
        (TEXT, text(r#","suffix":"b""#), unsupported, Some("suffix")),
        (TEXT, text(r#","lora":[{"id":1}]"#), unsupported, Some("lora")),
    ];
    for (path, body, code, param) in cases {
        let answer = server.post(path, &body);
        let wanted = (400, code.map(str::to_owned), param.map(str::to_owned));
        assert_eq!(answer.error(), wanted, "{body}: {}", answer.text());
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    server.wait_idle();
}

#[test]
fn what_asks_for_nothing_is_no_error() {
    let server = Server::start(&["--slots", "2"]);
    for more in [
        r#""no_stop_trim":false,"separate_reasoning":true,"stream_reasoning":true,"return_hidden_states":false"#,
        r#""include_reasoning":true,"logprobs":false,"ignore_eos":false,"continue_final_message":false"#,
        r#""stop":null,"tools":null,"seed":null,"n":null,"temperature":null,"logit_bias":null,"stream":null"#,
        r#""n":1.0,"top_k":-1,"seed":12.0,"logit_bias":{},"stop":[],"stop":"""#,
        r#""response_format":{"type":"text"},"tool_choice":"auto","tools":[],"functions":[],"best_of":1,"store":false"#,
        r#""user":"me","metadata":{"a":"b"},"service_tier":"auto","safety_identifier":"x","verbosity":"low""#,
        r#""modalities":["text"],"audio":null,"id_slot":-1,"cache_prompt":true,"lora":[],"suffix":"","grammar":"""#,
        r#""typical_p":1.0,"length_penalty":1.0,"best_of":1.0,"id_slot":-1.0,"mirostat":0.0"#,
        r#""parallel_tool_calls":true,"prompt_cache_key":"k","reasoning_effort":"low","thinking_budget":-1"#,
        r#""skip_special_tokens":false,"nobody_knows_this":{"deep":[[[1]]]},"min_tokens":1"#,
        r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none""#,
        r#""max_tokens":-1,"max_completion_tokens":1"#,
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a"}}],"max_tokens":1,{more}}}"#);
        let answer = server.post(CHAT, &body).ok();
        assert_eq!(answer["usage"]["completion_tokens"], 1, "{more}");
    }
    // The last one of two holds; parts of text, developers and names are what chats are made of.
    let body = r#"{"temperature":"no","temperature":0,"max_tokens":4,"messages":[{"role":"developer","content":"a","name":"x"},
        {"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},{"role":"assistant","content":null},
        {"role":"tool","tool_call_id":"1","content":"d"}]}"#;
    server.post(CHAT, body).ok();
}

#[test]
fn a_model_is_known_by_all_its_names() {
    let server = Server::start(&["--alias", "gpt-4o,small"]);
    let ask = |name: &str| server.post(TEXT, &json!({ "model": name, "prompt": "a", "max_tokens": 1 }).to_string());
    for name in ["", "tales-4m-i2_s", "gpt-4o", "small"] {
        assert_eq!(ask(name).ok()["model"], "tales-4m-i2_s");
    }
    assert_eq!(ask("gpt-5").error(), (404, Some("model_not_found".into()), Some("model".into())));
    let list = server.get("/v1/models").ok();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((&list["object"], ids), (&json!("list"), vec!["tales-4m-i2_s", "gpt-4o", "small"]));
    for model in list["data"].as_array().unwrap() {
        assert_eq!((&model["object"], &model["owned_by"]), (&json!("model"), &json!("sterna")));
        assert!(model["created"].is_u64() && model["max_model_len"] == 512 && model.get("name").is_none());
    }
    assert_eq!(server.get("/v1/models/small").ok()["id"], "small");
    assert_eq!(server.get("/v1/models/large").error().0, 404);
    let any = Server::start(&["--any-model"]);
    assert_eq!(any.post(TEXT, r#"{"model":"gpt-5","prompt":"a","max_tokens":1}"#).status, 200);
}
