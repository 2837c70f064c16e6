//! Calls as Qwen 3.5 spells them, with the text of each argument between tags:
//!
//! ```text
//! <tool_call>
//! <function=NAME>
//! <parameter=KEY>
//! VALUE
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! Nothing in a value is escaped, so it may hold any of these tags, as when the model writes a file about them. A value ends at
//! the first closing tag after which the call goes on as a call must: with another parameter or the function's end.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;

use super::marks::{Begins, begins, begins_after_space};
use super::{Arguments, CLOSE, OPEN, Offer, ToolCall, values};

const FUNCTION: &str = "<function=";
const END_FUNCTION: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const END_PARAMETER: &str = "</parameter>";

/// Reads a wrapper as it arrives: what is where in it, in bytes from its beginning.
#[derive(Clone, Debug)]
pub(in crate::chat) struct XmlWrapper {
    at: usize, // bytes read
    part: Part,
    functions: Vec<Function>,
    is_sound: bool,
}

#[derive(Clone, Debug)]
struct Function {
    name: Range<usize>,
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug)]
struct Parameter {
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// Before a function, or after the last one.
    Functions,
    /// Within a function's name, which begins here.
    Name(usize),
    /// Before a parameter, or after the last one.
    Parameters,
    /// Within a parameter's name, which begins here.
    Key(usize),
    /// Within the last parameter's value.
    Value,
    /// After what may be the end of that value.
    AfterValue,
    /// After what may be the end of a function whose last value was not ended.
    AfterFunction,
    /// After something that no call has.
    Broken,
}

impl XmlWrapper {
    pub(super) fn new() -> Self {
        Self { at: OPEN.len(), part: Part::Functions, functions: Vec::new(), is_sound: true }
    }

    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        loop {
            match self.part {
                Part::Functions => match self.next(bytes, &[FUNCTION, CLOSE]) {
                    Begins::With(0) => self.part = Part::Name(self.at),
                    Begins::With(_) => return Some(self.at),
                    Begins::Unsure => return None,
                    Begins::Otherwise => self.part = Part::Broken,
                },
                Part::Name(start) => {
                    let name = self.name(bytes, start)?;
                    if !name.is_empty() {
                        self.functions.push(Function { name, parameters: Vec::new() });
                        self.part = Part::Parameters;
                    }
                }
                Part::Parameters => match self.next(bytes, &[PARAMETER, END_FUNCTION]) {
                    Begins::With(0) => self.part = Part::Key(self.at),
                    Begins::With(_) => self.part = Part::Functions,
                    Begins::Unsure => return None,
                    Begins::Otherwise => self.part = Part::Broken,
                },
                Part::Key(start) => {
                    let key = self.name(bytes, start)?;
                    if !key.is_empty() {
                        let value = self.at..self.at;
                        self.parameters().push(Parameter { key, value });
                        self.part = Part::Value;
                    }
                }
                Part::Value => {
                    self.at += bytes[self.at..].iter().take_while(|byte| **byte != b'<').count();
                    let end = self.at;
                    match begins(&bytes[end..], &[END_PARAMETER, END_FUNCTION]) {
                        Begins::With(0) => {
                            let parameter = self.parameters().last_mut().expect("a value comes after its key");
                            parameter.value.end = end;
                            (self.at, self.part) = (end + END_PARAMETER.len(), Part::AfterValue);
                        }
                        Begins::With(_) => (self.at, self.part) = (end + END_FUNCTION.len(), Part::AfterFunction),
                        Begins::Unsure => return None,
                        Begins::Otherwise => self.at += 1,
                    }
                }
                Part::AfterValue => match self.next(bytes, &[PARAMETER, END_FUNCTION, CLOSE]) {
                    Begins::With(0) => self.part = Part::Key(self.at),
                    Begins::With(1) => self.part = Part::Functions,
                    Begins::With(_) => return self.unsound(),
                    Begins::Unsure => return None,
                    Begins::Otherwise => self.part = Part::Value,
                },
                Part::AfterFunction => match self.next(bytes, &[CLOSE]) {
                    Begins::With(_) => return self.unsound(),
                    Begins::Unsure => return None,
                    Begins::Otherwise => self.part = Part::Value,
                },
                Part::Broken => {
                    self.at += bytes[self.at..].iter().take_while(|byte| **byte != b'<').count();
                    match begins(&bytes[self.at..], &[CLOSE]) {
                        Begins::With(_) => {
                            self.at += CLOSE.len();
                            return self.unsound();
                        }
                        Begins::Unsure => return None,
                        Begins::Otherwise => self.at += 1,
                    }
                }
            }
        }
    }

    /// What comes after white space, which is read, and so is the tag.
    fn next(&mut self, bytes: &[u8], tags: &[&str]) -> Begins {
        let next = begins_after_space(bytes, &mut self.at, tags);
        if let Begins::With(index) = next {
            self.at += tags[index].len();
        }
        next
    }

    /// The name that begins here and ends with a `>`, once that is there: nothing of it otherwise, and then the wrapper is broken.
    fn name(&mut self, bytes: &[u8], start: usize) -> Option<Range<usize>> {
        let is_end = |byte: &u8| matches!(byte, b'>' | b'<' | b'\n');
        self.at += bytes[self.at..].iter().take_while(|byte| !is_end(byte)).count();
        let end = self.at;
        if *bytes.get(end)? == b'>' && end > start {
            self.at += 1;
            return Some(start..end);
        }
        self.part = Part::Broken;
        Some(start..start)
    }

    /// Those of the function that is being read.
    fn parameters(&mut self) -> &mut Vec<Parameter> {
        &mut self.functions.last_mut().expect("a key comes after the function's name").parameters
    }

    fn unsound(&mut self) -> Option<usize> {
        self.is_sound = false;
        Some(self.at)
    }

    pub(super) fn calls(&self, text: &str, offer: &Offer) -> Option<Vec<ToolCall>> {
        let calls: Vec<ToolCall> =
            self.functions.iter().map(|function| function.call(text, offer)).collect::<Option<_>>()?;
        (self.is_sound && !calls.is_empty()).then_some(calls)
    }
}

impl Function {
    fn call(&self, text: &str, offer: &Offer) -> Option<ToolCall> {
        let name = text[self.name.clone()].trim();
        let schema = offer.parameters(name)?;
        let mut keys = HashSet::new();
        let mut object = String::from("{");
        for Parameter { key, value } in &self.parameters {
            let (key, value) = (text[key.clone()].trim(), without_line_ends(&text[value.clone()]));
            if !keys.insert(key) {
                return None;
            }
            let comma = if keys.len() > 1 { ", " } else { "" };
            object.push_str(&format!("{comma}{}: {}", Value::from(key), values::json(value, key, schema)));
        }
        object.push('}');
        Some(ToolCall { id: None, name: name.to_owned(), arguments: Arguments::new(object).ok()? })
    }
}

/// A value without the line ends that set it apart from its tags.
fn without_line_ends(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}
