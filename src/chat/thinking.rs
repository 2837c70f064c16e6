//! Thoughts: the tags that a model sets around them, and a limit to how long it thinks.

use std::cell::RefCell;

use crate::error::Result;
use crate::generate::{Draw, History, Logits, Need, Sampler};
use crate::model::Model;

/// What a model sets around its reasoning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinkTags {
    /// Before it.
    pub open: String,
    /// After it.
    pub close: String,
}

impl Default for ThinkTags {
    /// `<think>` and `</think>`.
    fn default() -> Self {
        Self { open: "<think>".into(), close: "</think>".into() }
    }
}

impl ThinkTags {
    /// The tags of a template that knows thoughts: it takes them off earlier answers, and may open one itself.
    pub fn of_template(source: &str) -> Option<Self> {
        let tags = Self::default();
        source.contains(&tags.close).then_some(tags)
    }

    /// What ends a thought at any point: the closing tag as models set it, on a line of its own.
    pub fn ending(&self) -> String {
        format!("\n{}\n\n", self.close)
    }

    /// Whether a text ends inside a thought. Meant for what a template puts after the last message: in a message, a tag is text.
    pub fn is_left_open(&self, text: &str) -> bool {
        text.rfind(&self.open).is_some_and(|place| !text[place..].contains(&self.close))
    }
}

/// Ends a thought that grows too long: after so many tokens of it, draws those of [`ThinkTags::ending`], whatever the model would
/// rather say, and leaves all other draws to another sampler.
///
/// It has to be the outermost sampler of its sequence, since what others rule out does not hold for what it draws; they find it in
/// the history.
pub struct ThinkingBudget {
    inner: Box<dyn Sampler>,
    watch: RefCell<Watch>, // brought up to date whenever it is asked, as the most likely token may be taken without a draw
}

impl ThinkingBudget {
    /// At most `budget` tokens of reasoning: with 0, a thought is closed as soon as it begins. `begins_in_thought`: the prompt ends
    /// inside a thought; otherwise one begins only if the opening tag is the first that is made. `model` is the one that thinks.
    ///
    /// # Errors
    /// [`Error::Input`](crate::Error::Input) if the model has no tokenizer, otherwise as
    /// [`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode).
    pub fn new(
        inner: Box<dyn Sampler>,
        budget: usize,
        tags: &ThinkTags,
        begins_in_thought: bool,
        model: &Model,
    ) -> Result<Self> {
        let ending = model.tokenizer()?.encode(&tags.ending())?;
        let model = model.clone();
        let spell = move |id| {
            model.some_tokenizer().map_or_else(Vec::new, |tokenizer| {
                match tokenizer.token_bytes(id) {
                    // A tag may be a control token, which has none.
                    [] => tokenizer.token_text(id).unwrap_or_default().into(),
                    bytes => bytes.into(),
                }
            })
        };
        Ok(Self::spelled(inner, budget, tags.clone(), begins_in_thought, ending, spell))
    }

    fn spelled(
        inner: Box<dyn Sampler>,
        budget: usize,
        tags: ThinkTags,
        begins_in_thought: bool,
        ending: Vec<u32>,
        spell: impl Fn(u32) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let mut watch =
            Watch { tags, budget, ending, spell: Box::new(spell), seen: 0, tail: Vec::new(), stage: Stage::Beginning };
        if begins_in_thought {
            watch.stage = Stage::Thought { spent: 0 };
            watch.close_if_spent();
        }
        Self { inner, watch: RefCell::new(watch) }
    }

    /// The token that has to come next, if the thought is being ended.
    fn forced(&self, history: &History<'_>) -> Option<u32> {
        self.watch.borrow_mut().forced(history.made())
    }
}

impl Sampler for ThinkingBudget {
    /// What comes next is drawn, so it must not be taken without a draw.
    fn needs(&self, history: &History<'_>) -> Need {
        match self.forced(history) {
            Some(_) => Need::Candidates(1),
            None => self.inner.needs(history),
        }
    }

    fn draw(&mut self, logits: Logits<'_>, history: &History<'_>) -> Result<Draw> {
        match self.forced(history) {
            Some(id) => Ok(Draw::Token(id)),
            None => self.inner.draw(logits, history),
        }
    }
}

/// What was made so far, as far as thoughts go.
struct Watch {
    tags: ThinkTags,
    budget: usize,
    ending: Vec<u32>,
    spell: Box<dyn Fn(u32) -> Vec<u8> + Send>,

    seen: usize,   // tokens
    tail: Vec<u8>, // the text at whose end a tag may begin
    stage: Stage,
}

enum Stage {
    Beginning,
    Thought {
        spent: usize,
    },
    /// The thought is being ended: so many tokens of that were made.
    Ending {
        made: usize,
    },
    Over,
}

impl Watch {
    fn forced(&mut self, made: &[u32]) -> Option<u32> {
        while let Some(&id) = made.get(self.seen) {
            self.seen += 1;
            self.see(id);
        }
        match self.stage {
            Stage::Ending { made } => self.ending.get(made).copied(),
            Stage::Beginning | Stage::Thought { .. } | Stage::Over => None,
        }
    }

    fn see(&mut self, id: u32) {
        match &mut self.stage {
            Stage::Beginning => {
                self.tail.extend((self.spell)(id));
                let open = self.tags.open.as_bytes();
                if self.tail.starts_with(open) {
                    self.stage = Stage::Thought { spent: 0 };
                    self.look_for_close();
                } else if !open.starts_with(&self.tail) {
                    self.stage = Stage::Over;
                }
            }
            Stage::Thought { spent } => {
                *spent += 1;
                self.tail.extend((self.spell)(id));
                self.look_for_close();
            }
            Stage::Ending { made } if self.ending.get(*made) == Some(&id) => *made += 1,
            Stage::Ending { .. } | Stage::Over => {}
        }
        self.close_if_spent();
    }

    /// Looks for the closing tag in the newest text, and forgets what cannot belong to one.
    fn look_for_close(&mut self) {
        let close = self.tags.close.as_bytes();
        if self.tail.windows(close.len().max(1)).any(|window| window == close) {
            self.stage = Stage::Over;
        }
        let old = self.tail.len().saturating_sub(close.len().saturating_sub(1));
        self.tail.drain(..old);
    }

    fn close_if_spent(&mut self) {
        if matches!(self.stage, Stage::Thought { spent } if spent >= self.budget) {
            self.stage = Stage::Ending { made: 0 };
        }
    }
}

#[cfg(test)]
mod tests;
