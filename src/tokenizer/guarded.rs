//! Texts of people within a prompt: what they spell is text, and no control token, whatever a template puts around it (feature
//! `chat`).

use std::borrow::Cow;

use super::Tokenizer;
use crate::error::Result;

impl Tokenizer {
    /// A text in which no control token is spelled any more, nor begun at its end: `mark` stands within each that was. What such a
    /// text becomes part of is for [`encode_guarded_prompt`](Self::encode_guarded_prompt).
    pub(crate) fn guarded<'a>(&self, text: &'a str, mark: char) -> Cow<'a, str> {
        let first = |place: usize| text[place..].chars().next().map_or(0, char::len_utf8);
        let mut places: Vec<usize> =
            self.special.control_places(text).iter().map(|&place| place + first(place)).collect();
        if !self.late.is_empty() && !self.late.control_places(&self.algorithm.normalized(text)).is_empty() {
            // Where it stands in the text is not known: all of the stretch that the text becomes part of is text.
            places.push(first(0));
        }
        // What a template puts behind the text must not complete a token; spaces at its end may be taken off before that.
        let trimmed = text.trim_end();
        if self.special.is_begun_by(trimmed) || self.late.is_begun_by(trimmed) {
            places.push(trimmed.len());
        }
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        places.sort_unstable();
        places.dedup();
        let (mut guarded, mut from) = (String::with_capacity(text.len() + places.len() * mark.len_utf8()), 0);
        for place in places {
            guarded.push_str(&text[from..place]);
            guarded.push(mark);
            from = place;
        }
        guarded.push_str(&text[from..]);
        Cow::Owned(guarded)
    }

    /// [`encode_prompt`](Self::encode_prompt) of a text that holds [guarded](Self::guarded) ones: their marks are left out, and
    /// what they stand in is text.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_guarded_prompt(&self, text: &str, mark: char) -> Result<Vec<u32>> {
        Ok(self.after_bos(self.encode_guarded(text, mark)?))
    }

    /// The same without BOS.
    pub(crate) fn encode_guarded(&self, text: &str, mark: char) -> Result<Vec<u32>> {
        self.encode_fragments(text, true, Some(mark))
    }
}
