//! Conversations: how turns become a prompt, by the template that a model brings, and how what it makes becomes an answer, with
//! reasoning and calls of tools apart.
//!
//! ```
//! use sterna::chat::{Conversation, Message};
//! use sterna::generate::Prompt;
//! use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};
//!
//! let model = Model::open("models/tales-4m-i2_s.gguf")?;
//! let chat = model.chat()?;
//! let turns = Conversation::of([Message::new("user", "Tell me of a small bird.")]);
//! let prompt = chat.prompt(&turns)?;
//! let mut session = Session::new(&model, &Device::cpu(), &SessionOptions::default())?;
//! let options = chat.options(GenerateOptions { max_tokens: 20, ..GenerateOptions::default() });
//! let mut answer = chat.answer(&prompt, &turns);
//! for piece in session.generate_batch(&[Prompt { ids: prompt.ids, options }])? {
//!     for delta in chat.read(&mut answer, &piece?) {
//!         println!("{delta:?}");
//!     }
//! }
//! # Ok::<(), sterna::Error>(())
//! ```
//!
//! A template and a conversation are untrusted. Templates are rendered within limits ([`Template`]); special tokens that are
//! spelled in a message are text, so that nobody ends a turn that is not theirs.

mod answer;
mod clock;
mod functions;
mod message;
mod prompt;
mod template;
mod thinking;
mod tools;

use std::sync::Arc;

use serde_json::Map;

pub use answer::{Answer, Delta};
pub use message::Message;
pub use prompt::{ChatPrompt, Conversation};
pub use template::{DEADLINE, MOST_OUTPUT_BYTES, MOST_SOURCE_BYTES, Template};
pub use thinking::{ThinkTags, ThinkingBudget};
pub use tools::{Arguments, Tool, ToolCall, ToolFormat};

use crate::decision::Decision;
use crate::error::Result;
use crate::generate::{GenerateOptions, Piece, Sampler};
use crate::model::Model;
use crate::tokenizer::Tokenizer;

/// The template of BitNet b1.58 2B-4T, whose published GGUF file has another model's.
const BITNET: &str = include_str!("chat/builtin/bitnet-2b-4t.jinja");
/// What only that other template says.
const BITNET_PLACEHOLDER: &str = "BITNETAssistant";
/// What stands in where a file has no template.
const CHATML: &str = include_str!("chat/builtin/chatml.jinja");

/// How a model talks. Cheap to clone, and of any thread.
#[derive(Clone, Debug)]
pub struct Chat {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    model: Model,
    template: Template,
    tool_format: Option<ToolFormat>,
    thinking: Option<ThinkTags>,
    silent_tags: Vec<(u32, String)>, // tokens that mark an answer's parts, and have no text
    stop: Vec<String>,
    stop_ids: Vec<u32>,
    decisions: Vec<Decision>,
}

/// What a caller knows of a model's chat and its file does not.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ChatOptions {
    /// A template in the place of the model's. Never take one from whoever merely sends messages.
    pub template: Option<String>,
}

impl Model {
    /// How the model talks: by its own template, or by ChatML if it has none. Of a template that is known to be wrong, the right one
    /// stands in. Both are told by [`Chat::decisions`].
    ///
    /// # Errors
    /// Those of [`Template::new`], and of [`Model::tokenizer`].
    pub fn chat(&self) -> Result<Chat> {
        self.chat_with(&ChatOptions::default())
    }

    /// [`Model::chat`] with what the caller knows better.
    ///
    /// # Errors
    /// As [`Model::chat`].
    pub fn chat_with(&self, options: &ChatOptions) -> Result<Chat> {
        let (source, decision) = match (&options.template, self.chat_template()) {
            (Some(template), _) => {
                (&**template, Decision::new("chat template", "another one", "asked for by the caller"))
            }
            (None, Some(own)) if own.contains(BITNET_PLACEHOLDER) => {
                let why = "the file has a placeholder, with which the model answers badly";
                (BITNET, Decision::new("chat template", "that of BitNet b1.58 2B-4T", why))
            }
            (None, Some(own)) => (own, Decision::new("chat template", "the model's", "it brings one")),
            (None, None) => (CHATML, Decision::new("chat template", "ChatML", "the file has none")),
        };
        Chat::new(self, source, decision)
    }
}

impl Chat {
    fn new(model: &Model, source: &str, decision: Decision) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
        let template = Template::new(source, text(tokenizer.bos()), text(tokenizer.eos()))?;
        let (tool_format, thinking) = (ToolFormat::of_template(source), ThinkTags::of_template(source));
        let (stop, stop_ids) = ends_of_turns(&template, tokenizer);
        let mut decisions = vec![decision];
        let format = tool_format.map_or("none", ToolFormat::name);
        decisions.push(Decision::new("calls of tools", format, "by the words of the template"));
        let tags =
            thinking.as_ref().map_or("none".to_owned(), |tags| format!("between {} and {}", tags.open, tags.close));
        decisions.push(Decision::new("reasoning", tags, "by the words of the template"));
        if !stop.is_empty() || !stop_ids.is_empty() {
            let ends = stop.iter().cloned().chain(stop_ids.iter().filter_map(|&id| text(Some(id)).map(str::to_owned)));
            let choice = format!("also at {}", ends.collect::<Vec<_>>().join(", "));
            decisions.push(Decision::new(
                "end of a turn",
                choice,
                "the template ends turns so, and the tokenizer does not",
            ));
        }
        let tags = thinking.iter().flat_map(|tags| [&*tags.open, &tags.close]);
        let tags = tags.chain(tool_format.iter().flat_map(|format| format.tags()).copied());
        let silent = |tag: &str| match tokenizer.encode(tag).ok()?[..] {
            [id] if tokenizer.token_bytes(id).is_empty() => Some((id, tag.to_owned())),
            _ => None,
        };
        let silent_tags = tags.filter_map(silent).collect();
        let model = model.clone();
        let parts = Parts { model, template, tool_format, thinking, silent_tags, stop, stop_ids, decisions };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// How to continue such prompts: the options, and what ends the model's turn.
    pub fn options(&self, options: GenerateOptions) -> GenerateOptions {
        let mut options = options;
        options.stop.extend(self.parts.stop.iter().cloned());
        options.stop_ids.extend(&self.parts.stop_ids);
        options
    }

    /// Takes apart what is made after a prompt. Calls of tools are looked for if the conversation has tools.
    pub fn answer(&self, prompt: &ChatPrompt, conversation: &Conversation) -> Answer {
        let answer = Answer::new(self.parts.thinking.clone(), prompt.begins_in_thought);
        match self.parts.tool_format {
            Some(format) if !conversation.tools.is_empty() => {
                let tools: Vec<Tool> =
                    conversation.tools.iter().filter_map(|tool| Tool::from_json(tool).ok()).collect();
                answer.with_tools(format, &tools)
            }
            _ => answer,
        }
    }

    /// What a piece adds to an answer; its last piece ends it. Tokens that mark parts of an answer and have no text count as what
    /// they are.
    pub fn read(&self, answer: &mut Answer, piece: &Piece) -> Vec<Delta> {
        let tag = self.parts.silent_tags.iter().find(|(id, _)| Some(*id) == piece.id);
        let mut deltas = answer.push(&piece.text);
        deltas.extend(tag.map(|(_, tag)| answer.push(tag)).into_iter().flatten());
        if piece.finish.is_some() {
            deltas.extend(answer.finish());
        }
        deltas
    }

    /// A sampler that ends the thought of an answer after so many tokens; `inner` draws the others. As it is, if the model does not
    /// think.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn with_thinking_budget(
        &self,
        inner: Box<dyn Sampler>,
        prompt: &ChatPrompt,
        budget: usize,
    ) -> Result<Box<dyn Sampler>> {
        let Some(tags) = &self.parts.thinking else { return Ok(inner) };
        Ok(Box::new(ThinkingBudget::new(inner, budget, tags, prompt.begins_in_thought, &self.parts.model)?))
    }

    /// What was found out about the model's way to talk, and why.
    pub fn decisions(&self) -> &[Decision] {
        &self.parts.decisions
    }

    /// The template.
    pub fn template(&self) -> &Template {
        &self.parts.template
    }

    /// How the model calls tools, if it does.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.parts.tool_format
    }

    /// How the model's thoughts are marked, if it thinks.
    pub fn thinking(&self) -> Option<&ThinkTags> {
        self.parts.thinking.as_ref()
    }

    /// The bytes of a token, also of one that marks a part of an answer and has no text of its own.
    fn bytes_of(&self, id: u32) -> &[u8] {
        match self.parts.silent_tags.iter().find(|(tag, _)| *tag == id) {
            Some((_, text)) => text.as_bytes(),
            None => self.tokenizer().token_bytes(id),
        }
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.parts.model.some_tokenizer().expect("a chat is made of a model that has one")
    }
}

/// The texts and tokens that end a turn by the template, and of which the tokenizer does not know it: what stands behind a turn of
/// the model, up to the line's end.
fn ends_of_turns(template: &Template, tokenizer: &Tokenizer) -> (Vec<String>, Vec<u32>) {
    const TURN: &str = "4217";
    const NEXT: &str = "7124";
    let turns = [("user", "x"), ("assistant", TURN), ("user", NEXT)];
    let turns = turns.map(|(role, content)| Message::new(role, content).to_template(&str::to_owned));
    let rendered = template.render(&turns.into_iter().collect(), None, &Map::new()).unwrap_or_default();
    let Some((_, behind)) = rendered.split_once(TURN) else { return Default::default() };
    let behind = behind.split(NEXT).next().unwrap_or_default().trim_start();
    let first = tokenizer.encode(behind).ok().and_then(|ids| ids.first().copied());
    match first {
        Some(id) if tokenizer.is_end_of_generation(id) => Default::default(),
        Some(id) if tokenizer.token_bytes(id).is_empty() => (vec![], vec![id]),
        _ => match behind.split('\n').next().map(str::trim).filter(|end| !end.is_empty()) {
            Some(end) => (vec![end.to_owned()], vec![]),
            None => Default::default(),
        },
    }
}
