//! The sampler that lets another draw among the tokens that a matcher lets pass.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

use crate::error::{Error, Result};
use crate::generate::{Draw, History, Logits, Need, Sampler};

use super::compile::Compiler;

/// Spaces and line breaks between the text that a constraint begins after and the answer, in bytes.
const MOST_BLANKS: usize = 4;

/// See [`Constraint::sampler`](super::Constraint::sampler).
pub(super) struct Constrained {
    compiler: Arc<Compiler>,
    matcher: Matcher,
    inner: Box<dyn Sampler>,
    opening: Option<Opening>, // until its text was made
    blanks: usize,            // that may still come before the answer, in bytes
    followed: usize,          // tokens made that the matcher, or the opening, knows
}

/// What comes before the constraint begins.
struct Opening {
    text: Vec<u8>,
    tail: Vec<u8>,                  // the last bytes that were made, fewer than those of the text
    beyond: Vec<(usize, Vec<u32>)>, // tokens that begin with the text's last so many bytes, and go on with what is not blank
}

impl Constrained {
    pub(super) fn new(compiler: Arc<Compiler>, matcher: Matcher, inner: Box<dyn Sampler>, after: Option<&str>) -> Self {
        let opening = after.filter(|text| !text.is_empty()).map(|text| Opening::new(text.as_bytes(), &compiler));
        let blanks = if opening.is_some() { MOST_BLANKS } else { 0 };
        Self { compiler, matcher, inner, opening, blanks, followed: 0 }
    }

    /// Takes note of the tokens made since the last draw: its own, and those that others put there.
    fn follow(&mut self, history: &History<'_>) -> Result<()> {
        let made = history.made();
        while self.followed < made.len() {
            let id = made[self.followed];
            self.followed += 1;
            if let Some(opening) = &mut self.opening {
                let Some(beyond) = opening.push(self.compiler.vocabulary.text(id)) else { continue };
                self.opening = None;
                let blanks = beyond.iter().take_while(|byte| is_blank(byte)).count();
                self.blanks = self.blanks.saturating_sub(blanks);
                let begun = self.compiler.vocabulary.trie().greedy_tokenize(&beyond[blanks..]);
                self.commit(&begun)?;
            } else if !self.is_blank_before_the_answer(id) {
                self.commit(&[id])?;
            }
        }
        Ok(())
    }

    /// Whether the token comes before the answer; if so, it is counted.
    fn is_blank_before_the_answer(&mut self, id: u32) -> bool {
        let text = self.compiler.vocabulary.text(id);
        let is_before = !text.is_empty() && text.len() <= self.blanks && text.iter().all(is_blank);
        self.blanks = if is_before { self.blanks - text.len() } else { 0 };
        is_before
    }

    fn commit(&mut self, ids: &[u32]) -> Result<()> {
        // What ends the answer may be drawn again and again by who goes on past it.
        let ids = if self.matcher.is_stopped() && !self.matcher.is_error() { &[] } else { ids };
        self.matcher.consume_tokens(ids).map_err(|error| cannot_go_on(&error))
    }

    /// Rules out what may not follow; the token that must, if it is but one.
    fn mask(&mut self, logits: &mut [f32]) -> Result<Option<u32>> {
        let vocabulary = &self.compiler.vocabulary;
        if let Some(opening) = &self.opening {
            let ends = vocabulary.ends.iter();
            for &id in ends.chain(opening.beyond()) {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            return Ok(None);
        }
        let mut allowed = self.matcher.compute_mask_or_eos().map_err(|error| cannot_go_on(&error))?;
        for &(id, bytes) in &vocabulary.blanks {
            if bytes <= self.blanks {
                allowed.allow_token(id);
            }
        }
        Ok(keep_only(&allowed, logits))
    }
}

impl Sampler for Constrained {
    /// All: which tokens may follow is known only once the last one is, and the best of them may be any.
    fn needs(&self, _: &History<'_>) -> Need {
        Need::Logits
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw> {
        let Logits::All(logits) = logits else { return Ok(Draw::NeedsAll) };
        self.follow(history)?;
        if let Some(id) = self.mask(logits)? {
            return Ok(Draw::Token(id));
        }
        let drawn = match self.inner.needs(history) {
            Need::Best => first_of_the_largest(logits).map(Draw::Token),
            _ => self.inner.draw(Logits::All(logits), history),
        };
        // The network's own logits are finite where they come from a session, so that the mask and what `inner` does to them is all
        // that can have left none.
        drawn.map_err(|error| match error {
            Error::NotFinite(_) => {
                Error::Input("the biases rule out every token that the constraint lets follow".into())
            }
            error => error,
        })
    }
}

impl Opening {
    fn new(text: &[u8], compiler: &Compiler) -> Self {
        let vocabulary = &compiler.vocabulary;
        let mut beyond: Vec<(usize, Vec<u32>)> = (1..=text.len()).map(|bytes| (bytes, Vec::new())).collect();
        for id in 0..vocabulary.trie().vocab_size() as u32 {
            let token = vocabulary.text(id);
            for (bytes, ids) in &mut beyond {
                let rest = token.strip_prefix(&text[text.len() - *bytes..]);
                if rest.is_some_and(|rest| !rest.iter().all(is_blank)) {
                    ids.push(id);
                }
            }
            // A token may have all of the text within it.
            if token.len() > text.len()
                && find(token, text).is_some_and(|at| at > 0 && !token[at + text.len()..].iter().all(is_blank))
            {
                beyond[text.len() - 1].1.push(id);
            }
        }
        Self { text: text.to_vec(), tail: Vec::new(), beyond }
    }

    /// Notes what was made; what was made beyond the text, once all of that was.
    fn push(&mut self, made: &[u8]) -> Option<Vec<u8>> {
        self.tail.extend_from_slice(made);
        if let Some(at) = find(&self.tail, &self.text) {
            return Some(self.tail.split_off(at + self.text.len()));
        }
        let useless = self.tail.len().saturating_sub(self.text.len() - 1);
        self.tail.drain(..useless);
        None
    }

    /// Tokens that would make the rest of the text and more than blanks after it.
    fn beyond(&self) -> impl Iterator<Item = &u32> {
        let fits = |(bytes, _): &&(usize, Vec<u32>)| self.tail.ends_with(&self.text[..self.text.len() - bytes]);
        self.beyond.iter().filter(fits).flat_map(|(_, ids)| ids)
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// All other logits become −∞. The token that is allowed, if it is one.
fn keep_only(allowed: &SimpleVob, logits: &mut [f32]) -> Option<u32> {
    let words = allowed.as_slice();
    let (mut count, mut last) = (0, 0);
    for (place, piece) in logits.chunks_mut(32).enumerate() {
        match words.get(place).copied().unwrap_or(0) {
            0 => piece.fill(f32::NEG_INFINITY),
            word => {
                for (bit, logit) in piece.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    } else {
                        (count, last) = (count + 1, place * 32 + bit);
                    }
                }
            }
        }
    }
    (count == 1).then_some(last as u32)
}

fn first_of_the_largest(logits: &[f32]) -> Result<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.0 {
            best = (logit, Some(id as u32));
        }
    }
    best.1.ok_or_else(Error::not_finite)
}

fn cannot_go_on(error: &impl std::fmt::Display) -> Error {
    let said = error.to_string();
    Error::Unsupported(format!(
        "the answer cannot go on within its constraint: {}",
        said.split("\n<").next().unwrap_or_default()
    ))
}
