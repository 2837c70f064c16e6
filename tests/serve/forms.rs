//! Answers of a form: JSON of a schema, calls of tools. The shipped model knows neither; what it makes is held to them.

use serde_json::{Value, json};

use crate::server::Server;

const CHAT: &str = "/v1/chat/completions";
/// Templates that have tools called, each in its own way; the last one begins within a thought.
const TEMPLATES: [(&str, &str); 4] = [
    (
        "hermes",
        "{% for t in tools %}{{ t | tojson }}{% endfor %}{# <tool_call>{\"name\": x, \"arguments\": y}</tool_call> #}",
    ),
    (
        "qwen-xml",
        "{% for t in tools %}{{ t | tojson }}{% endfor %}{# <tool_call><function=f><parameter=p></tool_call> #}",
    ),
    (
        "llama3-json",
        "{% for t in tools %}{{ t | tojson }}{% endfor %}{# tool_calls {\"name\": x, \"parameters\": y} #}",
    ),
    (
        "thinking",
        "{% for t in tools %}{{ t | tojson }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}\
         {# </think> <tool_call>{\"name\": x, \"arguments\": y}</tool_call> #}",
    ),
];

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "kind": { "enum": ["tern", "gull"] },
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": false,
    })
}

/// Whether a value is of that schema, by its words.
fn is_of_schema(value: &Value) -> bool {
    let fields = value.as_object().unwrap();
    fields.len() == 3
        && value["name"].as_str().is_some_and(|name| name.chars().count() <= 12)
        && value["age"].as_u64().is_some_and(|age| age <= 120)
        && matches!(value["kind"].as_str(), Some("tern" | "gull"))
}

/// A server whose model talks by a template.
fn server(folder: &tempfile::TempDir, name: &str, tools: &str) -> Server {
    let path = folder.path().join(name);
    let turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    std::fs::write(&path, format!("{turns}{tools}")).unwrap();
    Server::start(&["--chat-template", path.to_str().unwrap()])
}

fn request(more: Value) -> Value {
    let mut request = json!({ "messages": [{ "role": "user", "content": "Who?" }], "max_tokens": 300 });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

/// What every way to write calls can be held to.
fn parameters() -> Value {
    let mut parameters = schema();
    parameters["properties"].as_object_mut().unwrap().remove("name");
    parameters["required"] = json!(["age", "kind"]);
    parameters
}

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "find_bird", "parameters": parameters() } },
        { "type": "function", "function": { "name": "rest" } },
    ])
}

#[test]
fn an_answer_is_of_the_schema_that_was_asked_for() {
    let server = Server::start(&[]);
    for seed in 0..8 {
        let format =
            json!({ "type": "json_schema", "json_schema": { "name": "bird", "schema": schema(), "strict": true } });
        let mut request = request(json!({ "response_format": format, "seed": seed, "temperature": 1.3 }));
        let answer = server.post(CHAT, &request.to_string()).ok();
        let choice = &answer["choices"][0];
        let content = choice["message"]["content"].as_str().unwrap();
        assert!(is_of_schema(&serde_json::from_str(content).unwrap()), "{content}");
        assert_eq!(choice["finish_reason"], "stop");
        request["stream"] = true.into();
        let events = server.post(CHAT, &request.to_string()).events();
        let parts = events.iter().map(|event| event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        assert_eq!(parts.collect::<String>(), content);
    }
    // Any object; one that is cut is said to be.
    for seed in 0..4 {
        let asked = request(json!({ "response_format": { "type": "json_object" }, "seed": seed, "max_tokens": 60 }));
        let answer = server.post(CHAT, &asked.to_string()).ok();
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        match answer["choices"][0]["finish_reason"].as_str().unwrap() {
            "stop" => assert!(serde_json::from_str::<Value>(content).unwrap().is_object(), "{content}"),
            "length" => assert!(content.trim_start().starts_with('{'), "{content}"),
            other => panic!("{other}"),
        }
    }
    server.wait_idle();
}

#[test]
fn a_call_that_is_demanded_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for (name, template) in TEMPLATES {
        let server = server(&folder, name, template);
        let named = json!({ "type": "function", "function": { "name": "find_bird" } });
        for (choice, may_be) in [(json!("required"), &["find_bird", "rest"][..]), (named, &["find_bird"])] {
            let more = json!({ "tools": tools(), "tool_choice": choice, "seed": 4, "thinking_budget": 5 });
            let mut request = request(more);
            let answer = server.post(CHAT, &request.to_string()).ok();
            let (message, finish) = (&answer["choices"][0]["message"], &answer["choices"][0]["finish_reason"]);
            assert_eq!((&message["content"], finish), (&Value::Null, &json!("tool_calls")), "{name}: {answer}");
            let thinks = message["reasoning_content"].as_str().is_some_and(|thought| !thought.is_empty());
            assert_eq!(thinks, name == "thinking");
            let calls = message["tool_calls"].as_array().unwrap();
            assert_eq!(calls.len(), 1);
            let (id, function) = (calls[0]["id"].as_str().unwrap(), &calls[0]["function"]);
            assert!(id.strip_prefix("call_").is_some_and(|id| id.len() == 24), "{id}");
            assert!(may_be.contains(&function["name"].as_str().unwrap()), "{name}: {function}");
            let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
            match function["name"] == "rest" {
                true => assert_eq!(arguments, json!({})),
                false => {
                    assert_eq!(arguments.as_object().unwrap().len(), 2, "{name}: {arguments}");
                    assert!(arguments["age"].as_u64().is_some_and(|age| age <= 120), "{name}: {arguments}");
                    assert!(matches!(arguments["kind"].as_str(), Some("tern" | "gull")), "{name}: {arguments}");
                }
            }

            request["stream"] = true.into();
            let events = server.post(CHAT, &request.to_string()).events();
            let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
            let streamed: Vec<_> = deltas.filter(|delta| delta.get("tool_calls").is_some()).collect();
            assert_eq!(streamed.len(), 1);
            let call = &streamed[0]["tool_calls"][0];
            assert_eq!((&call["index"], &call["type"]), (&json!(0), &json!("function")));
            assert_eq!(call["function"], *function);
            assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        }
        assert!(server.metric_with("sterna_request_success_total", "tool_calls") >= 4.0);
    }
}

#[test]
fn a_form_that_cannot_be_honoured_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder, TEMPLATES[0].0, TEMPLATES[0].1);
    let format = |schema: Value| json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let mut deep = json!({ "type": "string" });
    for _ in 0..60 {
        deep = json!({ "properties": { "a": deep } });
    }
    let large = json!({ "enum": (0..20_000).map(|number| format!("entry {number}")).collect::<Vec<_>>() });
    let of = |param: &str| (400, Some("unsupported_parameter".to_owned()), Some(param.to_owned()));
    let wrong = |param: &str| (400, None, Some(param.to_owned()));
    let unknown = (400, Some("unsupported_response_format".to_owned()), Some("response_format".to_owned()));
    for (more, wanted) in [
        (json!({ "response_format": { "type": "xml" } }), unknown.clone()),
        (json!({ "response_format": {} }), unknown),
        (json!({ "response_format": { "type": "json_schema" } }), wrong("response_format")),
        (json!({ "response_format": format(json!({ "type": "bird" })) }), wrong("response_format")),
        (json!({ "response_format": format(json!({ "not": {} })) }), wrong("response_format")),
        (json!({ "response_format": format(deep) }), wrong("response_format")),
        (json!({ "response_format": format(large) }), wrong("response_format")),
        (json!({ "response_format": format(schema()), "tools": tools() }), of("response_format")),
        (json!({ "response_format": format(schema()), "ignore_eos": true }), of("ignore_eos")),
        (json!({ "response_format": format(schema()), "min_tokens": 3 }), of("min_tokens")),
        (json!({ "tool_choice": "required" }), wrong("tool_choice")),
        (json!({ "tool_choice": "sometimes", "tools": tools() }), wrong("tool_choice")),
        (
            json!({ "tool_choice": { "type": "function", "function": { "name": "swim" } }, "tools": tools() }),
            wrong("tool_choice"),
        ),
        (
            json!({ "tool_choice": "required", "tools": [{ "function": { "name": "f", "parameters": { "type": "string" } } }] }),
            wrong("tools"),
        ),
    ] {
        let request = request(more);
        let refused = server.post(CHAT, &request.to_string());
        assert_eq!(refused.error(), wanted, "{}: {}", crate::client::begin(&request), refused.text());
    }
    // With tools that may not be called, an answer can have a form.
    let request = request(json!({ "response_format": format(schema()), "tools": tools(), "tool_choice": "none" }));
    let answer = server.post(CHAT, &request.to_string()).ok();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(is_of_schema(&serde_json::from_str(content).unwrap()), "{content}");
}
