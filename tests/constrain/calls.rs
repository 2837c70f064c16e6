//! Calls of tools in each form that models write them in.

use serde_json::{Value, json};
use sterna::chat::{Tool, ToolFormat};

use crate::{alone, constrained, constrainer, plain, prompt};

fn weather() -> Value {
    json!({ "type": "object", "required": ["city", "days"], "properties": {
        "city": { "enum": ["Bern", "Oslo \"N\""] },
        "days": { "type": "integer", "minimum": 1, "maximum": 9 },
        "near": { "$ref": "#/$defs/near" } },
      "$defs": { "near": { "type": "array", "items": { "type": "boolean" }, "maxItems": 2 } } })
}

fn stop() -> Value {
    json!({ "type": "object", "properties": {} })
}

/// Parameters that each stand for all that is defined.
fn many_that_refer_to_much() -> Value {
    let keys: Vec<String> = (0..300).map(|i| format!("a rather long name of a property, number {i}")).collect();
    let much: serde_json::Map<_, _> = keys.iter().map(|key| (key.clone(), json!({ "type": "boolean" }))).collect();
    let parameters: serde_json::Map<_, _> =
        keys.iter().map(|key| (key.clone(), json!({ "$ref": "#/$defs/much" }))).collect();
    json!({ "type": "object", "properties": parameters, "$defs": { "much": { "type": "object", "properties": much } } })
}

fn tool(name: &str, parameters: &Value) -> Tool {
    Tool { name: name.to_owned(), parameters: parameters.clone() }
}

fn called(format: ToolFormat, tools: &[(&str, Value)], seed: u64) -> String {
    let tools: Vec<Tool> = tools.iter().map(|(name, parameters)| tool(name, parameters)).collect();
    let constraint = constrainer().tool_call(format, &tools).unwrap();
    alone(prompt(400), constrained(constraint, &plain(seed))).whole().to_owned()
}

#[track_caller]
fn is_a_call(name: &Value, arguments: &Value) -> bool {
    let keys: Vec<&str> = arguments.as_object().unwrap().keys().map(String::as_str).collect();
    if name == "stop" {
        assert!(keys.is_empty(), "{arguments}");
        return false;
    }
    assert_eq!(name, "weather");
    assert!(keys == ["city", "days"] || keys == ["city", "days", "near"], "{arguments}");
    assert!(["Bern", "Oslo \"N\""].contains(&arguments["city"].as_str().unwrap()), "{arguments}");
    assert!((1..=9).contains(&arguments["days"].as_u64().unwrap()), "{arguments}");
    if let Some(near) = arguments.get("near") {
        assert!(near.as_array().unwrap().len() <= 2, "{arguments}");
    }
    true
}

#[test]
fn calls_as_json_name_a_tool_and_have_its_arguments() {
    let tools = [("weather", weather()), ("stop", stop())];
    for (format, key) in [(ToolFormat::Hermes, "arguments"), (ToolFormat::Llama3Json, "parameters")] {
        let mut named = Vec::new();
        for seed in 0..12 {
            let text = called(format, &tools, seed);
            let inner = match format {
                ToolFormat::Hermes => {
                    text.strip_prefix("<tool_call>\n").and_then(|text| text.strip_suffix("\n</tool_call>")).unwrap()
                }
                _ => &text,
            };
            let call: Value = serde_json::from_str(inner).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert_eq!(call.as_object().unwrap().len(), 2, "{call}");
            named.push(is_a_call(&call["name"], &call[key]));
        }
        let text = called(format, &tools[..1], 1);
        assert!(text.contains("\"weather\"") && !text.contains("\"stop\""), "{text}");
        assert!(named.contains(&true), "the tool with arguments was never called");
    }
}

#[test]
fn calls_in_tags_name_a_tool_and_have_its_arguments() {
    let tools = [("weather", weather()), ("stop", stop())];
    for seed in 0..12 {
        let text = called(ToolFormat::QwenXml, &tools, seed);
        let inner = text
            .strip_prefix("<tool_call>\n<function=")
            .and_then(|text| text.strip_suffix("</function>\n</tool_call>"));
        let (name, mut rest) = inner.unwrap_or_else(|| panic!("{text:?}")).split_once(">\n").unwrap();
        let mut arguments = serde_json::Map::new();
        while let Some(parameter) = rest.strip_prefix("<parameter=") {
            let (key, value) = parameter.split_once(">\n").unwrap();
            let (value, after) = value.split_once("\n</parameter>\n").unwrap();
            let value = if key == "city" { value.into() } else { serde_json::from_str(value).unwrap() };
            assert!(arguments.insert(key.into(), value).is_none(), "{text:?}");
            rest = after;
        }
        assert_eq!(rest, "", "{text:?}");
        is_a_call(&name.into(), &arguments.into());
    }
}

/// A text in tags stands as it is, up to its end; also where it may be something else.
#[test]
fn texts_in_tags_are_free() {
    for what in [
        json!({ "type": "string" }),
        json!({ "type": ["string", "null"] }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({}),
    ] {
        let parameters = json!({ "type": "object", "required": ["what"], "properties": { "what": what } });
        let constraint = constrainer().tool_call(ToolFormat::QwenXml, &[tool("say", &parameters)]).unwrap();
        let answer = alone(prompt(60), constrained(constraint, &plain(1)));
        let said = answer.text.strip_prefix("<tool_call>\n<function=say>\n<parameter=what>\n");
        let said = said.unwrap_or_else(|| panic!("{answer:?}"));
        assert!(said.contains(' ') && !said.starts_with('"'), "{answer:?}");
    }
    let mixed = json!({ "properties": { "what": { "enum": ["Bern", 3] } }, "required": ["what"] });
    let text = called(ToolFormat::QwenXml, &[("say", mixed)], 1);
    assert!(text.contains(">\nBern\n</") || text.contains(">\n3\n</"), "{text}");
}

#[test]
fn tools_that_cannot_be_called_are_refused_by_name() {
    let refused = |format, name: &str, parameters: Value| {
        constrainer().tool_call(format, &[tool(name, &parameters)]).unwrap_err().to_string()
    };
    assert!(constrainer().tool_call(ToolFormat::Hermes, &[]).unwrap_err().to_string().contains("no tools"));
    for (format, name, parameters, what) in [
        (ToolFormat::Hermes, "two words", stop(), "two words"),
        (ToolFormat::Hermes, "", stop(), "1 to 128"),
        (ToolFormat::Hermes, "f", json!({ "type": "array" }), "array"),
        (ToolFormat::Hermes, "f", json!(true), "object"),
        (ToolFormat::Hermes, "f", json!({ "type": "object", "properties": { "a": { "not": {} } } }), "not"),
        (ToolFormat::QwenXml, "f", json!({ "properties": { "a>": {} } }), "a>"),
        (ToolFormat::QwenXml, "f", json!({ "properties": { "a": { "type": "string", "maxLength": 3 } } }), "maxLength"),
        (ToolFormat::QwenXml, "f", json!({ "properties": { "a": { "enum": [1, 9], "minimum": 3 } } }), "minimum"),
        (ToolFormat::QwenXml, "f", json!({ "properties": { "a": { "enum": [1], "type": "string" } } }), "no value"),
        (ToolFormat::QwenXml, "f", many_that_refer_to_much(), "too much work"),
        (ToolFormat::QwenXml, "f", json!({ "properties": {}, "anyOf": [{}] }), "anyOf"),
        (ToolFormat::QwenXml, "f", json!({ "properties": {}, "required": ["a"] }), "\"a\""),
    ] {
        let error = refused(format, name, parameters);
        assert!(error.contains(what) && (error.contains(&format!("{name:?}")) || name.is_empty()), "{error}");
    }
}
