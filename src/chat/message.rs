//! The turns of a conversation, as templates expect them. What clients send is written in many ways; here it becomes one.

use serde_json::{Map, Value, json};

use super::tools::{Arguments, ToolCall};
use crate::error::{Error, Result};

/// One turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
    /// What was thought before it. Most templates leave that of earlier turns out.
    pub reasoning: Option<String>,
    /// The calls of tools that the model made in this turn.
    pub tool_calls: Vec<ToolCall>,
    /// Other fields, such as `name` and `tool_call_id`: the template sees them as they are.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A turn of text alone.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// A turn as OpenAI's interface and its kin write it: content that is missing or null is empty, and parts of text become one,
    /// joined by line breaks; `developer` is `system`; arguments of calls that are JSON in a string become the object;
    /// `reasoning` and `thinking` are other names of `reasoning_content`.
    ///
    /// # Errors
    /// [`Error::Input`] that names the field: no object, no role, parts that are not text, arguments that are no JSON object.
    pub fn from_json(message: &Value) -> Result<Self> {
        let Value::Object(fields) = message else { return Err(Error::Input("a message must be an object".into())) };
        let mut turn = Self::default();
        for (name, value) in fields {
            match (&**name, value) {
                ("role", Value::String(role)) if role == "developer" => turn.role = "system".into(),
                ("role", Value::String(role)) => turn.role.clone_from(role),
                ("role", _) => return Err(Error::Input("the role of a message must be a string".into())),
                ("content", value) => turn.content = content(value)?,
                ("reasoning_content" | "reasoning" | "thinking", Value::String(text)) => {
                    if name == "reasoning_content" || turn.reasoning.is_none() {
                        turn.reasoning = Some(text.clone());
                    }
                }
                ("tool_calls", Value::Array(calls)) => {
                    turn.tool_calls = calls.iter().map(call).collect::<Result<_>>()?
                }
                (_, Value::Null) => {}
                ("tool_calls", _) => return Err(Error::Input("tool_calls must be a list".into())),
                _ => {
                    turn.extra.insert(name.clone(), value.clone());
                }
            }
        }
        match turn.role.is_empty() {
            true => Err(Error::Input("a message has no role".into())),
            false => Ok(turn),
        }
    }

    /// The turn as a template sees it. Every text in it goes through `guard`.
    pub(super) fn to_template(&self, guard: &impl Fn(&str) -> String) -> Value {
        let mut fields = Map::new();
        fields.insert("role".into(), guard(&self.role).into());
        fields.insert("content".into(), guard(&self.content).into());
        fields.extend(self.reasoning.iter().map(|text| ("reasoning_content".into(), guard(text).into())));
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(|call| {
                let function = json!({ "name": call.name, "arguments": call.arguments.object() });
                let id = call.id.iter().map(|id| ("id".into(), Value::from(id.as_str())));
                let fields = [("type".into(), "function".into()), ("function".into(), function)];
                guarded(&Value::Object(id.chain(fields).collect()), guard)
            });
            fields.insert("tool_calls".into(), calls.collect());
        }
        fields.extend(self.extra.iter().map(|(name, value)| (guard(name), guarded(value, guard))));
        fields.into()
    }

    /// Whether the turn is to be gone on with, as some clients mark it (`"prefix": true`).
    pub(super) fn is_prefix(&self) -> bool {
        self.role == "assistant" && self.extra.get("prefix") == Some(&Value::Bool(true))
    }
}

/// A value with every text in it, the names of fields too, gone through `guard`.
pub(super) fn guarded(value: &Value, guard: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => guard(text).into(),
        Value::Array(items) => items.iter().map(|item| guarded(item, guard)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (guard(name), guarded(value, guard))).collect(),
        other => other.clone(),
    }
}

fn content(value: &Value) -> Result<String> {
    let part = |part: &Value| match (part.get("type").and_then(Value::as_str), part) {
        (Some("text"), part) => part.get("text").and_then(Value::as_str).map(str::to_owned),
        (Some("refusal"), part) => part.get("refusal").and_then(Value::as_str).map(str::to_owned),
        (None, Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let refused = |found: &Value| {
        let kind = found.get("type").and_then(Value::as_str).unwrap_or("without a type");
        Error::Input(format!("content parts must be text; a part of type \"{kind}\" is not supported"))
    };
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().map(|found| part(found).ok_or_else(|| refused(found)));
            Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
        }
        _ => Err(Error::Input("the content of a message must be a string or a list of parts".into())),
    }
}

fn call(value: &Value) -> Result<ToolCall> {
    let function = value.get("function").unwrap_or(value);
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| Error::Input("a call in tool_calls has no function.name".into()))?;
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Ok(Arguments::from(Map::new())),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Arguments::from(Map::new())),
        Some(arguments) => Arguments::from_json(arguments),
    };
    let arguments = arguments.map_err(|error| Error::Input(format!("the call of \"{name}\": {error}")))?;
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    Ok(ToolCall { id, name: name.to_owned(), arguments })
}
