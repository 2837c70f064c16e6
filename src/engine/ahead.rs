//! Greedy decoding ahead of the host: steps that a device was given before the one before them was read.

use crate::backend::Row;
use crate::engine::Step;

/// Steps of greedy decoding that the device has and nobody has read.
pub(super) struct Ahead {
    pub(super) steps: usize,
    /// The rows that the first of them computes, and the tokens that it was given: those last read.
    pub(super) rows: Vec<Row>,
    pub(super) tokens: Vec<u32>,
    /// The rows of the last.
    pub(super) last_rows: Vec<Row>,
}

impl Ahead {
    pub(super) fn with_room(rows: usize, selected: usize) -> Self {
        Self {
            steps: 0,
            rows: Vec::with_capacity(rows),
            tokens: Vec::with_capacity(selected),
            last_rows: Vec::with_capacity(rows),
        }
    }

    /// Whether the step was started already: then it is the first of those that wait to be read.
    pub(super) fn has_started(&self, step: &Step<'_>) -> bool {
        self.steps > 0 && self.rows == step.rows && self.tokens == step.tokens
    }
}
