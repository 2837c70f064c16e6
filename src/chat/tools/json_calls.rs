//! Calls as JSON: in a wrapper, alone, one after the other or as a list, or as a whole message.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::marks::{Begins, begins, begins_after_space, skip_space};
use super::{Arguments, CLOSE, OPEN, Offer, PYTHON_TAG, ToolCall};

/// A call as models write it. Falcon 3 shows its own as OpenAI's API has them, with the call inside `function`.
#[derive(Deserialize)]
struct Written<'a> {
    name: Option<String>,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<Box<Written<'a>>>,
}

/// The calls that a text is made of; none if there is anything else in it, or a tool that was not offered.
pub(super) fn calls(text: &str, offer: &Offer) -> Option<Vec<ToolCall>> {
    let written: Vec<Written<'_>> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(text).ok()?,
        false => serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().ok()?,
    };
    let calls: Vec<ToolCall> = written.into_iter().map(|written| call(written, offer)).collect::<Option<_>>()?;
    (!calls.is_empty()).then_some(calls)
}

fn call(written: Written<'_>, offer: &Offer) -> Option<ToolCall> {
    let Some(name) = written.name else { return call(*written.function?, offer) };
    offer.parameters(&name)?;
    let text = match written.arguments.map(RawValue::get) {
        None => "{}".to_owned(),
        // As OpenAI's API has them: in a string.
        Some(quoted) if quoted.starts_with('"') => serde_json::from_str(quoted).ok()?,
        Some(text) => text.to_owned(),
    };
    Some(ToolCall { id: None, name, arguments: Arguments::new(text).ok()? })
}

/// Finds the end of a wrapper around JSON: the first closing tag that is not within a string. A string that a line ends is none,
/// as JSON has no line ends in strings; from there on any closing tag will do, so that a forgotten quote swallows no more than
/// its wrapper.
#[derive(Clone, Debug)]
pub(in crate::chat) struct JsonWrapper {
    at: usize, // bytes read
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Outside,
    InString,
    Escaped,
    Broken,
}

impl Place {
    /// The place after one more byte.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Outside, b'"') => Self::InString,
            (Self::InString, b'"') => Self::Outside,
            (Self::InString, b'\\') => Self::Escaped,
            (Self::InString | Self::Escaped, b'\n') => Self::Broken,
            (Self::Escaped, _) => Self::InString,
            (place, _) => place,
        }
    }

    fn is_in_string(self) -> bool {
        matches!(self, Self::InString | Self::Escaped)
    }
}

impl JsonWrapper {
    pub(super) fn new() -> Self {
        Self { at: OPEN.len(), place: Place::Outside }
    }

    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if byte == b'<' && !self.place.is_in_string() {
                match begins(&bytes[self.at..], &[CLOSE]) {
                    Begins::With(_) => return Some(self.at + CLOSE.len()),
                    Begins::Unsure => return None,
                    Begins::Otherwise => {}
                }
            }
            self.place = self.place.after(byte);
            self.at += 1;
        }
        None
    }
}

/// The keys that a call may begin with.
const FIRST_KEYS: [&str; 3] = ["\"name\"", "\"parameters\"", "\"type\""];

/// Tells as early as it can that a message is not one call and nothing else, so that no other answer is held back to its end.
#[derive(Clone, Debug)]
pub(in crate::chat) struct WholeMessage {
    at: usize, // bytes read
    part: Part,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Start,
    FirstKey,
    Object { depth: usize },
    After,
}

impl WholeMessage {
    pub(in crate::chat) fn new() -> Self {
        Self { at: 0, part: Part::Start, place: Place::Outside }
    }

    /// Reads on in a message that has grown since the last time. Whether it may still become a call.
    pub(in crate::chat) fn may_be_call(&mut self, text: &str) -> bool {
        let bytes = text.as_bytes();
        loop {
            match self.part {
                Part::Start => match begins_after_space(bytes, &mut self.at, &[PYTHON_TAG, "{"]) {
                    Begins::With(0) => self.at += PYTHON_TAG.len(),
                    Begins::With(_) => (self.at, self.part) = (self.at + 1, Part::FirstKey),
                    Begins::Unsure => return true,
                    Begins::Otherwise => return false,
                },
                Part::FirstKey => match begins_after_space(bytes, &mut self.at, &FIRST_KEYS) {
                    Begins::With(_) => self.part = Part::Object { depth: 1 },
                    Begins::Unsure => return true,
                    Begins::Otherwise => return false,
                },
                Part::Object { depth } => {
                    let Some(&byte) = bytes.get(self.at) else { return true };
                    let depth = match byte {
                        _ if self.place.is_in_string() => depth,
                        b'{' | b'[' => depth + 1,
                        b'}' | b']' => depth - 1,
                        _ => depth,
                    };
                    self.place = self.place.after(byte);
                    self.at += 1;
                    self.part = if depth == 0 { Part::After } else { Part::Object { depth } };
                    if self.place == Place::Broken {
                        return false;
                    }
                }
                Part::After => {
                    skip_space(bytes, &mut self.at);
                    return self.at == bytes.len();
                }
            }
        }
    }
}
