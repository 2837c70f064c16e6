//! Answers of `/v1/chat/completions`: reasoning, what is said, and calls of tools.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use sterna::chat::{Chat, Delta, ToolCall};
use sterna::generate::Piece;

use super::frame::{self, Frame};
use super::logprobs::Token;
use super::text::Text;
use super::usage::Used;
use super::{Answer, Head, reason};
use crate::args::ReasoningField;
use crate::http::random;
use crate::http::tally::Tally;
use crate::request::chat::Asked;
use crate::request::options::Options;

/// The choices of one request.
pub struct ChatAnswer {
    head: Head,
    frame: Frame,
    chat: Chat,
    choices: Vec<Choice>,
    used: Used,
    options: Options,
    reasoning_field: ReasoningField,
    with_logprobs: bool,
}

/// One of them.
struct Choice {
    text: Text,
    parser: sterna::chat::Answer,
    is_begun: bool, // its role was told
    content: String,
    reasoning: String,
    calls: Vec<Call>,
    logprobs: Vec<Token>,
    finish: Option<(&'static str, Value)>,
}

/// A call of a tool, as clients know it.
#[derive(Clone, Serialize)]
struct Call {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>, // in streams alone
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Clone, Serialize)]
struct Function {
    name: String,
    arguments: String,
}

/// A choice of a chunk.
#[derive(Serialize)]
struct Part<'a> {
    index: usize,
    delta: Added<'a>,
    logprobs: Option<Likely<'a>>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a Value>,
}

/// What a chunk adds.
#[derive(Default, Serialize)]
struct Added<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a [Call]>,
}

/// How likely the tokens of a chunk, or of a choice, are.
#[derive(Serialize)]
struct Likely<'a> {
    content: &'a [Token],
    refusal: (),
}

impl ChatAnswer {
    pub fn new(head: Head, asked: &Asked, reasoning_field: ReasoningField) -> Self {
        let Asked { chat, conversation, prompt, options, logprobs, one_call, .. } = asked;
        let choice = || {
            let parser = chat.answer(prompt, conversation);
            Choice {
                text: Text::new(&head.served, options),
                parser: if *one_call { parser.with_one_call() } else { parser },
                is_begun: false,
                content: String::new(),
                reasoning: String::new(),
                calls: Vec::new(),
                logprobs: Vec::new(),
                finish: None,
            }
        };
        Self {
            choices: (0..options.n).map(|_| choice()).collect(),
            frame: Frame::new(&head, "chat.completion.chunk", options.includes_usage),
            chat: chat.clone(),
            used: Used::new(options.n, options.n),
            options: options.clone(),
            reasoning_field,
            with_logprobs: logprobs.is_some(),
            head,
        }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Which names a thought has.
    fn reasoning_names(&self) -> [bool; 2] {
        match self.reasoning_field {
            ReasoningField::ReasoningContent => [true, false],
            ReasoningField::Reasoning => [false, true],
            ReasoningField::Both => [true, true],
            ReasoningField::None => [false, false],
        }
    }

    /// Appends what a piece added to a choice.
    fn stream(&mut self, number: usize, deltas: &[Delta], logprobs: &[Token], events: &mut Vec<u8>) {
        let mut tokens = logprobs;
        if !std::mem::replace(&mut self.choices[number].is_begun, true) {
            let role = Added { role: Some("assistant"), content: Some(""), ..Added::default() };
            let seed = json!({ "seed": self.options.seed });
            self.part(number, role, &[], &[("x_sterna", seed)], events);
        }
        let [long, short] = self.reasoning_names();
        let mut call = self.choices[number].calls.len() - calls_in(deltas);
        for delta in deltas {
            let added = match delta {
                Delta::Content(text) => Added { content: Some(text), ..Added::default() },
                Delta::Reasoning(text) => Added {
                    reasoning_content: long.then_some(text),
                    reasoning: short.then_some(text),
                    ..Added::default()
                },
                Delta::ToolCall(_) => {
                    call += 1;
                    Added { tool_calls: Some(&self.choices[number].calls[call - 1..call]), ..Added::default() }
                }
                _ => continue,
            };
            self.part(number, added, std::mem::take(&mut tokens), &[], events);
        }
        if !tokens.is_empty() {
            self.part(number, Added { content: Some(""), ..Added::default() }, tokens, &[], events);
        }
        if self.choices[number].finish.is_some() {
            self.part(number, Added::default(), &[], &[], events);
        }
    }

    /// Appends a chunk; one that adds nothing is the last of its choice.
    fn part(&self, number: usize, delta: Added<'_>, tokens: &[Token], more: &[(&str, Value)], events: &mut Vec<u8>) {
        let adds = delta.role.is_some() || delta.content.is_some() || delta.tool_calls.is_some();
        let adds = adds || delta.reasoning_content.is_some() || delta.reasoning.is_some();
        let finish = self.choices[number].finish.as_ref().filter(|_| !adds);
        if !adds && finish.is_none() {
            return; // a thought that is not told
        }
        let part = Part {
            index: number,
            delta,
            logprobs: self.with_logprobs.then_some(Likely { content: tokens, refusal: () }),
            finish_reason: finish.map(|(reason, _)| *reason),
            stop_reason: finish.map(|(_, stop)| stop).filter(|stop| !stop.is_null()),
        };
        let usage = self.options.continuous_usage.then(|| self.used.json());
        self.frame.event(&[part], usage.as_ref(), more, events);
    }

    fn message(&self, choice: &Choice) -> Value {
        // Null where a call is all there is.
        let content = Some(&choice.content).filter(|content| !content.is_empty() || choice.calls.is_empty());
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        let names = ["reasoning_content", "reasoning"].iter().zip(self.reasoning_names());
        for (name, _) in names.filter(|(_, is_told)| *is_told && !choice.reasoning.is_empty()) {
            message[*name] = choice.reasoning.as_str().into();
        }
        if !choice.calls.is_empty() {
            let calls = choice.calls.iter().cloned().map(|call| Call { index: None, ..call });
            message["tool_calls"] = json!(calls.collect::<Vec<_>>());
        }
        message
    }
}

impl Choice {
    /// Adds what a piece brought.
    fn add(&mut self, deltas: &[Delta]) {
        for delta in deltas {
            match delta {
                Delta::Content(text) => self.content += text,
                Delta::Reasoning(text) => self.reasoning += text,
                Delta::ToolCall(ToolCall { name, arguments, .. }) => self.calls.push(Call {
                    index: Some(self.calls.len()),
                    id: random::letters("call_", 24),
                    kind: "function",
                    function: Function { name: name.clone(), arguments: arguments.text().to_owned() },
                }),
                _ => {}
            }
        }
    }
}

fn calls_in(deltas: &[Delta]) -> usize {
    deltas.iter().filter(|delta| matches!(delta, Delta::ToolCall(_))).count()
}

impl Answer for ChatAnswer {
    fn begin(&mut self) {
        self.used.begin();
    }

    fn take(&mut self, number: usize, piece: Piece, at: Instant, events: Option<&mut Vec<u8>>) {
        let choice = &mut self.choices[number];
        if choice.finish.is_some() {
            return; // it has the one call that was wanted
        }
        self.used.take(number, &piece, at);
        if piece.id.is_some() && choice.parser.is_in_thought() {
            self.used.count_reasoning(number);
        }
        let deltas = choice.text.read(&piece, &self.chat, &mut choice.parser);
        choice.add(&deltas);
        let mut tokens = Vec::new();
        if let (Some(id), Some(logprobs), Ok(tokenizer)) =
            (piece.id, &piece.logprobs, self.head.served.model.tokenizer())
        {
            tokens.push(Token::new(tokenizer, id, logprobs.chosen, &logprobs.best));
        }
        let is_over = choice.parser.is_over() && !choice.calls.is_empty();
        if let Some(finish) = piece.finish {
            let reason = match reason(finish) {
                "stop" if !choice.calls.is_empty() => "tool_calls",
                reason => reason,
            };
            choice.finish = Some((reason, choice.text.stop_reason(finish)));
        } else if is_over {
            choice.finish = Some(("tool_calls", Value::Null));
        }
        if let Some((reason, _)) = &choice.finish {
            self.head.metrics.count_finished(reason);
        }
        match events {
            Some(events) => self.stream(number, &deltas, &tokens, events),
            None => choice.logprobs.append(&mut tokens),
        }
    }

    fn is_whole(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    fn end(&mut self, events: &mut Vec<u8>) {
        self.frame.end(&self.used, events);
    }

    fn whole(&mut self) -> Value {
        let choice = |(number, choice): (usize, &Choice)| {
            let (finish, stop) = choice.finish.clone().unzip();
            let logprobs = Likely { content: &choice.logprobs, refusal: () };
            json!({
                "index": number,
                "message": self.message(choice),
                "logprobs": self.with_logprobs.then_some(logprobs),
                "finish_reason": finish,
                "stop_reason": stop,
            })
        };
        let choices = self.choices.iter().enumerate().map(choice).collect();
        frame::whole(&self.head, "chat.completion", choices, &self.used, self.options.seed)
    }

    fn report(&self, tally: &Tally) {
        let mut facts = tally.facts();
        facts.usage = self.used.total();
        if self.head.logs_content {
            let answers = self.choices.iter().map(|choice| format!("answered {}", self.message(choice)));
            facts.content.extend(answers);
        }
    }
}
