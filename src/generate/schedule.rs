//! What a session has to run, and the step that is planned: whose rows it has, and what it has to tell.

use std::time::Duration;

use crate::backend::{MOST_CANDIDATES, Row};
use crate::generate::sampler::Need;
use crate::generate::sequence::Sequence;
use crate::generate::{Piece, SequenceId};
use crate::measure::Timings;
use crate::transformer::Wanted;

/// What a session has to run, and the step that is being made.
pub(super) struct Schedule {
    pub(super) sequences: Vec<Sequence>, // those with a slot and those that wait, in the order in which they came
    pub(super) queue: usize,             // how many may wait
    pub(super) next_id: SequenceId,
    pub(super) pieces: Vec<Piece>, // of the last step
    pub(super) ended: Vec<Piece>,  // of sequences that ended between steps
    pub(super) timings: Timings,
    pub(super) row_time: Option<Duration>, // of a step that reads prompts, for each of its rows
    pub(super) step: PlannedStep,
    pub(super) interrupted: bool, // the last step
    pub(super) turn: usize,       // of whoever drafts first
}

/// The rows of a step, and whose they are. Reused from step to step.
#[derive(Default)]
pub(super) struct PlannedStep {
    pub(super) shares: Vec<Share>,
    pub(super) ids: Vec<u32>,
    pub(super) rows: Vec<Row>,
    pub(super) drawing: Vec<usize>, // the sequence of each row that wants logits
    pub(super) factors: Vec<f32>,   // its inverse temperature
    pub(super) prompt_rows: usize,
    pub(super) made: usize, // tokens, but for the first of each sequence
}

/// The rows of one sequence in a step.
pub(super) struct Share {
    pub(super) sequence: usize, // its place in the schedule
    pub(super) rows: usize,
    pub(super) left: usize,    // rows that it still has to compute, these included
    pub(super) most: usize,    // of them that this step may have
    pub(super) drafted: usize, // rows beside those, of tokens that are likely to follow
}

/// How much the latest step counts for the time of a row.
const PACE: f64 = 0.3;

impl Schedule {
    pub(super) fn new(rows: usize, sequences: usize, queue: usize) -> Self {
        // So that no step allocates.
        let step = PlannedStep {
            shares: Vec::with_capacity(sequences),
            ids: Vec::with_capacity(rows),
            rows: Vec::with_capacity(rows),
            drawing: Vec::with_capacity(rows),
            factors: Vec::with_capacity(rows),
            prompt_rows: 0,
            made: 0,
        };
        Self {
            sequences: Vec::new(),
            queue,
            next_id: 0,
            pieces: Vec::with_capacity(rows),
            ended: Vec::new(),
            timings: Timings::default(),
            row_time: None,
            step,
            interrupted: false,
            turn: 0,
        }
    }

    /// Sequences that wait for a slot.
    pub(super) fn waiting(&self) -> usize {
        self.sequences.iter().filter(|sequence| sequence.slot.is_none()).count()
    }

    /// Sequences that have a slot.
    pub(super) fn running(&self) -> usize {
        self.sequences.len() - self.waiting()
    }

    pub(super) fn place(&self, id: SequenceId) -> Option<usize> {
        self.sequences.iter().position(|sequence| sequence.id == id)
    }
}

impl Schedule {
    /// What the step has to tell, so that every draw of it is told what it needs. Candidates for all come at one price; all logits
    /// are computed if somebody needs them or their totals, and brought back for those alone who need them.
    pub(super) fn wanted(&self, vocabulary: usize) -> Wanted {
        let drawing = || self.step.drawing.iter().map(|&place| &self.sequences[place]);
        let needs_all = |sequence: &Sequence| matches!(sequence.need, Need::Logits);
        let count = drawing().map(Sequence::candidates).max().unwrap_or(1).clamp(1, vocabulary.min(MOST_CANDIDATES));
        let (some_all, all_all) = (drawing().any(needs_all), drawing().all(needs_all));
        match () {
            () if self.step.drawing.is_empty() => Wanted::Nothing,
            () if drawing().any(Sequence::wants_totals) => Wanted::Totals(count),
            () if all_all => Wanted::Logits,
            () if some_all => Wanted::Totals(count),
            () if drawing().all(|sequence| matches!(sequence.need, Need::Best)) => Wanted::Best,
            () => Wanted::Candidates(count),
        }
    }

    /// How many steps like this one are sure to follow, if nothing joins: as long as none is known to end.
    pub(super) fn steps_ahead(&self) -> usize {
        let step = &self.step;
        let drafts = step.shares.iter().any(|share| share.drafted > 0);
        if self.waiting() > 0 || drafts || step.drawing.len() < self.running() {
            return 0;
        }
        step.drawing.iter().map(|&place| self.sequences[place].left() - 1).min().unwrap_or(0)
    }

    /// Takes note of what a step took.
    pub(super) fn note_time(&mut self, time: Duration) {
        let (rows, prompt_rows) = (self.step.rows.len(), self.step.prompt_rows);
        self.timings.add_step(prompt_rows, self.step.made, time);
        if prompt_rows > 0 {
            let latest = time.as_secs_f64() / rows as f64;
            let before = self.row_time.map_or(latest, |before| before.as_secs_f64());
            self.row_time = Some(Duration::from_secs_f64(before + PACE * (latest - before)));
        }
    }
}

impl PlannedStep {
    pub(super) fn clear(&mut self) {
        self.shares.clear();
        self.ids.clear();
        self.rows.clear();
        self.drawing.clear();
        self.factors.clear();
        self.prompt_rows = 0;
        self.made = 0;
    }
}

/// Gives rows to prompts, in the order in which they came: none gets more than half of what is left while another waits behind
/// it, and what those behind do not need comes back to those in front.
pub(super) fn share_out(prompts: &mut [Share], mut rows: usize) {
    for place in 0..prompts.len() {
        let most = if place + 1 < prompts.len() { rows.div_ceil(2) } else { rows };
        prompts[place].rows = prompts[place].most.min(most);
        rows -= prompts[place].rows;
    }
    for prompt in prompts {
        let more = (prompt.most - prompt.rows).min(rows);
        prompt.rows += more;
        rows -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(left: &[usize], rows: usize) -> Vec<usize> {
        let mut prompts: Vec<Share> =
            left.iter().map(|&left| Share { sequence: 0, rows: 0, left, most: left, drafted: 0 }).collect();
        share_out(&mut prompts, rows);
        prompts.iter().map(|share| share.rows).collect()
    }

    #[test]
    fn a_short_prompt_is_not_kept_behind_a_long_one() {
        assert_eq!(shared(&[4096], 128), [128]);
        assert_eq!(shared(&[4096, 20], 128), [108, 20], "what the short one leaves goes to the long one");
        assert_eq!(shared(&[4096, 4096], 128), [64, 64]);
        assert_eq!(shared(&[4096, 4096, 7], 128), [89, 32, 7]);
        assert_eq!(shared(&[3, 5], 128), [3, 5]);
        assert_eq!(shared(&[50, 50, 50], 1), [1, 0, 0], "whoever came first has the only row");
        assert_eq!(shared(&[], 128), [0; 0]);
    }
}
