//! How likely tokens were, in the two forms that OpenAI's interface has: one of chats, and an older one of completions.

use serde::Serialize;
use serde_json::{Map, Value, json};
use sterna::tokenizer::Tokenizer;

/// A token of a chat, with the ones that were likely in its place.
#[derive(Serialize)]
pub struct Token {
    #[serde(flatten)]
    chosen: Likely,
    top_logprobs: Vec<Likely>,
}

/// A token, and the natural logarithm of its probability.
#[derive(Serialize)]
struct Likely {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Token {
    pub fn new(tokenizer: &Tokenizer, id: u32, logprob: f32, best: &[(u32, f32)]) -> Self {
        let top_logprobs = best.iter().map(|&(id, logprob)| Likely::new(tokenizer, id, logprob)).collect();
        Self { chosen: Likely::new(tokenizer, id, logprob), top_logprobs }
    }
}

impl Likely {
    fn new(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Self {
        let bytes = bytes(tokenizer, id);
        // JSON has no infinity; nothing is less likely than this in f32.
        let logprob = logprob.max(-9999.0);
        Self { token: String::from_utf8_lossy(bytes).into_owned(), logprob, bytes: bytes.to_vec() }
    }
}

/// What a token stands for; one that is no text stands for its name.
fn bytes(tokenizer: &Tokenizer, id: u32) -> &[u8] {
    match tokenizer.token_bytes(id) {
        [] => tokenizer.token_text(id).unwrap_or_default().as_bytes(),
        bytes => bytes,
    }
}

/// The form of completions: lists beside each other.
#[derive(Default)]
pub struct Lists {
    tokens: Vec<Value>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
}

impl Lists {
    /// Adds a token, at this place of the text in characters; gives the place behind it.
    pub fn add(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
        logprob: Option<f32>,
        best: &[(u32, f32)],
        offset: usize,
    ) -> usize {
        let number = |logprob: f32| json!(logprob.max(-9999.0));
        let spelled = |id: u32| spelled(bytes(tokenizer, id));
        let top: Map<_, _> = best.iter().map(|&(id, logprob)| (spelled(id), number(logprob))).collect();
        self.tokens.push(spelled(id).into());
        self.token_logprobs.push(logprob.map_or(Value::Null, number));
        self.top_logprobs.push(if logprob.is_some() { top.into() } else { Value::Null });
        self.text_offset.push(offset);
        // What is not text takes no place in it.
        offset + String::from_utf8_lossy(tokenizer.token_bytes(id)).chars().count()
    }

    /// Adds those of another part behind these.
    pub fn append(&mut self, mut other: Self) {
        self.tokens.append(&mut other.tokens);
        self.token_logprobs.append(&mut other.token_logprobs);
        self.top_logprobs.append(&mut other.top_logprobs);
        self.text_offset.append(&mut other.text_offset);
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub fn json(&self) -> Value {
        let Self { tokens, token_logprobs, top_logprobs, text_offset } = self;
        json!({
            "tokens": tokens,
            "token_logprobs": token_logprobs,
            "top_logprobs": top_logprobs,
            "text_offset": text_offset,
        })
    }
}

/// Bytes that are a part of a character are spelled as such, so that two of them are not taken for one.
fn spelled(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
    }
}
