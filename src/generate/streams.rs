//! The iterators of a single generation: its tokens, or its text.

use crate::error::Result;
use crate::generate::{Batch, Finish};
use crate::measure::Timings;

/// An iterator over the token ids of one generation.
#[derive(Debug)]
pub struct TokenIds<'s> {
    batch: Batch<'s>,
    finish: Option<Finish>,
}

/// An iterator over the text of one generation. Each item is text of whole characters; together they are the output.
#[derive(Debug)]
pub struct Text<'s> {
    batch: Batch<'s>,
    ids: Vec<u32>,
    finish: Option<Finish>,
}

impl<'s> TokenIds<'s> {
    pub(super) fn new(batch: Batch<'s>) -> Self {
        Self { batch, finish: None }
    }

    /// Why the generation ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Time and tokens of the steps so far: of the last one, some tokens may still be to come.
    pub fn timings(&self) -> Timings {
        self.batch.timings()
    }
}

impl<'s> Text<'s> {
    pub(super) fn new(batch: Batch<'s>) -> Self {
        Self { batch, ids: Vec::new(), finish: None }
    }

    /// The ids made so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Why the generation ended; `None` while it goes on.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Time and tokens of the steps so far: of the last one, some tokens may still be to come.
    pub fn timings(&self) -> Timings {
        self.batch.timings()
    }
}

impl Iterator for TokenIds<'_> {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.batch.next()? {
                Err(error) => return Some(Err(error)),
                Ok(piece) => {
                    self.finish = piece.finish;
                    if let Some(id) = piece.id {
                        return Some(Ok(id));
                    }
                }
            }
        }
    }
}

impl Iterator for Text<'_> {
    type Item = Result<String>;

    /// One item a token, so that the caller can act between tokens; an item may be empty while a character is
    /// incomplete.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batch.next()?.map(|piece| {
            self.finish = piece.finish;
            self.ids.extend(piece.id);
            piece.text
        }))
    }
}
