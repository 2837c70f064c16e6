//! The text of one sequence.

use std::sync::Arc;

use serde_json::{Value, json};
use sterna::chat::{self, Chat, Delta};
use sterna::generate::{Finish, Piece};
use sterna::tokenizer::TextStream;

use crate::app::Served;
use crate::request::options::Options;

/// Takes pieces, gives text, and remembers what is needed to say why it ended.
pub struct Text {
    served: Arc<Served>,
    with_special: Option<TextStream>, // where tokens that are no text are spelled out
    stops: Vec<String>,
    stop_ids: Vec<u32>,
    given: usize,   // bytes of text that were given out
    made: Vec<u32>, // all ids, if there are stops
}

impl Text {
    pub fn new(served: &Arc<Served>, options: &Options) -> Self {
        Self {
            served: served.clone(),
            with_special: (!options.skips_special).then(TextStream::new),
            stops: options.generate.stop.clone(),
            stop_ids: options.generate.stop_ids.clone(),
            given: 0,
            made: Vec::new(),
        }
    }

    /// What a piece adds to the answer of a chat.
    pub fn read(&mut self, piece: &Piece, chat: &Chat, answer: &mut chat::Answer) -> Vec<Delta> {
        let text = self.take(piece);
        if self.with_special.is_none() {
            return chat.read(answer, piece);
        }
        let mut deltas = answer.push(&text);
        if piece.finish.is_some() {
            deltas.extend(answer.finish());
        }
        deltas
    }

    /// The text that a piece made complete.
    pub fn take(&mut self, piece: &Piece) -> String {
        if !self.stops.is_empty() {
            self.given += piece.text.len();
            self.made.extend(piece.id);
        }
        let (Some(stream), Ok(tokenizer)) = (&mut self.with_special, self.served.model.tokenizer()) else {
            return piece.text.clone();
        };
        let mut text = match piece.id.map(|id| (tokenizer.token_bytes(id), tokenizer.token_text(id))) {
            Some(([], Some(spelled))) => stream.finish() + spelled,
            Some((bytes, _)) => stream.push(bytes),
            None => String::new(),
        };
        if piece.finish.is_some() {
            text += &stream.finish();
        }
        text
    }

    /// The text or token that ended it, as vLLM tells it; null for the model's own end.
    pub fn stop_reason(&self, finish: Finish) -> Value {
        match finish {
            Finish::StopId(id) if self.stop_ids.contains(&id) => json!(id),
            Finish::StopText => json!(self.stop_text()),
            _ => Value::Null,
        }
    }

    /// The stop that stands behind the text: what was made says more than what was given out.
    fn stop_text(&self) -> Option<&str> {
        let tokenizer = self.served.model.tokenizer().ok()?;
        let bytes: Vec<u8> = self.made.iter().flat_map(|&id| tokenizer.token_bytes(id)).copied().collect();
        let all = String::from_utf8_lossy(&bytes);
        let rest = all.get(self.given..)?;
        self.stops.iter().find(|stop| rest.starts_with(stop.as_str())).map(String::as_str)
    }
}
