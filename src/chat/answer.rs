//! Splits what a chat model makes, as it arrives, into its reasoning, what it says, and the calls of tools that it makes.
//!
//! What comes out, deltas of a kind strung together, does not depend on how the text was cut on its way in. Text comes out as
//! soon as it is certain what it is: held back are what may become a tag, line ends that may turn out to be the last ones of a
//! part, which belong to the tag after it, and a call until it is whole. Each byte is looked at a bounded number of times.

use super::thinking::ThinkTags;
use super::tools::{Offer, Tool, ToolCall, ToolFormat, WholeMessage, Wrapper, beginning};

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Delta {
    /// More of the reasoning: without its tags, and without the line ends that it begins and ends with.
    Reasoning(String),
    /// More of what is said.
    Content(String),
    /// A call of a tool that was offered, whole.
    ToolCall(ToolCall),
}

/// The parser of one answer.
///
/// ```
/// use sterna::chat::{Answer, Delta, ThinkTags};
///
/// let mut answer = Answer::new(Some(ThinkTags::default()), false);
/// assert_eq!(answer.push("<think>\nTwo and tw"), [Delta::Reasoning("Two and tw".into())]);
/// assert_eq!(answer.push("o.\n</thi"), [Delta::Reasoning("o.".into())]);
/// assert_eq!(answer.push("nk>\n\nFour"), [Delta::Content("Four".into())]);
/// assert_eq!(answer.finish(), []);
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    tags: Option<ThinkTags>,
    begins_in_thought: bool,
    offer: Option<Offer>,
    only_one_call: bool,

    stage: Stage,
    held: String,        // what is not certain yet
    line_ends: usize,    // held back too, before that: they may be the last ones
    is_bare: bool,       // a tag is all that came before in this part: line ends belong to it
    is_after_call: bool, // nothing but line ends came since the last call
    calls: usize,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Of the first text, which may be the opening tag of a thought.
    Beginning,
    Thought,
    Content,
    /// Content that may be a call as a whole.
    Message(WholeMessage),
    Wrapper(Wrapper),
    Over,
}

impl Answer {
    /// A parser that looks for reasoning in these tags, if there are any, and for no calls. `begins_in_thought`: the prompt ends
    /// inside a thought, so that the model begins with reasoning; otherwise it does only if it begins with the opening tag.
    pub fn new(tags: Option<ThinkTags>, begins_in_thought: bool) -> Self {
        let mut answer = Self {
            begins_in_thought,
            tags,
            offer: None,
            only_one_call: false,
            stage: Stage::Beginning,
            held: String::new(),
            line_ends: 0,
            is_bare: false,
            is_after_call: false,
            calls: 0,
        };
        if answer.tags.is_none() {
            answer.begin_content();
        }
        answer
    }

    /// Looks for calls of these tools too. To be asked of a new parser.
    #[must_use]
    pub fn with_tools(mut self, format: ToolFormat, tools: &[Tool]) -> Self {
        self.offer = Some(Offer::new(format, tools));
        if self.tags.is_none() {
            self.begin_content();
        }
        self
    }

    /// Takes one call and nothing after it: the answer [is over](Self::is_over) then, and whoever makes it should stop.
    #[must_use]
    pub fn with_one_call(mut self) -> Self {
        self.only_one_call = true;
        self
    }

    /// Takes more text; returns what has become certain. A tag that is a control token, which has no bytes, has to be given as it
    /// is spelled: see [`Answer::tags`].
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        let mut out = Vec::new();
        let mut held = std::mem::take(&mut self.held);
        held.push_str(text);
        let mut read = 0;
        while let Some(more) = self.read(&held[read..], &mut out) {
            read += more;
        }
        held.drain(..read);
        self.held = held;
        out
    }

    /// The end of the answer: returns what was still held back. A call that is not whole is content, and a thought without an end
    /// is all reasoning. Nothing is taken after that.
    pub fn finish(&mut self) -> Vec<Delta> {
        let mut out = Vec::new();
        let held = std::mem::take(&mut self.held);
        match self.stage {
            Stage::Over => return out,
            Stage::Beginning if self.begins_in_thought => self.begin_thought(),
            Stage::Message(_) => match self.offer.as_ref().and_then(|offer| offer.calls_of_message(&held)) {
                Some(calls) => {
                    self.give_calls(calls, &mut out);
                    self.stage = Stage::Over;
                    return out;
                }
                None => self.stage = Stage::Content,
            },
            Stage::Beginning | Stage::Wrapper(_) => self.stage = Stage::Content,
            Stage::Thought | Stage::Content => {}
        }
        self.give(&held, &mut out);
        if matches!(self.stage, Stage::Content) && !self.is_after_call {
            let line_ends = "\n".repeat(std::mem::take(&mut self.line_ends));
            self.say(line_ends, &mut out);
        }
        self.stage = Stage::Over;
        out
    }

    /// Whether reasoning is what comes next, as far as is known. A token belongs to the reasoning if this is so before its text is
    /// taken.
    pub fn is_in_thought(&self) -> bool {
        match self.stage {
            Stage::Beginning => self.begins_in_thought,
            Stage::Thought => true,
            Stage::Content | Stage::Message(_) | Stage::Wrapper(_) | Stage::Over => false,
        }
    }

    /// Whether nothing more is taken: it was finished, or had the one call that was wanted.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// How many calls were given out.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// The tags that are looked for. A control token that is spelled like one of them has no bytes of its own, and has to be
    /// given to [`Answer::push`] as it is spelled.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let thinking = self.tags.iter().flat_map(|tags| [tags.open.as_str(), tags.close.as_str()]);
        thinking.chain(self.offer.iter().flat_map(|offer| offer.tags().iter().copied()))
    }

    /// Reads on in a text that begins with what is not certain yet. Bytes that are done with; none if more has to come first.
    fn read(&mut self, text: &str, out: &mut Vec<Delta>) -> Option<usize> {
        match &mut self.stage {
            Stage::Beginning => {
                let open = self.tags.as_ref().map_or("", |tags| &tags.open);
                let is_opened = text.starts_with(open);
                if !is_opened && open.starts_with(text) {
                    return None;
                }
                let read = if is_opened { open.len() } else { 0 };
                if is_opened || self.begins_in_thought {
                    self.begin_thought()
                } else {
                    self.begin_content()
                }
                Some(read)
            }
            Stage::Thought => {
                let close = self.tags.as_ref().map_or("", |tags| &tags.close);
                let (certain, tag) = before(text, close);
                self.give(&text[..certain], out);
                match tag {
                    Some(tag) => {
                        self.begin_content();
                        (self.is_bare, self.line_ends) = (true, 0);
                        Some(certain + tag)
                    }
                    None => (certain > 0).then_some(certain),
                }
            }
            Stage::Content => {
                let opening = self.offer.as_ref().and_then(Offer::opening);
                let (certain, tag) = opening.map_or((text.len(), None), |opening| before(text, opening));
                self.give(&text[..certain], out);
                if let (Some(_), Some(offer)) = (tag, &self.offer) {
                    self.stage = Stage::Wrapper(offer.wrapper());
                    return Some(certain);
                }
                (certain > 0).then_some(certain)
            }
            Stage::Message(message) => {
                if message.may_be_call(text) {
                    return None;
                }
                self.stage = Stage::Content;
                Some(0)
            }
            Stage::Wrapper(wrapper) => {
                let end = wrapper.end(text)?;
                let calls = self.offer.as_ref().and_then(|offer| wrapper.calls(&text[..end], offer));
                self.stage = Stage::Content;
                match calls {
                    Some(calls) => self.give_calls(calls, out),
                    None => self.give(&text[..end], out),
                }
                Some(end)
            }
            Stage::Over => (!text.is_empty()).then_some(text.len()),
        }
    }

    fn begin_thought(&mut self) {
        self.stage = Stage::Thought;
        self.is_bare = true;
    }

    fn begin_content(&mut self) {
        self.stage = match &self.offer {
            Some(offer) if offer.opening().is_none() => Stage::Message(WholeMessage::new()),
            _ => Stage::Content,
        };
    }

    /// Gives out text that certainly belongs to this part, but for line ends that may be its last.
    fn give(&mut self, text: &str, out: &mut Vec<Delta>) {
        let text = if self.is_bare { text.trim_start_matches('\n') } else { text };
        let may_end =
            matches!(self.stage, Stage::Thought) || self.offer.as_ref().is_some_and(|o| o.opening().is_some());
        let said = if may_end { text.trim_end_matches('\n') } else { text };
        let line_ends = text.len() - said.len();
        if said.is_empty() {
            self.line_ends += line_ends;
            return;
        }
        let before = "\n".repeat(std::mem::replace(&mut self.line_ends, line_ends));
        (self.is_bare, self.is_after_call) = (false, false);
        self.say(before + said, out);
    }

    /// Gives out calls, and with them whatever line ends came before.
    fn give_calls(&mut self, calls: Vec<ToolCall>, out: &mut Vec<Delta>) {
        (self.line_ends, self.is_after_call) = (0, true);
        let wanted = if self.only_one_call { 1 } else { calls.len() };
        for call in calls.into_iter().take(wanted) {
            self.calls += 1;
            out.push(Delta::ToolCall(call));
        }
        if self.only_one_call {
            self.stage = Stage::Over;
        }
    }

    /// Gives out text of this part.
    fn say(&self, text: String, out: &mut Vec<Delta>) {
        let is_reasoning = matches!(self.stage, Stage::Thought);
        match out.last_mut() {
            _ if text.is_empty() => {}
            Some(Delta::Reasoning(last)) if is_reasoning => last.push_str(&text),
            Some(Delta::Content(last)) if !is_reasoning => last.push_str(&text),
            _ if is_reasoning => out.push(Delta::Reasoning(text)),
            _ => out.push(Delta::Content(text)),
        }
    }
}

/// How much of a text comes before a tag, and the tag's bytes if it is there. Without it, as much as cannot belong to one.
fn before(text: &str, tag: &str) -> (usize, Option<usize>) {
    match text.find(tag) {
        Some(place) => (place, Some(tag.len())),
        None => (text.len() - beginning(text, tag), None),
    }
}

#[cfg(test)]
mod tests;
