//! Turns as a prompt: rendered by the template, with every special token that a turn spells kept from being one, and encoded.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::message::{Message, guarded};
use super::{Chat, Tool};
use crate::error::{Error, Result};

/// Turns, and what the template is told beside them.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The turns, the oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call, each as OpenAI's interface describes it.
    pub tools: Vec<Value>,
    /// Begin the model's turn. Default true.
    pub add_generation_prompt: bool,
    /// Go on with the last turn, which must be the model's, instead of beginning one. Default false.
    pub continue_final_message: bool,
    /// What else the template looks at, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            add_generation_prompt: true,
            continue_final_message: false,
            variables: Map::new(),
        }
    }
}

impl Conversation {
    /// Turns alone.
    pub fn of(messages: impl IntoIterator<Item = Message>) -> Self {
        Self { messages: messages.into_iter().collect(), ..Self::default() }
    }

    fn continues(&self) -> bool {
        self.continue_final_message || self.messages.last().is_some_and(Message::is_prefix)
    }
}

/// A conversation that is ready to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatPrompt {
    /// Its token ids, BOS included where the model wants one.
    pub ids: Vec<u32>,
    /// Its text.
    pub text: String,
    /// Whether the text ends within a thought, so that the answer begins there.
    pub begins_in_thought: bool,
}

/// A conversation as its template renders it.
struct Rendering {
    text: String, // with a mark within each special token that a turn spells
    mark: char,
    begins_in_thought: bool,
}

impl Chat {
    /// The text of a conversation, and its ids. Special tokens of the template become ids; those that are spelled in messages,
    /// tools and variables are text.
    ///
    /// # Errors
    /// Those of [`Template::render`](super::Template::render) and of [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode);
    /// [`Error::Input`] if tools are given to a template that knows none, or if the last turn is to be gone on with and is not the model's, or the template does not show it.
    pub fn prompt(&self, conversation: &Conversation) -> Result<ChatPrompt> {
        let rendering = self.render(conversation)?;
        let ids = self.tokenizer().encode_guarded_prompt(&rendering.text, rendering.mark)?;
        Ok(rendering.with(ids))
    }

    /// The prompt of a conversation that went on: where its text begins with that of the prompt `before` and of the ids that were
    /// `made` after it, those ids are kept as they are, and only what is new is encoded. So all that was computed for them is found
    /// in the cache, also where the text of the whole would be cut into tokens otherwise. [`Chat::prompt`], where it does not.
    ///
    /// # Errors
    /// As [`Chat::prompt`].
    pub fn prompt_after(&self, conversation: &Conversation, before: &ChatPrompt, made: &[u32]) -> Result<ChatPrompt> {
        let rendering = self.render(conversation)?;
        let tokenizer = self.tokenizer();
        let said: Vec<u8> = made.iter().flat_map(|&id| self.bytes_of(id)).copied().collect();
        let same = std::str::from_utf8(&said).ok().and_then(|said| rendering.behind(&[&before.text, said]));
        let mut ids = before.ids.clone();
        match same {
            Some(rest) => {
                ids.extend(made);
                ids.extend(tokenizer.encode_guarded(rest, rendering.mark)?);
            }
            None => ids = tokenizer.encode_guarded_prompt(&rendering.text, rendering.mark)?,
        }
        Ok(rendering.with(ids))
    }

    fn render(&self, conversation: &Conversation) -> Result<Rendering> {
        if !conversation.tools.is_empty() && self.parts.tool_format.is_none() {
            return Err(Error::Input("this model's template has no tools".into()));
        }
        conversation.tools.iter().try_for_each(|tool| Tool::from_json(tool).map(drop))?;
        let tokenizer = self.tokenizer();
        let mark = free_mark(conversation);
        let guard = |text: &str| tokenizer.guarded(text, mark).into_owned();
        let messages: Value = conversation.messages.iter().map(|message| message.to_template(&guard)).collect();
        let tools: Vec<Value> = conversation.tools.iter().map(|tool| guarded(tool, &guard)).collect();
        let tools = Some(tools).filter(|tools| !tools.is_empty());
        let continues = conversation.continues();
        let mut variables = conversation.variables.clone();
        variables.values_mut().for_each(|value| *value = guarded(value, &guard));
        let adds_prompt = conversation.add_generation_prompt && !continues;
        variables.insert("add_generation_prompt".into(), adds_prompt.into());
        let mut text = self.template().render(&messages, tools.as_deref(), &variables)?;
        if continues {
            let last = conversation.messages.last().filter(|last| last.role == "assistant");
            let last =
                last.ok_or_else(|| Error::Input("to go on with the last message, it must be the assistant's".into()))?;
            cut_after(&mut text, &guard(&last.content))?;
        }
        let begins_in_thought = match &self.parts.thinking {
            None => false,
            Some(tags) if continues => {
                conversation.messages.last().is_some_and(|last| tags.is_left_open(&last.content))
            }
            // What a message spells is text: only what the template begins the turn with counts.
            Some(tags) => {
                variables.insert("add_generation_prompt".into(), false.into());
                let without = self.template().render(&messages, tools.as_deref(), &variables)?;
                let same = text.chars().zip(without.chars()).take_while(|(with, without)| with == without);
                let begins: usize = same.map(|(same, _)| same.len_utf8()).sum();
                tags.is_left_open(&text[begins..])
            }
        };
        Ok(Rendering { text, mark, begins_in_thought })
    }
}

impl Rendering {
    fn with(mut self, ids: Vec<u32>) -> ChatPrompt {
        self.text.retain(|character| character != self.mark);
        ChatPrompt { ids, text: self.text, begins_in_thought: self.begins_in_thought }
    }

    /// What stands behind these texts, if it begins with them one after the other; marks are no part of them.
    fn behind(&self, texts: &[&str]) -> Option<&str> {
        let mut wanted = texts.iter().flat_map(|text| text.chars()).peekable();
        for (place, character) in self.text.char_indices() {
            if wanted.peek().is_none() {
                return Some(&self.text[place..]);
            }
            if character != self.mark && wanted.next() != Some(character) {
                return None;
            }
        }
        wanted.next().is_none().then_some("")
    }
}

/// A character that stands nowhere in a conversation.
fn free_mark(conversation: &Conversation) -> char {
    const MARKS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';
    let turns: Value = conversation.messages.iter().map(|message| message.to_template(&str::to_owned)).collect();
    let all = [turns, conversation.tools.clone().into(), conversation.variables.clone().into()];
    let used: HashSet<char> = all.iter().flat_map(|part| marks_of(part, &MARKS)).collect();
    MARKS.into_iter().find(|mark| !used.contains(mark)).unwrap_or('\u{10fffd}')
}

/// The characters of a range that stand in a value, names of fields too.
fn marks_of(value: &Value, marks: &std::ops::RangeInclusive<char>) -> Vec<char> {
    // JSON writes them as they are.
    value.to_string().chars().filter(|character| marks.contains(character)).collect()
}

/// Cuts a text behind the last turn's, as `transformers` does it.
fn cut_after(text: &mut String, content: &str) -> Result<()> {
    let trimmed = content.trim();
    let place = text.rfind(trimmed);
    let place = place.ok_or_else(|| Error::Input("the template does not show the last message as it is".into()))?;
    let length = if text[place..].starts_with(content) { content.len() } else { trimmed.len() };
    text.truncate(place + length);
    Ok(())
}
