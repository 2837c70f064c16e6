//! The one way to run sequences: they join and leave at any time, and each step computes one row of every sequence that makes
//! tokens, and with what is left of its budget pieces of prompts; where no prompt waits, more rows may go to drafted tokens
//! (`lookup.rs`).
//!
//! Sequences that find no free slot wait, and get one in the order in which they came. Of several prompts, the one that came
//! first is read first, but for half of a step's rows, which go to those behind it: a short prompt is not kept behind a long
//! one, and a long one is not kept for ever behind short ones. (Orca, OSDI 2022; Sarathi, arXiv 2308.16369.)

use std::future::poll_fn;

use crate::allocation::reserved;
use crate::backend::MOST_CANDIDATES;
use crate::engine::{Engine, Step};
use crate::error::{Error, Result};
use crate::generate::lookup::{LONGEST_DRAFT, Lookup, MOST_DRAFTING};
use crate::generate::sampler::Sampler;
use crate::generate::schedule::{PlannedStep, Schedule, Share, share_out};
use crate::generate::sequence::Sequence;
use crate::generate::stop::StopText;
use crate::generate::{Finish, Piece, Prompt, PromptLookup, SequenceId, Session, StepBudget, Usage, row};
use crate::measure::Timings;
use crate::time::Instant;
use crate::waiting::{at_once, cannot_wait};

/// How much longer a step may be for drafts if it has rows of several sequences, who did not all ask for them.
const IN_COMPANY: f64 = 1.5;

impl Session {
    /// Adds a sequence to those that [`Session::step`] computes: at any time, whatever the others are at. It gets the slot that
    /// has the most of its prompt cached, and waits for one if there is none. Pieces carry text if the model has a tokenizer.
    ///
    /// # Errors
    /// [`Error::Input`] for ids outside the vocabulary, no ids or more than [`Session::positions`], and for options out of range;
    /// [`Error::Busy`] if as many sequences [wait](field@crate::SessionOptions::queue) as may.
    pub fn join(&mut self, prompt: Prompt) -> Result<SequenceId> {
        let texts = self.model().some_tokenizer().is_some();
        self.join_as(prompt, None, texts)
    }

    /// [`Session::join`] with a sampler of one's own in the place of [`GenerateOptions::sampling`](crate::GenerateOptions).
    ///
    /// # Errors
    /// As [`Session::join`].
    pub fn join_with(&mut self, prompt: Prompt, sampler: Box<dyn Sampler>) -> Result<SequenceId> {
        let texts = self.model().some_tokenizer().is_some();
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
        if options.max_tokens > 0 && waiting >= schedule.queue.saturating_add(free) {
            return Err(Error::Busy(format!(
                "{} sequences are computed and {waiting} wait, which is as many as this session takes; try again later",
                schedule.running()
            )));
        }
        let mut history = reserved(most)?;
        let id = schedule.next_id;
        schedule.next_id += 1;
        history.extend_from_slice(&ids);
        let nothing_to_make = options.max_tokens == 0;
        let lookup = match options.lookup {
            PromptLookup::Never => None,
            // What a drafted row leaves in a recurrent layer could not be taken back.
            _ if self.engine.is_recurrent() => None,
            _ => Some(Lookup::new(most)?),
        };
        let mut sequence = Sequence::new(id, history, options, sampler, text, lookup);
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

    /// Holds a sequence, or lets it go on: while it is held it keeps its slot and gets no rows, as is due to one whose tokens nobody
    /// takes. False if there is no such sequence, or no more.
    pub fn hold(&mut self, id: SequenceId, is_held: bool) -> bool {
        let Some(place) = self.schedule.place(id) else { return false };
        self.schedule.sequences[place].is_held = is_held;
        true
    }

    /// Computes one step, and tells what it made: a piece for each token, of a sequence one, or some where tokens were
    /// [drafted](crate::GenerateOptions::lookup); and the last ones of those that left.
    /// What goes wrong ends the sequence that it concerns, with [`Finish::Failed`]; a device that fails ends all that the step
    /// computed. Nothing is computed if there are no sequences.
    pub fn step(&mut self, budget: &StepBudget) -> &[Piece] {
        if at_once(self.take_step(budget)).is_none() {
            self.fail_all(&cannot_wait());
        }
        &self.schedule.pieces
    }

    /// [`Session::step`], for the GPU of a browser, where nothing may block. Elsewhere it is over at its first poll. It must be
    /// awaited to its end, or what the slots hold is not known.
    pub async fn step_async(&mut self, budget: &StepBudget) -> &[Piece] {
        self.take_step(budget).await;
        &self.schedule.pieces
    }

    async fn take_step(&mut self, budget: &StepBudget) {
        self.schedule.pieces.clear();
        self.schedule.pieces.append(&mut self.schedule.ended);
        self.schedule.interrupted = false;
        self.admit();
        self.plan(budget);
        if !self.schedule.step.rows.is_empty() {
            let start = Instant::now();
            if self.compute().await {
                self.schedule.note_time(start.elapsed());
            }
        }
        self.remove_ended();
    }

    /// Ends all sequences.
    fn fail_all(&mut self, error: &Error) {
        let Self { slots, schedule, .. } = self;
        let ended = schedule.sequences.iter_mut().map(|sequence| sequence.give_up(error.clone(), slots));
        schedule.pieces.extend(ended);
        self.remove_ended();
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
            let Some(admission) = self.slots.admit(known, sequence.reuse()) else { break };
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
        let Schedule { sequences, step, row_time, turn, .. } = &mut self.schedule;
        step.clear();
        let live = || sequences.iter().enumerate().filter(|(_, s)| s.slot.is_some() && !s.is_over() && !s.is_held);
        let left = |s: &Sequence| s.ids().len() - s.slot.map_or(0, |slot| self.slots.cached(slot));
        // Rows until a snapshot is due, or all.
        let most = |s: &Sequence| {
            let due =
                s.slot.and_then(|slot| Some(self.slots.snapshot_due(slot, s.prompt())? - self.slots.cached(slot)));
            due.unwrap_or(left(s))
        };
        let share = |sequence: usize, s: &Sequence, rows: usize| Share {
            sequence,
            rows,
            left: left(s),
            most: most(s),
            drafted: 0,
        };
        // Who was made to start over reads what was made as a prompt, too.
        let reads = |s: &Sequence| s.reads_prompt() || left(s) > 1;
        let prompts = live().filter(|(_, s)| reads(s)).count();
        if !(budget.prompts_first && prompts > 0) {
            step.shares.extend(live().filter(|(_, s)| !reads(s)).map(|(i, s)| share(i, s, 1)));
        }
        let decoding = step.shares.len();
        let least = decoding + usize::from(prompts > 0);
        let mut rows = budget.rows.unwrap_or(capacity.rows).clamp(least, capacity.rows.max(least)) - decoding;
        if let (Some(stall), Some(row_time)) = (budget.longest_stall, row_time.filter(|_| decoding > 0)) {
            let in_time = stall.as_secs_f64() / row_time.as_secs_f64().max(1e-9);
            rows = rows.min((in_time as usize).max(1));
        }
        step.shares.extend(live().filter(|(_, s)| reads(s)).map(|(i, s)| share(i, s, 0)));
        share_out(&mut step.shares[decoding..], rows);
        step.shares.retain(|share| share.rows > 0);
        let rows = if prompts == 0 { budget.rows } else { Some(0) };
        draft(&mut step.shares, sequences, self.engine.as_ref(), rows, *turn);
        *turn = turn.wrapping_add(1);
        for Share { sequence: place, rows, left, drafted, .. } in &step.shares {
            let sequence = &mut sequences[*place];
            let slot = sequence.slot.expect("those with a slot were planned");
            let first = sequence.ids().len() - left;
            let draws = rows == left;
            step.ids.extend_from_slice(&sequence.ids()[first..first + rows]);
            step.rows.extend((first..first + rows).map(|at| row(slot, at, draws && at + 1 == first + rows)));
            step.prompt_rows += if sequence.reads_prompt() { *rows } else { 0 };
            if draws {
                sequence.look_ahead(*drafted);
                step.ids.extend_from_slice(sequence.draft());
                step.rows.extend((0..*drafted).map(|place| row(slot, first + rows + place, true)));
                step.drawing.extend(std::iter::repeat_n(*place, 1 + drafted));
                step.factors.extend(std::iter::repeat_n(sequence.factor(), 1 + drafted));
            }
        }
    }

    /// Runs the step, draws, and hands out what it made. False if it computed nothing: it failed, or was interrupted.
    async fn compute(&mut self) -> bool {
        let Self { loaded, engine, slots, schedule, .. } = self;
        let config = loaded.model().config();
        let (tokenizer, positions) = (loaded.model().some_tokenizer(), engine.capacity().positions);
        let (wanted, steps_ahead) = (schedule.wanted(config.vocabulary), schedule.steps_ahead());
        let Schedule { sequences, pieces, step, .. } = schedule;
        let PlannedStep { shares, ids, rows, factors, made, .. } = step;
        engine.start(&Step { tokens: ids, rows, wanted, factors, steps_ahead });
        poll_fn(|context| engine.poll_finish(context)).await;
        match engine.finish() {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                schedule.interrupted = true;
                if engine.is_recurrent() {
                    shares.iter().for_each(|share| sequences[share.sequence].start_over(slots));
                }
                return false;
            }
            Err(error) => {
                let computed = shares.iter().map(|share| share.sequence);
                computed.for_each(|place| pieces.push(sequences[place].give_up(error.clone(), slots)));
                return false;
            }
        }
        let (mut ids, mut first_row) = (ids.iter().copied(), 0);
        for &Share { sequence: place, rows, left, drafted, .. } in &*shares {
            let sequence = &mut sequences[place];
            let slot = sequence.slot.expect("those with a slot were planned");
            let due = slots.snapshot_due(slot, sequence.prompt());
            ids.by_ref().take(rows).for_each(|id| slots.push(slot, id));
            sequence.computed(rows);
            sequence.computed_drafts(drafted);
            if rows < left {
                let kept = match due {
                    Some(due) if slots.cached(slot) == due => {
                        engine.keep_snapshot(slot as u32).map(|()| slots.note_snapshot(slot))
                    }
                    _ => Ok(()),
                };
                if let Err(error) = kept {
                    pieces.push(sequence.give_up(error, slots));
                }
                continue; // of its prompt
            }
            for row in 0..=drafted {
                let drawn = async {
                    let id = sequence.draw(engine.as_mut(), first_row + row).await?;
                    Ok((id, sequence.logprobs(id, engine.as_mut(), first_row + row).await?))
                };
                let drawn = drawn.await;
                *made += usize::from(!sequence.reads_prompt());
                let (id, piece) = match drawn {
                    Ok((id, logprobs)) => (id, Piece { logprobs, ..sequence.accept(id, tokenizer, positions) }),
                    Err(error) => {
                        let error = match error {
                            Error::NotFinite(_) => engine.why_not_finite(&[(slot, sequence.ids().len())]),
                            error => error,
                        };
                        pieces.push(sequence.give_up(error, slots));
                        break;
                    }
                };
                pieces.push(piece);
                // The next row is the sequence's as long as what was drafted is what was drawn.
                let was_likely = sequence.learn(row, id);
                if !was_likely || row == drafted || sequence.is_over() || !sequence.can_go_on() {
                    break;
                }
                slots.push(slot, id);
                sequence.took_draft();
            }
            ids.by_ref().take(drafted).for_each(drop);
            first_row += 1 + drafted;
        }
        true
    }

    /// Takes the sequences that are over out of the schedule; their slots are free.
    fn remove_ended(&mut self) {
        let Self { slots, schedule, .. } = self;
        schedule.sequences.retain(|sequence| {
            if let (true, Some(slot)) = (sequence.is_over(), sequence.slot) {
                slots.release(slot);
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

/// Adds rows of drafted tokens to the sequences that make tokens, as far as those pay, the step has no more than `most` rows, and others
/// are not kept much longer for them. `turn` says who drafts first.
fn draft(shares: &mut [Share], sequences: &mut [Sequence], engine: &dyn Engine, most: Option<usize>, turn: usize) {
    let capacity = engine.capacity();
    let most_rows = most.unwrap_or(capacity.rows).min(capacity.rows).min(capacity.selected).min(MOST_DRAFTING);
    let (count, longest) = (shares.len(), IN_COMPANY * engine.rows_cost(shares.len()));
    let (mut rows, mut tokens) = (count, count as f64);
    for place in (0..count).map(|place| (place + turn) % count) {
        let share = &mut shares[place];
        let sequence = &mut sequences[share.sequence];
        if sequence.reads_prompt() {
            continue;
        }
        sequence.look_up();
        let room = most_rows.saturating_sub(rows).min(capacity.positions - sequence.ids().len()).min(LONGEST_DRAFT);
        let is_free = count == 1 || sequence.drafts_always();
        let is_short = |drafted: &usize| is_free || engine.rows_cost(rows + drafted) <= longest;
        let room = (0..=room).rev().find(is_short).unwrap_or(0);
        let (drafted, more) = sequence.worth_drafting(room, rows, tokens, |rows| engine.rows_cost(rows));
        (share.drafted, rows, tokens) = (drafted, rows + drafted, tokens + more);
    }
}
