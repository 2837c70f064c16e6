//! Formats as templates tell them, tools and arguments as clients send them.

use serde_json::json;

use super::*;

#[test]
fn a_template_tells_its_format() {
    let escaped =
        r#"{%- if tools %}{{- "<tool_call>\n{\"name\": <name>, \"arguments\": <object>}\n</tool_call>" }}{%- endif %}"#;
    let quoted = r#"{% if tools %}{{ '<tool_call>[{"name": "f", "arguments": {}}]</tool_call>' }}{% endif %}"#;
    let xml = r"{% if tools %}{{ '<tool_call>\n<function=f>\n<parameter=k>\nv\n</parameter>\n</function>\n</tool_call>' }}{% endif %}";
    let llama =
        r#"{% if tools %}Answer as {"name": a name, "parameters": an object}.{% endif %}{{ message.tool_calls }}"#;
    for (template, format) in [
        (escaped, Some(ToolFormat::Hermes)),
        (quoted, Some(ToolFormat::Hermes)),
        (xml, Some(ToolFormat::QwenXml)),
        (llama, Some(ToolFormat::Llama3Json)),
        ("", None),
        ("{% for message in messages %}{{ message.content }}{% endfor %}", None),
        ("{{ tools }}<|tool_call_start|>f(x)<|tool_call_end|>{{ tool_calls }}", None),
        ("{{ tools }}<tool_call>f<arg_key>k</arg_key></tool_call>{{ tool_calls }}", None),
        (r#"{{ tools }}<tool_call>{"name": "f", "input": {}}</tool_call>{{ tool_calls }}"#, None),
        (r#"{{ tools }}<tool_call><function=f>{"k": "v"}</function></tool_call>{{ tool_calls }}"#, None),
        (r#"<tool_call>{"name": "f", "arguments": {}}</tool_call>{{ tool_calls }}"#, None),
        (r#"{{ tools }}{"name": "f", "parameters": {}}"#, None),
        // A schema of a call is no example of one.
        (
            r#"{{ tools }}{{ tool_calls }}{"name": "x"}{{ "a long text that has nothing to do with calls, and goes on for so long that what comes after it cannot belong" }}"parameters":"#,
            None,
        ),
    ] {
        assert_eq!(ToolFormat::of_template(template), format, "{template}");
    }
}

#[test]
fn the_longest_end_of_a_text_that_a_tag_begins_with_is_held_back() {
    for (text, tag, held) in [("xaa", "aab", 2), ("x", "aab", 0), ("aab", "aab", 0), ("é<", "<é>", 1), ("", "<", 0)] {
        assert_eq!(beginning(text, tag), held, "{text}");
    }
}

/// Templates of others, where they are at hand: they are no part of the project.
#[test]
fn published_templates_tell_their_format() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/chat/templates");
    let known = |name: &str| match name {
        "falcon3" | "hermes3-tool-use" | "qwen2.5" | "qwen3" | "qwen3-early" => Some(ToolFormat::Hermes),
        "qwen3.5-nothink" | "qwen3.5-think" | "qwen3.6" => Some(ToolFormat::QwenXml),
        "llama-3.1" | "llama-3.2" => Some(ToolFormat::Llama3Json),
        _ => None,
    };
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("{} is not there: nothing was compared", folder.display());
        return;
    };
    let mut compared = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = std::fs::read_to_string(&path).unwrap();
        assert_eq!(ToolFormat::of_template(&source), known(name), "{name}");
        let thinks = crate::chat::ThinkTags::of_template(&source).is_some();
        assert_eq!(thinks, name.starts_with("qwen3"), "{name}");
        compared += 1;
    }
    assert!(compared >= 18, "{compared} templates");
}

#[test]
fn tools_are_read_with_and_without_what_is_around_them() {
    let parameters = json!({"type": "object"});
    let function = json!({"name": "f", "description": "d", "parameters": parameters});
    let tool = Tool { name: "f".into(), parameters };
    assert_eq!(Tool::from_json(&json!({"type": "function", "function": function})).unwrap(), tool);
    assert_eq!(Tool::from_json(&json!({"type": null, "function": function})).unwrap(), tool);
    assert_eq!(Tool::from_json(&function).unwrap(), tool);
    assert_eq!(Tool::from_json(&json!({"name": "f"})).unwrap(), Tool { name: "f".into(), parameters: Value::Null });
    for (wrong, why) in [
        (json!({"type": "web_search"}), "a tool of type \"web_search\"; only \"function\" is known"),
        (json!({"type": "function", "function": {}}), "a tool without a name"),
        (json!({"name": ""}), "a tool without a name"),
        (json!("f"), "a tool without a name"),
    ] {
        let error = Tool::from_json(&wrong).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}

#[test]
fn arguments_are_an_object_or_the_text_of_one() {
    let object = json!({"b": 1, "a": [true]});
    let arguments = Arguments::from_json(&object).unwrap();
    assert_eq!((arguments.text(), arguments.object()), (r#"{"b":1,"a":[true]}"#, object.as_object().unwrap()));
    let arguments = Arguments::from_json(&json!("{ \"b\": 1 }")).unwrap();
    assert_eq!((arguments.text(), &arguments.object()["b"]), ("{ \"b\": 1 }", &json!(1)));
    for wrong in [json!(null), json!(1), json!([1]), json!("[1]"), json!(""), json!("{"), json!("text")] {
        let error = Arguments::from_json(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("the arguments of a tool call must be a JSON object: "), "{error}");
    }
}

#[test]
fn calls_are_spelled_as_models_spell_them() {
    let arguments = Arguments::new(r#"{"a": "x\ny", "b": 1}"#).unwrap();
    let call = ToolCall { id: Some("1".into()), name: "f\"".into(), arguments };
    let text = "<tool_call>\n{\"name\": \"f\\\"\", \"arguments\": {\"a\": \"x\\ny\", \"b\": 1}}\n</tool_call>";
    assert_eq!(ToolFormat::Hermes.spell(&call), text);
    let text = "{\"name\": \"f\\\"\", \"parameters\": {\"a\": \"x\\ny\", \"b\": 1}}";
    assert_eq!(ToolFormat::Llama3Json.spell(&call), text);
    let call = ToolCall { name: "f".into(), ..call };
    let parameters = "<parameter=a>\nx\ny\n</parameter>\n<parameter=b>\n1\n</parameter>\n";
    let text = format!("<tool_call>\n<function=f>\n{parameters}</function>\n</tool_call>");
    assert_eq!(ToolFormat::QwenXml.spell(&call), text);
}
