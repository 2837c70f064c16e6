//! What a request for a chat says: turns, tools, how much to think, and the form of the answer.

use serde_json::{Map, Value, json};
use sterna::chat::{Chat, ChatPrompt, Conversation, Message, Tool};
use sterna::constrain::Constraint;

use super::fields::Fields;
use super::form::{Choice, Form};
use super::options::Options;
use super::refused::refuse;
use super::sequence::{self, Wrap};
use crate::app::{App, Served};
use crate::engine::Start;
use crate::http::error::ApiError;
use crate::http::keys::Caller;

/// Turns of a conversation.
const MESSAGES: usize = 4096;
/// Tools of a conversation, and the bytes of their descriptions.
const TOOLS: usize = 128;
const TOOL_BYTES: usize = 1 << 20;
/// Likely tokens that can be asked for.
const MOST_LOGPROBS: usize = 20;
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool"];
/// What words for an effort mean in tokens of reasoning.
const EFFORTS: &[(&str, Option<usize>)] =
    &[("none", Some(0)), ("minimal", Some(512)), ("low", Some(1024)), ("medium", Some(4096)), ("high", None)];

/// A request that was read, and its prompt.
pub struct Asked {
    pub chat: Chat,
    pub conversation: Conversation,
    pub prompt: ChatPrompt,
    pub options: Options,
    /// The form that the answer is to have.
    pub form: Option<Form>,
    /// The most tokens of reasoning.
    pub budget: Option<usize>,
    pub logprobs: Option<usize>,
    pub one_call: bool,
}

impl Asked {
    /// The sequences of its answers, held to a form if there is one.
    pub fn sequences(&self, served: &Served, constraint: Option<&Constraint>) -> Result<Vec<Start>, ApiError> {
        // The template's own ends of a turn are not told as what ended it.
        let options = Options { generate: self.chat.options(self.options.generate.clone()), ..self.options.clone() };
        // A thought has no form: what is said after it does.
        let after = self.chat.thinking().filter(|_| self.prompt.begins_in_thought).map(|tags| &*tags.close);
        let around = |inner| {
            let inner = match constraint {
                Some(constraint) => constraint.clone().sampler(inner, after),
                None => inner,
            };
            match self.budget {
                Some(budget) => Ok(self.chat.with_thinking_budget(inner, &self.prompt, budget)?),
                None => Ok(inner),
            }
        };
        let wrap: Option<Wrap<'_>> = if self.budget.is_some() || constraint.is_some() { Some(&around) } else { None };
        let one = |number| sequence::of(served, &options, (&self.prompt.ids, number), self.logprobs, wrap);
        (0..options.n).map(one).collect()
    }
}

/// Reads a request for a chat.
pub fn read(app: &App, served: &Served, caller: Caller, bytes: &[u8]) -> Result<Asked, ApiError> {
    let fields = Fields::read(bytes)?;
    app.check_model(served, fields.text("model")?.as_deref())?;
    let chat = served.chat()?;
    let mut options = Options::read(&fields, served, caller, app.settings.max_tokens)?;
    if options.max_tokens == Some(0) {
        return Err(ApiError::of("max_tokens", "max_tokens is 0; an answer has at least one token"));
    }
    options.max_tokens.get_or_insert(app.settings.max_tokens);
    refuse_others(&fields)?;
    let (mut conversation, thinks) = conversation(&fields)?;
    let (tools, choice) = tools(&fields, chat)?;
    let form = Form::read(&fields, &tools, &choice, chat)?;
    if form.is_some() {
        options.check_form()?;
    }
    conversation.tools = tools;
    let prompt = chat.prompt(&conversation).map_err(|error| prompt_error(app, chat, error))?;
    served.check_length(prompt.ids.len(), "messages")?;
    // A template that knows no other way still begins a thought.
    let unwanted = (!thinks && prompt.begins_in_thought).then_some(0);
    Ok(Asked {
        budget: unwanted.or(budget(&fields)?),
        logprobs: logprobs(&fields)?,
        one_call: fields.boolean("parallel_tool_calls")? == Some(false),
        form,
        chat: chat.clone(),
        conversation,
        prompt,
        options,
    })
}

/// The turns, and what the template is told beside them; and whether the model is to think.
pub fn conversation(fields: &Fields<'_>) -> Result<(Conversation, bool), ApiError> {
    let messages = fields.parsed::<Vec<Value>>("messages", "a list of messages")?;
    let messages = messages.ok_or_else(|| ApiError::of("messages", "messages is missing: a list of messages"))?;
    if messages.is_empty() || messages.len() > MESSAGES {
        let message = format!("messages has {} entries; there may be 1 to {MESSAGES}", messages.len());
        return Err(ApiError::of("messages", message));
    }
    let messages = messages.iter().enumerate().map(message).collect::<Result<_, _>>()?;
    let mut variables = template_variables(fields)?;
    let mut thinks = fields.boolean("enable_thinking")?;
    if fields.text("reasoning_effort")?.as_deref() == Some("none") {
        thinks = Some(false);
    }
    if let Some(thinks) = thinks {
        variables.insert("enable_thinking".into(), thinks.into());
    }
    let thinks = variables.get("enable_thinking") != Some(&Value::Bool(false));
    let conversation = Conversation {
        messages,
        add_generation_prompt: fields.boolean("add_generation_prompt")?.unwrap_or(true),
        continue_final_message: fields.boolean("continue_final_message")?.unwrap_or(false),
        variables,
        ..Conversation::default()
    };
    Ok((conversation, thinks))
}

/// What a prompt that could not be made is told: what the template says of the conversation is its client's to mend.
pub fn prompt_error(app: &App, chat: &Chat, error: sterna::Error) -> ApiError {
    if chat.template().is_stuck() {
        log::error!("{error}");
        app.engine.give_up();
        return ApiError::internal(error.to_string());
    }
    let mut error = ApiError::from(error);
    error.param = Some("messages".into());
    error
}

fn message((place, message): (usize, &Value)) -> Result<Message, ApiError> {
    let param = format!("messages[{place}]");
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    if !ROLES.contains(&role) {
        let message = format!("{param}.role is \"{role}\"; it must be one of {}", ROLES.join(", "));
        return Err(ApiError::of(&format!("{param}.role"), message));
    }
    let parts = message.get("content").and_then(Value::as_array).into_iter().flatten();
    let kinds = parts.filter_map(|part| part.get("type").and_then(Value::as_str));
    if let Some(kind) = kinds.into_iter().find(|kind| !matches!(*kind, "text" | "refusal")) {
        let message = format!("{param} has a part of type \"{kind}\"; this model reads text alone");
        return Err(ApiError::of(&format!("{param}.content"), message).coded("unsupported_content_type"));
    }
    Message::from_json(message).map_err(|error| ApiError::of(&param, format!("{param}: {error}")))
}

/// Scalars alone: a template is a program, and what it walks through is the model's and the conversation's.
fn template_variables(fields: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let variables = fields.parsed::<Map<String, Value>>(NAME, "an object")?.unwrap_or_default();
    match variables.iter().find(|(_, value)| value.is_object() || value.is_array()) {
        Some((name, _)) => Err(ApiError::of(NAME, format!("{NAME}.{name} must be a string, a number, true or false"))),
        None => Ok(variables),
    }
}

/// The tools that the model is told of, and which it is to call.
fn tools(fields: &Fields<'_>, chat: &Chat) -> Result<(Vec<Value>, Choice), ApiError> {
    const NAME: &str = "tools";
    let raw = fields.raw(NAME).unwrap_or_default();
    let tools = fields.parsed::<Vec<Value>>(NAME, "a list of tools")?.unwrap_or_default();
    if tools.len() > TOOLS || raw.len() > TOOL_BYTES {
        let message =
            format!("tools has {} entries of {} bytes; there may be {TOOLS} of 1 MiB", tools.len(), raw.len());
        return Err(ApiError::of(NAME, message));
    }
    for (place, tool) in tools.iter().enumerate() {
        let param = format!("{NAME}[{place}]");
        Tool::from_json(tool).map_err(|error| ApiError::of(&param, format!("{param}: {error}")))?;
    }
    let choice = Choice::read(fields)?;
    if choice == Choice::None {
        return Ok((Vec::new(), choice));
    }
    if !tools.is_empty() && chat.tool_format().is_none() {
        return Err(ApiError::of(NAME, "this model's template has no tools"));
    }
    Ok((tools, choice))
}

/// The most tokens of reasoning: said as such, or by an effort.
fn budget(fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    for name in ["thinking_budget", "thinking_budget_tokens", "reasoning_budget"] {
        if let Some(budget) = fields.integer(name, -1..=i64::MAX)? {
            return Ok(usize::try_from(budget).ok()); // -1 is as much as it likes
        }
    }
    let Some(effort) = fields.text("reasoning_effort")? else { return Ok(None) };
    match EFFORTS.iter().find(|(name, _)| *name == effort) {
        Some((_, budget)) => Ok(*budget),
        None => {
            let names: Vec<_> = EFFORTS.iter().map(|(name, _)| *name).collect();
            let message = format!("reasoning_effort is \"{effort}\"; it must be one of {}", names.join(", "));
            Err(ApiError::of("reasoning_effort", message))
        }
    }
}

fn logprobs(fields: &Fields<'_>) -> Result<Option<usize>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    match fields.count("top_logprobs", 0..=MOST_LOGPROBS)? {
        Some(count) if !wanted && count > 0 => {
            Err(ApiError::of("top_logprobs", "top_logprobs goes with logprobs: true alone"))
        }
        count => Ok(wanted.then_some(count.unwrap_or(0))),
    }
}

/// Fields of chats that cannot be honoured.
fn refuse_others(fields: &Fields<'_>) -> Result<(), ApiError> {
    for name in ["functions", "function_call"] {
        fields.refuse(name, &[json!([]), json!("auto"), json!("none")], "; use tools")?;
    }
    refuse(fields, &["audio", "prediction", "web_search_options"], &json!(null))?;
    refuse(fields, &["modalities"], &json!(["text"]))?;
    refuse(fields, &["store", "echo"], &json!(false))
}
