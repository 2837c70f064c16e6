//! Turns as clients write them become turns as templates expect them.

use serde_json::{Value, json};
use sterna::chat::Message;

fn read(message: Value) -> Result<Message, String> {
    Message::from_json(&message).map_err(|error| error.to_string())
}

#[test]
fn content_is_one_text() {
    let text = |content: Value| read(json!({ "role": "user", "content": content })).map(|message| message.content);
    assert_eq!(text(json!("a")).unwrap(), "a");
    assert_eq!(text(Value::Null).unwrap(), "");
    assert_eq!(read(json!({ "role": "assistant" })).unwrap().content, "");
    assert_eq!(text(json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }])).unwrap(), "a\nb");
    assert_eq!(text(json!([{ "type": "refusal", "refusal": "no" }])).unwrap(), "no");
    assert_eq!(text(json!([])).unwrap(), "");
    assert!(text(json!([{ "type": "image_url", "image_url": {} }])).unwrap_err().contains("image_url"));
    assert!(text(json!([{ "type": "text" }])).is_err());
    assert!(text(json!(1)).unwrap_err().contains("content"));
}

#[test]
fn roles_and_names_of_fields_are_those_that_templates_know() {
    assert_eq!(read(json!({ "role": "developer", "content": "x" })).unwrap().role, "system");
    assert_eq!(read(json!({ "role": "critic", "content": "x" })).unwrap().role, "critic");
    for wrong in [json!({ "content": "x" }), json!({ "role": 1 }), json!({ "role": "" }), json!("x")] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
    let reasoning = |fields: Value| read(fields).unwrap().reasoning;
    assert_eq!(reasoning(json!({ "role": "assistant", "reasoning": "a" })).as_deref(), Some("a"));
    assert_eq!(reasoning(json!({ "role": "assistant", "thinking": "a" })).as_deref(), Some("a"));
    let both = json!({ "role": "assistant", "reasoning_content": "a", "reasoning": "b" });
    assert_eq!(reasoning(both).as_deref(), Some("a"));
    let named =
        read(json!({ "role": "tool", "tool_call_id": "call_1", "name": "f", "content": "x", "audio": null })).unwrap();
    assert_eq!(named.extra.keys().collect::<Vec<_>>(), ["tool_call_id", "name"], "what is null is not there");
}

#[test]
fn arguments_of_calls_are_objects() {
    let call = |arguments: Value| {
        let call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": arguments } });
        read(json!({ "role": "assistant", "content": null, "tool_calls": [call] }))
    };
    for arguments in [json!({ "b": 1, "a": "ü" }), json!("{\"b\": 1, \"a\": \"ü\"}")] {
        let read = call(arguments).unwrap();
        assert_eq!(Value::from(read.tool_calls[0].arguments.object().clone()).to_string(), r#"{"b":1,"a":"ü"}"#);
        assert_eq!((read.tool_calls[0].id.as_deref(), &*read.tool_calls[0].name), (Some("1"), "f"));
    }
    assert!(call(json!("")).unwrap().tool_calls[0].arguments.object().is_empty());
    for wrong in [json!("not JSON"), json!("[1]"), json!(3), json!([1])] {
        assert!(call(wrong.clone()).unwrap_err().contains("\"f\""), "{wrong}");
    }
    assert!(read(json!({ "role": "assistant", "tool_calls": [{}] })).is_err());
    assert!(read(json!({ "role": "assistant", "tool_calls": 1 })).is_err());
}
