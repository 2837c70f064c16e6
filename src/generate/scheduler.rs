//! The one way to run sequences: they join and leave at any time, and each step computes one row of every sequence that makes
//! tokens, and with what is left of its budget pieces of prompts.
//!
//! Sequences that find no free slot wait, and get one in the order in which they came. Of several prompts, the one that came
//! first is read first, but for half of a step's rows, which go to those behind it: a short prompt is not kept behind a long
//! one, and a long one is not kept for ever behind short ones. (Orca, OSDI 2022; Sarathi, arXiv 2308.16369.)

use std::time::{Duration, Instant};

use crate::backend::{MOST_CANDIDATES, Row};
use crate::engine::Step;
use crate::error::{Error, Result};
use crate::generate::sampler::{Need, Sampler};
use crate::generate::sequence::Sequence;
use crate::generate::stop::StopText;
use crate::generate::{Finish, Piece, Prompt, SequenceId, Session, StepBudget, Usage, row};
use crate::measure::Timings;
use crate::transformer::Wanted;

/// What a session has to run, and the step that is being made.
pub(super) struct Schedule {
    sequences: Vec<Sequence>, // those with a slot and those that wait, in the order in which they came
    queue: usize,             // how many may wait
    next_id: SequenceId,
    pieces: Vec<Piece>, // of the last step
    ended: Vec<Piece>,  // of sequences that ended between steps
    pub(super) timings: Timings,
    row_time: Option<Duration>, // of a step that reads prompts, for each of its rows
    step: PlannedStep,
}

/// The rows of a step, and whose they are. Reused from step to step.
#[derive(Default)]
struct PlannedStep {
    shares: Vec<Share>,
    ids: Vec<u32>,
    rows: Vec<Row>,
    drawing: Vec<usize>, // the sequences whose rows want logits, in their order
    factors: Vec<f32>,   // their inverse temperatures
    prompt_rows: usize,
}

/// The rows of one sequence in a step.
struct Share {
    sequence: usize, // its place in the schedule
    rows: usize,
    left: usize, // rows that it still has to compute, these included
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
            drawing: Vec::with_capacity(sequences),
            factors: Vec::with_capacity(sequences),
            prompt_rows: 0,
        };
        Self {
            sequences: Vec::new(),
            queue,
            next_id: 0,
            pieces: Vec::with_capacity(sequences),
            ended: Vec::new(),
            timings: Timings::default(),
            row_time: None,
            step,
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

    fn place(&self, id: SequenceId) -> Option<usize> {
        self.sequences.iter().position(|sequence| sequence.id == id)
    }
}

impl Session {
    /// Adds a sequence to those that [`Session::step`] computes: at any time, whatever the others are at. It gets the slot that
    /// has the most of its prompt cached, and waits for one if there is none. Pieces carry text if the model has a tokenizer.
    ///
    /// # Errors
    /// [`Error::Input`] for ids outside the vocabulary, no ids or more than [`Session::positions`], and for options out of range;
    /// [`Error::Busy`] if as many sequences [wait](crate::SessionOptions::queue) as may.
    pub fn join(&mut self, prompt: Prompt) -> Result<SequenceId> {
        let texts = self.model().tokenizer().is_ok();
        self.join_as(prompt, None, texts)
    }

    /// [`Session::join`] with a sampler of one's own in the place of [`GenerateOptions::sampling`](crate::GenerateOptions).
    ///
    /// # Errors
    /// As [`Session::join`].
    pub fn join_with(&mut self, prompt: Prompt, sampler: Box<dyn Sampler>) -> Result<SequenceId> {
        let texts = self.model().tokenizer().is_ok();
        self.join_as(prompt, Some(sampler), texts)
    }

    pub(super) fn join_as(
        &mut self,
        Prompt { ids, options }: Prompt,
        sampler: Option<Box<dyn Sampler>>,
        texts: bool,
    ) -> Result<SequenceId> {
        if self.model().config().pooling.is_some() {
            return Err(Error::Input(
                "an embedding model makes a vector of a text and cannot continue it; see `Session::embed`".into(),
            ));
        }
        self.check_ids(&ids)?;
        if options.logprobs.is_some_and(|count| count > MOST_CANDIDATES) {
            return Err(Error::Input(format!("log-probabilities of more than {MOST_CANDIDATES} tokens")));
        }
        let text = (texts || !options.stop.is_empty()).then(|| StopText::new(&options.stop));
        if text.is_some() {
            self.model().tokenizer()?;
        }
        // Room for all, so that no token allocates. The last token needs no position.
        let most = ids.len().saturating_add(options.max_tokens).min(self.positions() + 1);
        let sampler = match sampler {
            Some(sampler) => sampler,
            None => options.sampling.sampler(most, self.model().config().vocabulary)?,
        };
        let schedule = &mut self.schedule;
        let (waiting, free) = (schedule.waiting(), self.slots.free());
        if options.max_tokens > 0 && waiting >= free + schedule.queue {
            return Err(Error::Busy(format!(
                "{} sequences are computed and {waiting} wait, which is as many as this session takes; try again later",
                schedule.running()
            )));
        }
        let id = schedule.next_id;
        schedule.next_id += 1;
        let mut history = Vec::with_capacity(most);
        history.extend_from_slice(&ids);
        let nothing_to_make = options.max_tokens == 0;
        let mut sequence = Sequence::new(id, history, options, sampler, text);
        if nothing_to_make {
            schedule.ended.push(sequence.end(Finish::MaxTokens));
        } else {
            schedule.sequences.push(sequence);
        }
        Ok(id)
    }

    /// Ends a sequence; what it computed stays cached for others. The next [`Session::step`] tells of its last piece, with
    /// [`Finish::Cancelled`]. False if there is no such sequence, or no more.
    pub fn leave(&mut self, id: SequenceId) -> bool {
        let Some(place) = self.schedule.place(id) else { return false };
        let piece = self.schedule.sequences[place].end(Finish::Cancelled);
        self.schedule.ended.push(piece);
        self.remove_ended();
        true
    }

    /// Computes one step, and tells what it made: at most one piece for each sequence, and the last ones of those that left.
    /// What goes wrong ends the sequence that it concerns, with [`Finish::Failed`]; a device that fails ends all that the step
    /// computed. Nothing is computed if there are no sequences.
    pub fn step(&mut self, budget: &StepBudget) -> &[Piece] {
        self.schedule.pieces.clear();
        self.schedule.pieces.append(&mut self.schedule.ended);
        self.admit();
        self.plan(budget);
        if !self.schedule.step.rows.is_empty() {
            let start = Instant::now();
            self.compute();
            self.schedule.note_time(start.elapsed());
        }
        self.remove_ended();
        &self.schedule.pieces
    }

    /// The tokens of a sequence so far: how much of its prompt was read, how many were made. None if there is no such sequence, or
    /// no more.
    pub fn usage(&self, id: SequenceId) -> Option<Usage> {
        self.schedule.place(id).map(|place| self.schedule.sequences[place].usage())
    }

    /// Sequences that have a slot: they read their prompts or make tokens.
    pub fn running(&self) -> usize {
        self.schedule.running()
    }

    /// Sequences that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.schedule.waiting()
    }

    /// Time and tokens of all steps so far.
    pub fn timings(&self) -> Timings {
        self.schedule.timings
    }

    /// Gives free slots to those that wait, in the order in which they came.
    fn admit(&mut self) {
        for place in 0..self.schedule.sequences.len() {
            if self.slots.free() == 0 {
                break;
            }
            if self.schedule.sequences[place].slot.is_some() {
                continue;
            }
            let sequence = &self.schedule.sequences[place];
            // The last id is always computed: its logits are what the generation starts from.
            let known = &sequence.ids()[..sequence.ids().len() - 1];
            let Some(admission) = self.slots.admit(known) else { break };
            let outcome = self.copy_to(admission);
            let sequence = &mut self.schedule.sequences[place];
            sequence.admitted(admission.slot, self.slots.cached(admission.slot));
            if let Err(error) = outcome {
                let piece = sequence.give_up(error, &mut self.slots);
                self.schedule.pieces.push(piece);
            }
        }
    }

    /// Decides which rows the step has.
    fn plan(&mut self, budget: &StepBudget) {
        let capacity = self.engine.capacity();
        let Schedule { sequences, step, row_time, .. } = &mut self.schedule;
        step.clear();
        let live = || sequences.iter().enumerate().filter(|(_, s)| s.slot.is_some() && !s.is_over());
        let share = |sequence: usize, s: &Sequence, rows: usize| {
            let cached = s.slot.map_or(0, |slot| self.slots.cached(slot));
            Share { sequence, rows, left: s.ids().len() - cached }
        };
        let prompts = live().filter(|(_, s)| s.reads_prompt()).count();
        if !(budget.prompts_first && prompts > 0) {
            step.shares.extend(live().filter(|(_, s)| !s.reads_prompt()).map(|(i, s)| share(i, s, 1)));
        }
        let decoding = step.shares.len();
        let least = decoding + usize::from(prompts > 0);
        let mut rows = budget.rows.unwrap_or(capacity.rows).clamp(least, capacity.rows.max(least)) - decoding;
        if let (Some(stall), Some(row_time)) = (budget.longest_stall, row_time.filter(|_| decoding > 0)) {
            let in_time = stall.as_secs_f64() / row_time.as_secs_f64().max(1e-9);
            rows = rows.min((in_time as usize).max(1));
        }
        step.shares.extend(live().filter(|(_, s)| s.reads_prompt()).map(|(i, s)| share(i, s, 0)));
        share_out(&mut step.shares[decoding..], rows);
        step.shares.retain(|share| share.rows > 0);
        for Share { sequence: place, rows, left } in &step.shares {
            let sequence = &mut sequences[*place];
            let slot = sequence.slot.expect("those with a slot were planned");
            let first = sequence.ids().len() - left;
            let draws = rows == left;
            step.ids.extend_from_slice(&sequence.ids()[first..first + rows]);
            step.rows.extend((first..first + rows).map(|at| row(slot, at, draws && at + 1 == first + rows)));
            step.prompt_rows += if sequence.reads_prompt() { *rows } else { 0 };
            if draws {
                sequence.look_ahead();
                step.drawing.push(*place);
                step.factors.push(sequence.factor());
            }
        }
    }

    /// Runs the step, draws, and hands out what it made.
    fn compute(&mut self) {
        let Self { loaded, engine, slots, schedule, .. } = self;
        let config = loaded.model().config();
        let (tokenizer, positions) = (loaded.model().tokenizer().ok(), engine.capacity().positions);
        let (wanted, steps_ahead) = (schedule.wanted(config.vocabulary), schedule.steps_ahead());
        let Schedule { sequences, pieces, step, .. } = schedule;
        let PlannedStep { shares, ids, rows, drawing, factors, .. } = step;
        engine.start(&Step { tokens: ids, rows, wanted, factors, steps_ahead });
        if let Err(error) = engine.finish() {
            let computed = shares.iter().map(|share| share.sequence);
            return computed.for_each(|place| pieces.push(sequences[place].give_up(error.clone(), slots)));
        }
        for (&id, row) in ids.iter().zip(&*rows) {
            slots.push(row.sequence as usize, id);
        }
        shares.iter().for_each(|share| sequences[share.sequence].computed(share.rows));
        for (row, &place) in drawing.iter().enumerate() {
            let sequence = &mut sequences[place];
            let drawn = sequence.draw(engine.as_mut(), row);
            let drawn = drawn.and_then(|id| Ok((id, sequence.logprobs(id, engine.as_mut(), row)?)));
            pieces.push(match drawn {
                Ok((id, logprobs)) => Piece { logprobs, ..sequence.accept(id, tokenizer, positions) },
                Err(error) => sequence.give_up(error, slots),
            });
        }
    }

    /// Takes the sequences that are over out of the schedule; their slots are free.
    fn remove_ended(&mut self) {
        let Self { slots, schedule, .. } = self;
        schedule.sequences.retain(|sequence| {
            if sequence.is_over() {
                sequence.slot.into_iter().for_each(|slot| slots.release(slot));
            }
            !sequence.is_over()
        });
    }

    /// Takes all sequences out of the schedule, without a piece.
    pub(super) fn abandon_all(&mut self) {
        for sequence in self.schedule.sequences.drain(..) {
            sequence.slot.into_iter().for_each(|slot| self.slots.release(slot));
        }
        self.schedule.ended.clear();
        self.schedule.pieces.clear();
    }
}

impl Schedule {
    /// What the step has to tell, so that every draw of it is told what it needs. Candidates for all come at one price; all logits
    /// are computed if somebody needs them or their totals, and brought back for those alone who need them.
    fn wanted(&self, vocabulary: usize) -> Wanted {
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
    fn steps_ahead(&self) -> usize {
        let step = &self.step;
        if self.waiting() > 0 || step.drawing.len() < self.running() {
            return 0;
        }
        step.drawing.iter().map(|&place| self.sequences[place].left() - 1).min().unwrap_or(0)
    }

    /// Takes note of what a step took.
    fn note_time(&mut self, time: Duration) {
        let (rows, prompt_rows) = (self.step.rows.len(), self.step.prompt_rows);
        self.timings.add_step(prompt_rows, rows - prompt_rows, time);
        if prompt_rows > 0 {
            let latest = time.as_secs_f64() / rows as f64;
            let before = self.row_time.map_or(latest, |before| before.as_secs_f64());
            self.row_time = Some(Duration::from_secs_f64(before + PACE * (latest - before)));
        }
    }
}

impl PlannedStep {
    fn clear(&mut self) {
        self.shares.clear();
        self.ids.clear();
        self.rows.clear();
        self.drawing.clear();
        self.factors.clear();
        self.prompt_rows = 0;
    }
}

/// Gives rows to prompts, in the order in which they came: none gets more than half of what is left while another waits behind
/// it, and what those behind do not need comes back to those in front.
fn share_out(prompts: &mut [Share], mut rows: usize) {
    for place in 0..prompts.len() {
        let most = if place + 1 < prompts.len() { rows.div_ceil(2) } else { rows };
        prompts[place].rows = prompts[place].left.min(most);
        rows -= prompts[place].rows;
    }
    for prompt in prompts {
        let more = (prompt.left - prompt.rows).min(rows);
        prompt.rows += more;
        rows -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(left: &[usize], rows: usize) -> Vec<usize> {
        let mut prompts: Vec<Share> = left.iter().map(|&left| Share { sequence: 0, rows: 0, left }).collect();
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
