//! Several sequences in one step. Rows of different sequences, at ragged positions, share each read of the weights;
//! a single generation is a batch of one.

use std::collections::VecDeque;
use std::time::Instant;

use crate::backend::Row;
use crate::engine::Wanted;
use crate::error::{Error, Result};
use crate::generate::sampler::{Need, Sampler};
use crate::generate::stop::StopText;
use crate::generate::{GenerateOptions, Prompt, Session, row};
use crate::measure::{Timings, Work};

/// What one step made for one sequence. The last piece of a sequence has `finish`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The sequence's place among the prompts.
    pub sequence: usize,
    /// The token; none where the generation ended at a token or text that is not part of the output.
    pub id: Option<u32>,
    /// Text that became complete: whole characters, possibly none, possibly of earlier tokens too.
    pub text: String,
    /// Why the sequence ended, if it did.
    pub finish: Option<Finish>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// [`GenerateOptions::max_tokens`] were made.
    MaxTokens,
    /// The model ended its text with this token.
    EndOfGeneration(u32),
    /// A token of [`GenerateOptions::stop_ids`] came.
    StopId(u32),
    /// A text of [`GenerateOptions::stop`] came.
    StopText,
    /// The session has no room for another position.
    ContextFull,
}

/// An iterator over the pieces of several sequences, step by step.
pub struct Batch<'s> {
    session: &'s mut Session,
    sequences: Vec<Sequence>, // sequence i lives in slot i
    ready: VecDeque<Piece>,
    timings: Timings,
    failed: bool,
    // Reused from step to step.
    ids: Vec<u32>,
    rows: Vec<Row>,
    chosen: Vec<u32>,
}

struct Sequence {
    options: GenerateOptions,
    sampler: Sampler,
    text: Option<StopText>,
    history: Vec<u32>, // the prompt and what was made
    made: usize,
    finish: Option<Finish>,
}

impl<'s> Batch<'s> {
    pub(super) fn new(session: &'s mut Session, prompts: &[Prompt], texts: bool) -> Result<Self> {
        if prompts.is_empty() || prompts.len() > session.sequences() {
            return Err(Error::Input(format!(
                "{} prompts for a session of {} sequences; make the session with as many as there are prompts",
                prompts.len(),
                session.sequences()
            )));
        }
        if session.model.config().pooling.is_some() {
            return Err(Error::Input(
                "an embedding model makes a vector of a text and cannot continue it; see `Session::embed`".into(),
            ));
        }
        let mut sequences = Vec::with_capacity(prompts.len());
        for Prompt { ids, options } in prompts {
            session.check_ids(ids)?;
            let text = (texts || !options.stop.is_empty()).then(|| StopText::new(&options.stop));
            if text.is_some() {
                session.model.tokenizer()?;
            }
            // Room for all, so that no token allocates. The last token needs no position.
            let most = ids.len().saturating_add(options.max_tokens).min(session.positions + 1);
            let mut history = Vec::with_capacity(most);
            history.extend_from_slice(ids);
            sequences.push(Sequence {
                sampler: Sampler::new(&options.sampling, most)?,
                text,
                history,
                made: 0,
                finish: None,
                options: options.clone(),
            });
        }
        for (slot, sequence) in sequences.iter().enumerate() {
            // The last token is always computed: its logits are what the generation starts from.
            session.reuse_prefix(slot, &sequence.history[..sequence.history.len() - 1]);
        }
        let mut ready = VecDeque::with_capacity(sequences.len());
        for (slot, sequence) in sequences.iter_mut().enumerate().filter(|(_, s)| s.options.max_tokens == 0) {
            ready.push_back(sequence.end(slot, None, String::new(), Finish::MaxTokens));
        }
        let timings = Timings::default();
        Ok(Self { session, sequences, ready, timings, failed: false, ids: vec![], rows: vec![], chosen: vec![] })
    }

    /// Time and tokens so far, prompts and made tokens apart.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// What the device did since the session was made.
    pub fn work(&self) -> Work {
        self.session.work()
    }

    /// Computes one step for all sequences that are not finished.
    fn step(&mut self) -> Result<()> {
        let start = Instant::now();
        let is_prompt = self.live().any(|(_, sequence)| sequence.made == 0);
        self.gather_rows();
        self.choose_tokens()?;
        self.timings.add_step(is_prompt, self.rows.len(), start.elapsed());
        let live = self.sequences.iter_mut().enumerate().filter(|(_, s)| s.finish.is_none());
        for ((slot, sequence), &id) in live.zip(&self.chosen) {
            self.ready.push_back(sequence.accept(slot, id, self.session));
        }
        Ok(())
    }

    /// The sequences that are not finished, with their slots.
    fn live(&self) -> impl Iterator<Item = (usize, &Sequence)> {
        self.sequences.iter().enumerate().filter(|(_, sequence)| sequence.finish.is_none())
    }

    /// Makes a row of each token that is not in its sequence's cache yet; the last of each wants logits.
    fn gather_rows(&mut self) {
        let (mut ids, mut rows) = (std::mem::take(&mut self.ids), std::mem::take(&mut self.rows));
        ids.clear();
        rows.clear();
        for (slot, sequence) in self.live() {
            let places = self.session.cached[slot].len()..sequence.history.len();
            ids.extend_from_slice(&sequence.history[places.clone()]);
            rows.extend(places.clone().map(|place| row(slot, place, place + 1 == places.end)));
        }
        (self.ids, self.rows) = (ids, rows);
    }

    /// Runs the rows and puts each live sequence's next token into `chosen`.
    fn choose_tokens(&mut self) -> Result<()> {
        self.chosen.clear();
        // Whoever needs most decides what is brought back for all.
        let need = self.live().map(|(_, s)| s.sampler.needs(&s.history)).max().unwrap_or(Need::Best);
        let mut live = self.sequences.iter_mut().filter(|s| s.finish.is_none());
        let mut next = || live.next().expect("one row of logits for each live sequence");
        let mut outcome = Ok(());
        let mut choose = |drawn: Result<u32>| match drawn {
            Ok(id) => self.chosen.push(id),
            Err(error) => outcome = Err(error),
        };
        let (ids, rows) = (&self.ids, &self.rows);
        match need {
            Need::Best => {
                let steps = live.map(|s| s.options.max_tokens - s.made - 1).min().unwrap_or(0);
                return self.session.forward(ids, rows, Wanted::Best { best: &mut self.chosen, steps });
            }
            Need::Candidates(count) => {
                let count = count.min(self.session.model.config().vocabulary);
                let sink = &mut |ids: &[u32], logits: &[f32]| {
                    let sequence = next();
                    choose(sequence.sampler.draw_candidate(ids, logits, &sequence.history));
                };
                self.session.forward(ids, rows, Wanted::Candidates { count, sink })?;
            }
            Need::Logits => {
                let sink = &mut |logits: &mut [f32]| {
                    let sequence = next();
                    choose(sequence.sampler.draw(logits, &sequence.history));
                };
                self.session.forward(ids, rows, Wanted::Logits(sink))?;
            }
        }
        outcome
    }
}

impl Sequence {
    /// Takes the next token: appends it, or ends the sequence.
    fn accept(&mut self, slot: usize, id: u32, session: &Session) -> Piece {
        let tokenizer = session.model.tokenizer().ok();
        if self.options.stop_ids.contains(&id) {
            return self.end(slot, None, String::new(), Finish::StopId(id));
        }
        if !self.options.ignore_end && tokenizer.is_some_and(|t| t.is_end_of_generation(id)) {
            return self.end(slot, None, String::new(), Finish::EndOfGeneration(id));
        }
        self.history.push(id);
        self.made += 1;
        let (text, met_stop) = match (&mut self.text, tokenizer) {
            (Some(text), Some(tokenizer)) => text.push(tokenizer.token_bytes(id)),
            _ => (String::new(), false),
        };
        if met_stop {
            self.finish = Some(Finish::StopText);
        } else if self.made == self.options.max_tokens {
            return self.end(slot, Some(id), text, Finish::MaxTokens);
        } else if self.history.len() > session.positions {
            return self.end(slot, Some(id), text, Finish::ContextFull);
        }
        Piece { sequence: slot, id: Some(id), text, finish: self.finish }
    }

    /// Ends the sequence and gives out the text that was held back.
    fn end(&mut self, sequence: usize, id: Option<u32>, mut text: String, mut finish: Finish) -> Piece {
        if let Some(held) = &mut self.text {
            let (tail, met_stop) = held.finish();
            text.push_str(&tail);
            if met_stop {
                finish = Finish::StopText;
            }
        }
        self.finish = Some(finish);
        Piece { sequence, id, text, finish: self.finish }
    }
}

impl Iterator for Batch<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        let goes_on = self.ready.is_empty() && !self.failed && self.live().next().is_some();
        if goes_on && let Err(error) = self.step() {
            self.failed = true;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("timings", &self.timings).finish_non_exhaustive()
    }
}
