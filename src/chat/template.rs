//! A chat template: Jinja as `transformers` runs it, within limits, because a template is part of an untrusted file.
//!
//! The engine bounds what a template computes by fuel, which pays for instructions and for memory. What it leaves open is
//! bounded here: the parser's recursion by the length of the source and by a stack of its own, what is written by its length, and
//! what fuel does not see by a deadline.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
#[cfg(not(target_arch = "wasm32"))]
use std::thread::Builder;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde_json::{Map, Value as Json, json};

use super::functions::{self, Raised};
use crate::error::{Error, Result};

/// The longest source: twice the longest that is known. The parser takes time by the square of it, and stack by its depth.
pub const MOST_SOURCE_BYTES: usize = 32 << 10;
/// The longest rendering.
pub const MOST_OUTPUT_BYTES: usize = 4 << 20;
/// How long a rendering may take: a hundred thousand times what it does take.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// What instructions and memory of a rendering are paid with: ninety times what any known template takes, and 12 MiB.
const FUEL: u64 = 200_000;
/// Bytes of messages that pay for one more.
const BYTES_FOR_FUEL: u64 = 16;
/// The stack of the thread that renders: the deepest source that is short enough passes.
#[cfg(not(target_arch = "wasm32"))]
const STACK_BYTES: usize = 64 << 20;
/// The most of a template's own error that is told.
const MOST_MESSAGE_BYTES: usize = 4096;

/// A chat template. Cheap to clone.
#[derive(Clone)]
pub struct Template {
    source: Arc<str>,
    bos: Option<Arc<str>>,
    eos: Option<Arc<str>>,
    now: Option<u64>, // seconds since 1970, if the clock stands
    is_stuck: Arc<AtomicBool>,
}

impl Template {
    /// A template, with the texts of the tokens that begin and end a text, which it may write (`bos_token`, `eos_token`). It is
    /// rendered once, to see that it ends.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no Jinja; [`Error::Unsupported`] if it is longer than [`MOST_SOURCE_BYTES`], or does not end
    /// within [`DEADLINE`].
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        if source.len() > MOST_SOURCE_BYTES {
            let bytes = source.len();
            return Err(Error::Unsupported(format!(
                "a chat template of {bytes} bytes; at most {MOST_SOURCE_BYTES} are read. Give another one"
            )));
        }
        let template = Self {
            source: source.into(),
            bos: bos.map(Arc::from),
            eos: eos.map(Arc::from),
            now: None,
            is_stuck: Arc::default(),
        };
        let owned = template.source.clone();
        template.on_thread(move || {
            let environment = environment(None);
            let parsed = environment.template_from_str(&owned).map(drop);
            parsed.map_err(|error| Error::Malformed(format!("the chat template: {}", words(&error))))
        })?;
        let turn = |role: &str| json!({ "role": role, "content": "x" });
        let turns = json!(["system", "user", "assistant", "user"].map(turn));
        match template.render(&turns, None, &Map::new()) {
            Err(error @ Error::Unsupported(_)) => Err(error),
            // Many refuse one of these turns, which is not what was asked.
            _ => Ok(template),
        }
    }

    /// The template with a clock that stands at so many seconds after the beginning of 1970: some write the date, and with this they
    /// write the same tomorrow.
    pub fn at(mut self, seconds: u64) -> Self {
        self.now = Some(seconds);
        self
    }

    /// The text of a conversation. `messages` is a list of objects; `tools` are what the model may call; `variables` are what
    /// else the template may look at, `add_generation_prompt` among them.
    ///
    /// # Errors
    /// [`Error::Input`] with what the template says, if it refuses the conversation, or with what is wrong with it or its tools;
    /// [`Error::Unsupported`] if it does not end within [`DEADLINE`]: see [`Template::is_stuck`].
    pub fn render(&self, messages: &Json, tools: Option<&[Json]>, variables: &Map<String, Json>) -> Result<String> {
        let tools = tools.map_or(Json::Null, Json::from);
        let mut context =
            json!({ "messages": messages, "tools": tools, "documents": null, "add_generation_prompt": false });
        let context_map = context.as_object_mut().expect("it was made as one");
        for (name, text) in [("bos_token", &self.bos), ("eos_token", &self.eos)] {
            context_map.extend(text.as_ref().map(|text| (name.to_owned(), Json::from(&**text))));
        }
        context_map.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        let fuel = FUEL + bytes_of(&context) / BYTES_FOR_FUEL;
        let (source, now) = (self.source.clone(), self.now);
        self.on_thread(move || {
            let mut environment = environment(now);
            environment.set_fuel(Some(fuel));
            let mut output = Bounded(Vec::new());
            let rendered = environment
                .template_from_str(&source)
                .and_then(|template| template.render_captured_to(Serde(&context), &mut output).map(drop));
            match rendered {
                Ok(()) => String::from_utf8(output.0)
                    .map_err(|_| Error::Input("the chat template wrote a text that is no UTF-8".into())),
                Err(error) => Err(Error::Input(match Raised::of(&error) {
                    Some(message) => shortened(message).to_owned(),
                    None => format!("the chat template failed: {}", words(&error)),
                })),
            }
        })
    }

    /// Whether a rendering missed its deadline. Its thread goes on and cannot be stopped: the program should end what it is at,
    /// and itself.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// The template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Runs where it is called: a page has no threads. What fuel does not see has no deadline then; the stack is that of the module
    /// (`web/build` sets it).
    #[cfg(target_arch = "wasm32")]
    fn on_thread<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        work()
    }

    /// Runs on a thread with a large stack, and waits for it as long as a rendering may take.
    #[cfg(not(target_arch = "wasm32"))]
    fn on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let name = "chat template".to_owned();
        // What it made is dropped there too: that recurses as deep as the source.
        let started = Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || drop(sender.send(work())));
        if let Err(refusal) = started {
            return Err(Error::Busy(format!("no thread for a chat template: {refusal}")));
        }
        match receiver.recv_timeout(DEADLINE) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Disconnected) => Err(Error::Input("the chat template made its engine panic".into())),
            Err(RecvTimeoutError::Timeout) => {
                self.is_stuck.store(true, Ordering::Relaxed);
                Err(Error::Unsupported(format!(
                    "the chat template does not end within {} s. Give another one",
                    DEADLINE.as_secs()
                )))
            }
        }
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

/// The engine as `transformers` sets it up (`chat_template_utils.py`).
fn environment(now: Option<u64>) -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the usual marks"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", functions::to_json);
    environment.add_function("raise_exception", functions::raise_exception);
    environment.add_function("strftime_now", move |format: &str| functions::strftime_now(format, now));
    environment
}

/// What is wrong, with the line; causes behind it.
fn words(error: &minijinja::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    shortened(&text).to_owned()
}

fn shortened(text: &str) -> &str {
    let ends = text.char_indices().map(|(place, character)| place + character.len_utf8());
    &text[..ends.take_while(|end| *end <= MOST_MESSAGE_BYTES).last().unwrap_or(0)]
}

/// About how many bytes of text a value has.
fn bytes_of(value: &Json) -> u64 {
    match value {
        Json::String(text) => text.len() as u64,
        Json::Array(items) => items.iter().map(bytes_of).sum(),
        Json::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + bytes_of(value)).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) => 1,
    }
}

/// Takes no more than a rendering may have.
pub(super) struct Bounded(pub(super) Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_OUTPUT_BYTES {
            return Err(io::Error::other(format!("it writes more than {MOST_OUTPUT_BYTES} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
