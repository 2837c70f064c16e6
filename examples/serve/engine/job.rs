//! A request that the engine has: what is left to do of it, and what its client was not told yet.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sterna::generate::Session;
use tokio::sync::mpsc::error::TrySendError;

use super::embed::Embedding;
use super::generate::Sequences;
use super::score::Scoring;
use super::{Event, Request};

/// A request that waits, or runs.
pub struct Job {
    pub request: Request,
    pub work: Work,
    /// When it was given its first slot.
    pub begun: Option<Instant>,
    /// When it was given its last slot, or came.
    pub turn: u64,
    pub unsent: VecDeque<Event>, // which its client has no room for
    pub stalled: Option<Instant>,
    pub is_over: bool,
}

/// What is left to do of a request.
pub enum Work {
    Sequences(Sequences),
    Scoring(Scoring),
    Embedding(Embedding),
}

impl Job {
    /// Tells its client, or keeps it until there is room.
    pub fn send(&mut self, event: Event) {
        self.unsent.push_back(event);
        self.flush();
    }

    pub fn flush(&mut self) {
        while let Some(event) = self.unsent.pop_front() {
            match self.request.events.try_send(event) {
                Ok(()) => self.stalled = None,
                Err(TrySendError::Full(event)) => {
                    self.unsent.push_front(event);
                    self.stalled.get_or_insert_with(Instant::now);
                    return;
                }
                // Nobody is left who wants it.
                Err(TrySendError::Closed(_)) => self.unsent.clear(),
            }
        }
        self.stalled = None;
    }

    /// Tokens of a request that makes none.
    pub fn read_tokens(&self) -> usize {
        match &self.work {
            Work::Sequences(_) => 0,
            Work::Scoring(scoring) => scoring.tokens(),
            Work::Embedding(embedding) => embedding.tokens(),
        }
    }

    /// Whether nobody waits for it any more.
    pub fn is_deserted(&self) -> bool {
        self.request.client.is_gone.load(Ordering::Relaxed) || self.request.events.is_closed()
    }

    /// Whether a slot would let it go on.
    pub fn wants_slot(&self) -> bool {
        match &self.work {
            Work::Sequences(sequences) => self.stalled.is_none() && sequences.wants_slot(),
            Work::Scoring(_) | Work::Embedding(_) => self.begun.is_none(),
        }
    }

    /// How far it came, for who counts those that were cancelled.
    pub fn stage(&self, session: &Session) -> &'static str {
        match &self.work {
            _ if self.begun.is_none() => "queued",
            Work::Sequences(sequences) if sequences.makes_tokens(session) => "decode",
            _ => "prefill",
        }
    }
}
