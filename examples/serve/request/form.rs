//! The form that an answer is to have: JSON, JSON of a schema, the call of a tool. It is honoured token by token, or refused by name.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sterna::chat::{Chat, Tool, ToolFormat};
use sterna::constrain::Constraint;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::fields::{Fields, short};
use crate::app::Served;
use crate::http::body::aside;
use crate::http::error::ApiError;

/// How long a schema may take to become rules for tokens.
const DEADLINE: Duration = Duration::from_secs(2);

/// A form.
pub enum Form {
    Object,
    /// JSON of a schema.
    Schema(Value),
    /// A call of one of these tools.
    Call(ToolFormat, Vec<Tool>),
}

/// Which tools the model is to call.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// As it likes.
    Auto,
    None,
    /// One of them.
    Required,
    Named(String),
}

impl Choice {
    pub fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        const NAME: &str = "tool_choice";
        let Some(choice) = fields.value(NAME)? else { return Ok(Self::Auto) };
        let name = || choice.get("function")?.get("name")?.as_str().map(str::to_owned);
        match (choice.as_str(), choice["type"] == "function") {
            (Some("auto"), _) => Ok(Self::Auto),
            (Some("none"), _) => Ok(Self::None),
            (Some("required" | "any"), _) => Ok(Self::Required),
            (_, true) => name().map(Self::Named).ok_or_else(|| ApiError::of(NAME, "tool_choice has no function.name")),
            _ => {
                let form = "auto, none, required, or a function by its name";
                Err(ApiError::of(NAME, format!("tool_choice is {}; it must be {form}", short(&choice.to_string()))))
            }
        }
    }
}

impl Form {
    /// The form that a request asks for, of a conversation with these tools.
    pub fn read(fields: &Fields<'_>, tools: &[Value], choice: &Choice, chat: &Chat) -> Result<Option<Self>, ApiError> {
        let format = response_format(fields)?;
        let mut offered: Vec<Tool> = tools.iter().filter_map(|tool| Tool::from_json(tool).ok()).collect();
        for tool in offered.iter_mut().filter(|tool| tool.parameters.is_null()) {
            tool.parameters = json!({ "type": "object", "properties": {} });
        }
        match choice {
            Choice::Auto | Choice::None if format.is_some() && !tools.is_empty() => {
                let message = "a response_format does not go with tools that may be called; set tool_choice to none";
                return Err(ApiError::unsupported("response_format", message));
            }
            Choice::Auto | Choice::None => return Ok(format),
            Choice::Required => {}
            Choice::Named(name) => offered.retain(|tool| tool.name == *name),
        }
        if offered.is_empty() {
            return Err(ApiError::of("tool_choice", "tool_choice asks for a call of a tool that is not among tools"));
        }
        if format.is_some() {
            return Err(ApiError::unsupported(
                "response_format",
                "a response_format does not go with a call of a tool",
            ));
        }
        let missing = || ApiError::of("tools", "this model's template has no tools");
        let format = chat.tool_format().ok_or_else(missing)?;
        Ok(Some(Self::Call(format, offered)))
    }

    /// What holds an answer to it.
    pub async fn constraint(self, served: &Arc<Served>) -> Result<Constraint, ApiError> {
        let served = served.clone();
        // The vocabulary is sorted once, whatever schema is the first.
        let constrainer = aside(move || served.constrainer().cloned()).await?;
        let param = self.param();
        // The clock runs from where a thread has it on: that others are busy is not the schema's fault.
        let (begins, begun) = oneshot::channel();
        let made = aside(move || {
            let _ = begins.send(()); // whoever waited may be gone
            let constraint = match &self {
                Self::Object => constrainer.json_object(),
                Self::Schema(schema) => constrainer.json_schema(schema),
                Self::Call(format, tools) => constrainer.tool_call(*format, tools),
            };
            constraint.map_err(|error| {
                let mut error = ApiError::from(error);
                error.param = Some(param.into());
                error
            })
        });
        let mut made = std::pin::pin!(made);
        tokio::select! {
            made = &mut made => return made,
            _ = begun => {}
        }
        timeout(DEADLINE, made).await.unwrap_or_else(|_| {
            let message = format!("the schema takes more than {} s to prepare; make it simpler", DEADLINE.as_secs());
            Err(ApiError::of(param, message))
        })
    }

    /// The field that asked for it.
    fn param(&self) -> &'static str {
        match self {
            Self::Object | Self::Schema(_) => "response_format",
            Self::Call(..) => "tools",
        }
    }
}

fn response_format(fields: &Fields<'_>) -> Result<Option<Form>, ApiError> {
    const NAME: &str = "response_format";
    let Some(format) = fields.value(NAME)? else { return Ok(None) };
    let schema = |value: &Value| value.get("schema").filter(|schema| !schema.is_null()).cloned();
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(schema(&format).map_or(Form::Object, Form::Schema))),
        Some("json_schema") => {
            let missing = || ApiError::of(NAME, "response_format has no json_schema.schema");
            schema(&format["json_schema"]).map(Form::Schema).map(Some).ok_or_else(missing)
        }
        _ => {
            let kind = short(&format["type"].to_string());
            let message = format!("response_format.type is {kind}; it must be text, json_object or json_schema");
            Err(ApiError::of(NAME, message).coded("unsupported_response_format"))
        }
    }
}
