//! Answers of `/v1/completions`.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use sterna::generate::Piece;

use super::frame::{self, Frame};
use super::logprobs::Lists;
use super::text::Text;
use super::usage::Used;
use super::{Answer, Head, reason};
use crate::engine::Score;
use crate::http::tally::Tally;
use crate::request::options::Options;

const OBJECT: &str = "text_completion";

/// The choices of one request.
pub struct Completion {
    head: Head,
    frame: Frame,
    choices: Vec<Choice>,
    used: Used,
    options: Options,
    with_logprobs: bool,
}

/// One of them.
struct Choice {
    text: Text,
    all: String,
    logprobs: Lists,
    offset: usize, // of the next token, in characters
    finish: Option<(&'static str, Value)>,
    /// What comes before the first piece: the prompt, if that is wanted.
    echo: Option<(String, Lists)>,
}

/// What a piece adds to a choice.
struct Part {
    text: String,
    logprobs: Lists,
}

/// A choice of a chunk.
#[derive(Serialize)]
struct Chunk<'a> {
    index: usize,
    text: &'a str,
    logprobs: &'a Value,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a Value>,
}

impl Completion {
    /// Of so many sequences.
    pub fn new(head: Head, options: &Options, sequences: usize, with_logprobs: bool) -> Self {
        let choice = || Choice {
            text: Text::new(&head.served, options),
            all: String::new(),
            logprobs: Lists::default(),
            offset: 0,
            finish: None,
            echo: None,
        };
        let (choices, used) = ((0..sequences).map(|_| choice()).collect(), Used::new(sequences, options.n));
        let frame = Frame::new(&head, OBJECT, options.includes_usage);
        Self { head, frame, choices, used, options: options.clone(), with_logprobs }
    }

    /// A choice begins with its prompt; `scores` are of its ids, if they are wanted.
    pub fn echo(&mut self, number: usize, text: String, ids: &[u32], scores: Option<&[Score]>) {
        let (choice, mut lists, mut offset) = (&mut self.choices[number], Lists::default(), 0);
        if let (Some(scores), Ok(tokenizer)) = (scores, self.head.served.model.tokenizer()) {
            for (&id, Score { logprob, best }) in ids.iter().zip(scores) {
                offset = lists.add(tokenizer, id, *logprob, best, offset);
            }
        }
        choice.offset = text.chars().count();
        choice.echo = Some((text, lists));
        self.used.set_prompt(number, ids.len());
    }

    /// Ends all choices before anything was made.
    pub fn end_at_once(&mut self) {
        for number in 0..self.choices.len() {
            let part = self.choices[number].begin();
            self.choices[number].add(&part);
            self.choices[number].logprobs.append(part.logprobs);
            self.choices[number].finish = Some(("length", Value::Null));
        }
    }

    /// The one chunk of each choice that ended at once.
    pub fn events_at_once(&mut self) -> Vec<u8> {
        let mut events = Vec::new();
        for number in 0..self.choices.len() {
            let choice = &self.choices[number];
            let (text, logprobs) = (choice.all.clone(), self.logprobs(&choice.logprobs));
            self.chunk(number, &text, &logprobs, &mut events);
        }
        self.end(&mut events);
        events
    }

    fn logprobs(&self, lists: &Lists) -> Value {
        if self.with_logprobs { lists.json() } else { Value::Null }
    }

    /// Appends a chunk of a choice.
    fn chunk(&self, number: usize, text: &str, logprobs: &Value, events: &mut Vec<u8>) {
        let finish = self.choices[number].finish.as_ref();
        let chunk = Chunk {
            index: number,
            text,
            logprobs,
            finish_reason: finish.map(|(reason, _)| *reason),
            stop_reason: finish.map(|(_, stop)| stop).filter(|stop| !stop.is_null()),
        };
        let usage = self.options.continuous_usage.then(|| self.used.json());
        self.frame.event(&[chunk], usage.as_ref(), &[], events);
    }
}

impl Choice {
    /// What comes before the first piece.
    fn begin(&mut self) -> Part {
        let (text, logprobs) = self.echo.take().unwrap_or_default();
        Part { text, logprobs }
    }

    fn add(&mut self, part: &Part) {
        self.all += &part.text;
    }
}

impl Answer for Completion {
    fn begin(&mut self) {
        self.used.begin();
    }

    fn take(&mut self, number: usize, piece: Piece, at: Instant, events: Option<&mut Vec<u8>>) {
        self.used.take(number, &piece, at);
        let choice = &mut self.choices[number];
        let mut part = choice.begin();
        part.text += &choice.text.take(&piece);
        let tokenizer = self.head.served.model.tokenizer().ok();
        if let (Some(tokenizer), Some(id), Some(logprobs)) = (tokenizer, piece.id, &piece.logprobs) {
            let chosen = Some(logprobs.chosen);
            choice.offset = part.logprobs.add(tokenizer, id, chosen, &logprobs.best, choice.offset);
        }
        if let Some(finish) = piece.finish {
            self.head.metrics.count_finished(reason(finish));
            choice.finish = Some((reason(finish), choice.text.stop_reason(finish)));
        }
        let is_last = piece.finish.is_some();
        match events {
            Some(events) => {
                if !part.text.is_empty() || !part.logprobs.is_empty() || is_last {
                    let logprobs = self.logprobs(&part.logprobs);
                    self.chunk(number, &part.text, &logprobs, events);
                }
                if self.head.logs_content {
                    self.choices[number].add(&part);
                }
            }
            None => {
                choice.add(&part);
                choice.logprobs.append(part.logprobs);
            }
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
            json!({
                "index": number,
                "text": choice.all,
                "logprobs": self.logprobs(&choice.logprobs),
                "finish_reason": finish,
                "stop_reason": stop,
            })
        };
        let choices = self.choices.iter().enumerate().map(choice).collect();
        frame::whole(&self.head, OBJECT, choices, &self.used, self.options.seed)
    }

    fn report(&self, tally: &Tally) {
        let mut facts = tally.facts();
        facts.usage = self.used.total();
        if self.head.logs_content {
            facts.content.extend(self.choices.iter().map(|choice| format!("answered {:?}", choice.all)));
        }
    }
}
