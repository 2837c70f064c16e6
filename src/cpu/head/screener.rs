//! What screening works with.

use std::ops::Range;

use crate::allocation::{area, filled};
use crate::backend::MOST_CANDIDATES;
use crate::cpu::screen::{Probe, Size, TOGETHER};
use crate::error::Result;
use crate::ranking::Ranking;

/// What screening works with, used again from step to step.
pub(in crate::cpu) struct Screener {
    pub(super) outliers: Vec<i16>,         // [TOGETHER, outliers]
    pub(super) others: Vec<i8>,            // [2, vectors that are together, others]
    pub(super) digits: Vec<i8>,            // [2, others], those of one vector
    pub(super) y: Vec<f32>,                // [cols]
    pub(super) probes: Vec<Option<Probe>>, // [TOGETHER]
    pub(super) uppers: Vec<f32>,           // [TOGETHER, vocabulary]
    pub(super) left: Vec<u32>,             // the tokens left in the running, at most the vocabulary
    pub(super) logits: Vec<f32>,           // theirs, or their upper bounds
    pub(super) ranking: Ranking,
    pub(super) steps_of_both: u32,        // that are still to read both planes
    pub(in crate::cpu) exact_logits: u64, // computed so far for rows that were screened
}

impl Screener {
    pub(in crate::cpu) fn new() -> Self {
        Self {
            outliers: Vec::new(),
            others: Vec::new(),
            digits: Vec::new(),
            y: Vec::new(),
            probes: Vec::with_capacity(TOGETHER),
            uppers: Vec::new(),
            left: Vec::new(),
            logits: Vec::new(),
            ranking: Ranking::new(),
            steps_of_both: 0,
            exact_logits: 0,
        }
    }

    /// Whether there is a head with a screen, or one to come.
    pub(in crate::cpu) fn is_ready(&self) -> bool {
        !self.uppers.is_empty()
    }

    /// Makes room to rank as many candidates as may be asked for, and as many more, so that no step allocates.
    pub(in crate::cpu) fn reserve_ranking(&mut self) -> Result<()> {
        self.ranking.reserve(2 * MOST_CANDIDATES)
    }

    /// Makes room for a screen, so that no step allocates.
    pub(in crate::cpu) fn reserve(&mut self, size: &Size) -> Result<()> {
        fn room<T: Clone>(values: &mut Vec<T>, len: usize, value: T) -> Result<()> {
            *values = filled(len.max(values.len()), value)?;
            Ok(())
        }
        room(&mut self.outliers, area(TOGETHER, size.outliers)?, 0)?;
        room(&mut self.others, area(2 * TOGETHER, size.others)?, 0)?;
        room(&mut self.digits, area(2, size.others)?, 0)?;
        room(&mut self.y, size.cols, 0.0)?;
        room(&mut self.uppers, area(TOGETHER, size.rows)?, 0.0)?;
        room(&mut self.left, size.rows, 0)?;
        room(&mut self.logits, size.rows, 0.0)
    }

    /// Leaves the tokens whose upper bounds reach the threshold.
    pub(super) fn leave(&mut self, uppers: Range<usize>, threshold: f32) {
        self.left.clear();
        for (piece, uppers) in self.uppers[uppers].chunks(64).enumerate() {
            // Counting them all is one vector loop; most pieces have none.
            if uppers.iter().filter(|&&upper| upper >= threshold).count() > 0 {
                let places = uppers.iter().enumerate().filter(|(_, upper)| **upper >= threshold);
                self.left.extend(places.map(|(place, _)| (piece * 64 + place) as u32));
            }
        }
    }
}
