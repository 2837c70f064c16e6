//! Calls of tools as models write them: JSON within tags, JSON alone, or tags within tags.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::chat::{Tool, ToolFormat};
use crate::error::{Error, Result};

use super::compile::Grammar;
use super::schema::Reader;

/// Bytes of the rules of calls in tags, which have a copy of the definitions for each parameter.
const MOST_TAGGED_BYTES: usize = 256 << 10;

/// A grammar of a call of one of the tools. `spelled` says how a tag stands in it.
pub(super) fn grammar(format: ToolFormat, tools: &[Tool], spelled: impl Fn(&str) -> String) -> Result<Grammar> {
    if tools.is_empty() {
        return Err(Error::Input("a call of a tool, and no tools".into()));
    }
    let none = json!({ "type": "object", "properties": {} });
    let mut reader = Reader::default();
    let mut calls = Vec::with_capacity(tools.len());
    for tool in tools {
        let is_usual = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if tool.name.is_empty() || tool.name.len() > 128 || !tool.name.chars().all(is_usual) {
            return Err(Error::Input(format!(
                "the tool {:?}: a name must be 1 to 128 letters, digits, underscores, dashes or points",
                tool.name
            )));
        }
        let parameters = if tool.parameters.is_null() { &none } else { &tool.parameters };
        let arguments = arguments(&mut reader, parameters).map_err(|error| within(&tool.name, error))?;
        calls.push((&*tool.name, arguments));
    }
    let (open, close) = (spelled("<tool_call>"), spelled("</tool_call>"));
    Ok(match format {
        ToolFormat::Hermes => {
            let call = reader.document(json_call("arguments", calls));
            Grammar::Lark(format!("start: {open} \"\\n\" %json {call} \"\\n\" {close}\n"))
        }
        ToolFormat::Llama3Json => Grammar::Json(reader.document(json_call("parameters", calls))),
        ToolFormat::QwenXml => {
            let mut lark = format!("start: {open} \"\\n\" call {close}\n");
            let names: Vec<String> = (0..calls.len()).map(|i| format!("call_{i}")).collect();
            let _ = writeln!(lark, "call: {}", names.join(" | "));
            for (i, (tool, arguments)) in calls.iter().enumerate() {
                tagged(&mut lark, i, tool, arguments, &reader).map_err(|error| within(tool, error))?;
            }
            Grammar::Lark(lark)
        }
    })
}

/// What was read of a schema of parameters, which are an object.
fn arguments<'a>(reader: &mut Reader<'a>, parameters: &'a Value) -> Result<Map<String, Value>> {
    let read = reader.read(parameters)?;
    let mut read = match reader.followed(&read) {
        Value::Object(read) => read.clone(),
        _ => return Err(Error::Input("the parameters must be a schema of an object".into())),
    };
    if *read.entry("type").or_insert_with(|| "object".into()) != "object" {
        return Err(Error::Input(format!("the parameters are of the type {}; they must be an object", read["type"])));
    }
    if read.contains_key("properties") && !read.contains_key("patternProperties") {
        read.entry("additionalProperties").or_insert(false.into());
    }
    Ok(read)
}

fn json_call(key: &str, calls: Vec<(&str, Map<String, Value>)>) -> Value {
    let call = |(name, arguments): (&str, Map<String, Value>)| {
        json!({
            "type": "object",
            "properties": { "name": { "const": name }, key: arguments },
            "required": ["name", key],
            "additionalProperties": false,
        })
    };
    json!({ "anyOf": calls.into_iter().map(call).collect::<Vec<_>>() })
}

/// Rules for a call that is written in tags.
fn tagged(
    lark: &mut String,
    call: usize,
    tool: &str,
    arguments: &Map<String, Value>,
    reader: &Reader<'_>,
) -> Result<()> {
    const KNOWN: [&str; 4] = ["type", "properties", "required", "additionalProperties"];
    if let Some(keyword) = arguments.keys().find(|keyword| !KNOWN.contains(&keyword.as_str())) {
        return Err(Error::Input(format!("its parameters have {keyword}, which calls in tags cannot be held to")));
    }
    let none = Map::new();
    let properties = arguments.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = arguments.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if let Some(missing) = required.iter().find(|name| !properties.contains_key(name.as_str().unwrap_or_default())) {
        return Err(Error::Input(format!("its parameter {missing} is required, and has no schema")));
    }
    let mut rule = format!("call_{call}: {}", quoted(&format!("<function={tool}>\n")));
    let mut parameters = String::new();
    for (i, (key, schema)) in properties.iter().enumerate() {
        if key.is_empty() || key.contains(['>', '<', '\n']) {
            return Err(Error::Input(format!("its parameter {key:?}: calls in tags have no way to write that")));
        }
        let is_required = required.iter().any(|name| name == key);
        let _ = write!(rule, " p_{call}_{i}{}", if is_required { "" } else { "?" });
        let _ = writeln!(parameters, "p_{call}_{i}: {} v_{call}_{i}", quoted(&format!("<parameter={key}>\n")));
        let _ = writeln!(parameters, "{}", value(&format!("v_{call}_{i}"), schema, key, reader)?);
        if lark.len() + parameters.len() > MOST_TAGGED_BYTES {
            return Err(Error::Input(format!(
                "its parameters are too much work: each has all definitions of the schema for its own, and together they are more than \
                 {MOST_TAGGED_BYTES} bytes"
            )));
        }
    }
    let _ = writeln!(lark, "{rule} {}\n{parameters}", quoted("</function>\n"));
    Ok(())
}

/// The rule of a parameter's value, to the end of its tag.
fn value(rule: &str, schema: &Value, key: &str, reader: &Reader<'_>) -> Result<String> {
    const END: &str = "\n</parameter>\n";
    let followed = reader.followed(schema);
    let choices = match (followed.get("const"), followed.get("enum").and_then(Value::as_array)) {
        (Some(one), _) => vec![one],
        (None, Some(all)) => all.iter().collect(),
        (None, None) => Vec::new(),
    };
    if !choices.is_empty() {
        let beside = |keyword: &&String| !matches!(keyword.as_str(), "const" | "enum" | "type");
        if let Some(keyword) = followed.as_object().and_then(|keywords| keywords.keys().find(beside)) {
            return Err(Error::Input(format!(
                "its parameter {key:?} has {keyword} beside values to choose from, which calls in tags cannot be held to"
            )));
        }
        let choices: Vec<&Value> =
            choices.into_iter().filter(|choice| is_of_type(choice, followed.get("type"))).collect();
        if choices.is_empty() {
            return Err(Error::Input(format!("its parameter {key:?} has no value to choose that is of its type")));
        }
        let choices = choices.iter().map(|choice| match choice {
            Value::String(text) => quoted(&format!("{text}{END}")),
            other => quoted(&format!("{other}{END}")),
        });
        return Ok(format!("{rule}: {}", choices.collect::<Vec<_>>().join(" | ")));
    }
    if may_be_text(followed, reader) {
        // Whatever stands there is read as another type if it is of one, and as a text otherwise: free where types are all that is
        // asked for.
        if let Some(keyword) = beyond_types(followed, reader) {
            return Err(Error::Input(format!(
                "its parameter {key:?} has {keyword}, which texts in tags cannot be held to"
            )));
        }
        return Ok(format!("{rule}[suffix={}]: /(?s:.*)/", quoted(END)));
    }
    Ok(format!("{rule}: %json {} {}", reader.document(schema.clone()), quoted(END)))
}

/// Whether a value is of a type, or of one of several.
fn is_of_type(value: &Value, kind: Option<&Value>) -> bool {
    let is_of = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    match kind {
        Some(Value::String(name)) => is_of(name),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(is_of),
        _ => true,
    }
}

/// The options of a schema that is a choice between some.
fn options(schema: &Value) -> &[Value] {
    let list = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array());
    list.map_or(&[], Vec::as_slice)
}

fn may_be_text(schema: &Value, reader: &Reader<'_>) -> bool {
    let schema = reader.followed(schema);
    match (schema.get("type"), options(schema)) {
        (Some(Value::Array(types)), _) => types.iter().any(|kind| kind == "string"),
        (Some(kind), _) => kind == "string",
        (None, []) => schema.as_object().is_none_or(Map::is_empty), // anything
        (None, options) => options.iter().any(|option| may_be_text(option, reader)),
    }
}

/// The first keyword of a schema that asks for more than types.
fn beyond_types(schema: &Value, reader: &Reader<'_>) -> Option<String> {
    let schema = reader.followed(schema);
    let known = |keyword: &str| matches!(keyword, "type" | "anyOf" | "oneOf");
    let own = schema.as_object().and_then(|keywords| keywords.keys().find(|keyword| !known(keyword)).cloned());
    own.or_else(|| options(schema).iter().find_map(|option| beyond_types(option, reader)))
}

/// A text in Lark.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn within(tool: &str, error: Error) -> Error {
    match error {
        Error::Input(text) => Error::Input(format!("the tool {tool:?}: {text}")),
        error => error,
    }
}
