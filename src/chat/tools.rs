//! Calls of tools: how a model's template spells them, and what a spelled one becomes.
//!
//! A call is looked for inside the explicit wrapper of the model's own format and nowhere else. Whatever is in a wrapper and is
//! no call of a tool that was offered is text of the answer, to the last byte: a model that errs makes no error here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

mod json_calls;
mod marks;
mod values;
mod xml_calls;

use json_calls::JsonWrapper;
pub(super) use json_calls::WholeMessage;
pub(super) use marks::beginning;
use xml_calls::XmlWrapper;

/// How a model spells calls of tools. Found in its template, which tells the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToolFormat {
    /// `<tool_call>`, a JSON object of `name` and `arguments` or a list of such, `</tool_call>`.
    Hermes,
    /// `<tool_call>`, `<function=NAME>`, for each argument `<parameter=KEY>`, its text and `</parameter>`, then `</function>`,
    /// `</tool_call>`.
    QwenXml,
    /// A JSON object of `name` and `parameters` that is the whole message.
    Llama3Json,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// What Llama 3.1 may write before a call.
const PYTHON_TAG: &str = "<|python_tag|>";
/// Bytes of a template within which the name and the parameters of its example of a call lie.
const EXAMPLE_BYTES: usize = 120;

impl ToolFormat {
    /// The format that a template tells the model to use; none if it knows no tools, or has them called in another way.
    pub fn of_template(source: &str) -> Option<Self> {
        // Within a string of the template, quotes may be escaped.
        let source = source.replace("\\\"", "\"");
        let has = |text: &str| source.contains(text);
        if !has("tools") {
            return None;
        }
        if has(OPEN) && has(CLOSE) {
            let is_xml = has("<function=") && has("<parameter=");
            let is_json = has("\"name\":") && has("\"arguments\":");
            return is_xml.then_some(Self::QwenXml).or(is_json.then_some(Self::Hermes));
        }
        let is_example = |(place, name): (usize, &str)| {
            let after = &source.as_bytes()[place + name.len()..];
            let example = &after[..after.len().min(EXAMPLE_BYTES)];
            String::from_utf8_lossy(example).contains("\"parameters\":")
        };
        (has("tool_calls") && source.match_indices("{\"name\":").any(is_example)).then_some(Self::Llama3Json)
    }

    /// The format's name, as decisions and messages give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::QwenXml => "qwen-xml",
            Self::Llama3Json => "llama3-json",
        }
    }

    /// The tags of the format that may be tokens of their own. A control token has no bytes; one of these has to be given to
    /// [`Answer::push`](super::Answer::push) as it is spelled.
    pub fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::QwenXml => &[OPEN, CLOSE],
            Self::Llama3Json => &[PYTHON_TAG],
        }
    }

    /// What a call begins and ends with, around its arguments: those are a JSON object, and with [`ToolFormat::QwenXml`] the
    /// parameters one after the other, each within [`ToolFormat::around_parameter`].
    pub fn around_call(self, name: &str) -> (String, &'static str) {
        let quoted = Value::from(name);
        match self {
            Self::Hermes => (format!("{OPEN}\n{{\"name\": {quoted}, \"arguments\": "), "}\n</tool_call>"),
            Self::QwenXml => (format!("{OPEN}\n<function={name}>\n"), "</function>\n</tool_call>"),
            Self::Llama3Json => (format!("{{\"name\": {quoted}, \"parameters\": "), "}"),
        }
    }

    /// What a parameter of [`ToolFormat::QwenXml`] begins and ends with, around its value: the text of a string, the JSON of
    /// anything else.
    pub fn around_parameter(key: &str) -> (String, &'static str) {
        (format!("<parameter={key}>\n"), "\n</parameter>\n")
    }

    /// A call as the model would write it.
    pub fn spell(self, call: &ToolCall) -> String {
        let (begin, end) = self.around_call(&call.name);
        let parameter = |(key, value): (&String, &Value)| {
            let (begin, end) = Self::around_parameter(key);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            begin + &text + end
        };
        let arguments = match self {
            Self::QwenXml => call.arguments.object().iter().map(parameter).collect(),
            Self::Hermes | Self::Llama3Json => call.arguments.text().to_owned(),
        };
        begin + &arguments + end
    }
}

impl fmt::Display for ToolFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tool that a model is offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON schema of its arguments; null if there is none.
    pub parameters: Value,
}

impl Tool {
    /// A tool as OpenAI's API has it, `{"type": "function", "function": {"name", "parameters", …}}`, or the inner object alone.
    ///
    /// # Errors
    /// [`Error::Input`] if it is another type of tool, or has no name.
    pub fn from_json(tool: &Value) -> Result<Self> {
        if let Some(other) = tool.get("type").filter(|kind| !kind.is_null() && *kind != "function") {
            return Err(Error::Input(format!("a tool of type {other}; only \"function\" is known")));
        }
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| Error::Input("a tool without a name: \"function.name\" must be a string".into()))?;
        Ok(Self { name: name.to_owned(), parameters: function.get("parameters").cloned().unwrap_or_default() })
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What names the call in a conversation. A model gives none: whoever speaks to clients does.
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// What it is called with.
    pub arguments: Arguments,
}

/// The arguments of a call: a JSON object, and the text that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    text: String,
    object: Map<String, Value>,
}

impl Arguments {
    /// Reads the text of a JSON object, of at most 128 levels.
    ///
    /// # Errors
    /// [`Error::Input`] if it is none.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match serde_json::from_str(&text) {
            Ok(object) => Ok(Self { text, object }),
            Err(why) => Err(Error::Input(format!("the arguments of a tool call must be a JSON object: {why}"))),
        }
    }

    /// Takes a JSON object, or a string that holds the text of one, as clients send calls back.
    ///
    /// # Errors
    /// [`Error::Input`] if it is neither.
    pub fn from_json(value: &Value) -> Result<Self> {
        match value {
            Value::Object(object) => Ok(Self::from(object.clone())),
            Value::String(text) => Self::new(text.as_str()),
            other => Self::new(other.to_string()),
        }
    }

    /// The text of the object, as the model wrote it where it writes JSON.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The object.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }
}

impl From<Map<String, Value>> for Arguments {
    fn from(object: Map<String, Value>) -> Self {
        let value = Value::Object(object);
        let text = value.to_string();
        let Value::Object(object) = value else { unreachable!("it was made two lines above") };
        Self { text, object }
    }
}

/// The tools that were offered, by name, with the schemas of their arguments.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    format: ToolFormat,
    tools: Arc<HashMap<String, Value>>,
}

impl Offer {
    pub(super) fn new(format: ToolFormat, tools: &[Tool]) -> Self {
        let tools = tools.iter().map(|tool| (tool.name.clone(), tool.parameters.clone())).collect();
        Self { format, tools: Arc::new(tools) }
    }

    /// What a call begins with; none where it is the whole message.
    pub(super) fn opening(&self) -> Option<&'static str> {
        match self.format {
            ToolFormat::Hermes | ToolFormat::QwenXml => Some(OPEN),
            ToolFormat::Llama3Json => None,
        }
    }

    pub(super) fn tags(&self) -> &'static [&'static str] {
        self.format.tags()
    }

    /// A reader of one wrapper.
    pub(super) fn wrapper(&self) -> Wrapper {
        match self.format {
            ToolFormat::QwenXml => Wrapper::Xml(XmlWrapper::new()),
            ToolFormat::Hermes | ToolFormat::Llama3Json => Wrapper::Json(JsonWrapper::new()),
        }
    }

    /// The calls in a message that may be one.
    pub(super) fn calls_of_message(&self, text: &str) -> Option<Vec<ToolCall>> {
        let text = text.trim_start();
        json_calls::calls(text.strip_prefix(PYTHON_TAG).unwrap_or(text), self)
    }

    /// The schema of a tool's arguments, if it is one that was offered.
    fn parameters(&self, name: &str) -> Option<&Value> {
        self.tools.get(name)
    }
}

/// Reads the text of a wrapper as it arrives, each byte of it once: finds where it ends, which is not simply where its closing
/// tag is first spelled, as an argument may speak of that.
#[derive(Clone, Debug)]
pub(super) enum Wrapper {
    Json(JsonWrapper),
    Xml(XmlWrapper),
}

impl Wrapper {
    /// Reads on in a text that begins with the opening tag and has grown since the last time. Bytes up to the end of the wrapper,
    /// once it is there.
    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        match self {
            Self::Json(wrapper) => wrapper.end(text),
            Self::Xml(wrapper) => wrapper.end(text),
        }
    }

    /// The calls in the text up to that end; none if anything in it is no call of a tool that was offered.
    pub(super) fn calls(&self, text: &str, offer: &Offer) -> Option<Vec<ToolCall>> {
        match self {
            Self::Json(_) => json_calls::calls(&text[OPEN.len()..text.len() - CLOSE.len()], offer),
            Self::Xml(wrapper) => wrapper.calls(text, offer),
        }
    }
}

#[cfg(test)]
mod tests;
