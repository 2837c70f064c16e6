//! One sequence of a session: its tokens, how the next is drawn, what becomes text, and when it ends.

use std::future::poll_fn;

use crate::backend::{MOST_CANDIDATES, NO_TOKEN};
use crate::engine::{Chosen, Engine};
use crate::error::{Error, Result};
use crate::generate::logprobs::Logprobs;
use crate::generate::lookup::Lookup;
use crate::generate::sampler::{Candidates, Draw, History, Logits, Need, Sampler, Totals};
use crate::generate::slots::Slots;
use crate::generate::stop::StopText;
use crate::generate::{GenerateOptions, PromptLookup, Reuse, Usage};
use crate::tokenizer::Tokenizer;

/// A number that no other sequence of its session has.
pub type SequenceId = usize;

/// A token that a step made of one sequence. The last piece of a sequence has `finish`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Piece {
    /// The sequence: what [`Session::join`](crate::Session::join) returned, or of a batch its place among the prompts.
    pub sequence: SequenceId,
    /// The token; none where the generation ended at a token or text that is not part of the output.
    pub id: Option<u32>,
    /// Text that became complete: whole characters, possibly none, possibly of earlier tokens too.
    pub text: String,
    /// How likely the token was, if that was [asked for](GenerateOptions::logprobs).
    pub logprobs: Option<Logprobs>,
    /// Why the sequence ended, if it did.
    pub finish: Option<Finish>,
    /// What went wrong, with [`Finish::Failed`].
    pub error: Option<Error>,
    /// Tokens so far.
    pub usage: Usage,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// [`Session::leave`](crate::Session::leave) was called.
    Cancelled,
    /// Something went wrong for this sequence: see [`Piece::error`]. Others go on.
    Failed,
}

/// A sequence that waits for a slot, is computed, or has ended and was not told of yet.
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    pub(super) slot: Option<usize>,
    /// What its next draw needs, of the step that is being made.
    pub(super) need: Need,
    /// What that step tells at least, for each of its draws.
    told: Need,
    /// Tokens that were drafted for it.
    drafted: usize,
    /// Whether it gets no rows at present.
    pub(super) is_held: bool,
    options: GenerateOptions,
    sampler: Box<dyn Sampler>,
    text: Option<StopText>,
    lookup: Option<Lookup>,
    history: Vec<u32>, // the prompt and what was made
    usage: Usage,
    is_over: bool,
}

impl Sequence {
    /// `history` is the prompt, and has room for what will be made.
    pub(super) fn new(
        id: SequenceId,
        history: Vec<u32>,
        options: GenerateOptions,
        sampler: Box<dyn Sampler>,
        text: Option<StopText>,
        lookup: Option<Lookup>,
    ) -> Self {
        let usage = Usage { prompt: history.len(), ..Usage::default() };
        Self {
            id,
            slot: None,
            need: Need::Best,
            told: Need::Best,
            drafted: 0,
            is_held: false,
            options,
            sampler,
            text,
            lookup,
            history,
            usage,
            is_over: false,
        }
    }

    /// The prompt and what was made.
    pub(super) fn ids(&self) -> &[u32] {
        &self.history
    }

    /// Whether its prompt is not computed to the end yet.
    pub(super) fn reads_prompt(&self) -> bool {
        self.usage.made == 0
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Tokens of its prompt.
    pub(super) fn prompt(&self) -> usize {
        self.usage.prompt
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Tokens that may still be made.
    pub(super) fn left(&self) -> usize {
        self.options.max_tokens - self.usage.made
    }

    /// With whom it shares what is cached.
    pub(super) fn reuse(&self) -> Reuse {
        self.options.reuse
    }

    /// It was given a slot that holds so many of its ids.
    pub(super) fn admitted(&mut self, slot: usize, cached: usize) {
        (self.slot, self.usage.cached) = (Some(slot), cached);
    }

    /// Its slot holds nothing of it any more: all of its tokens are to be computed again.
    pub(super) fn start_over(&mut self, slots: &mut Slots) {
        self.slot.into_iter().for_each(|slot| slots.forget(slot));
        (self.usage.cached, self.usage.computed) = (0, 0);
    }

    /// So many of its rows were computed.
    pub(super) fn computed(&mut self, rows: usize) {
        self.usage.computed += rows;
    }

    /// Looks up what is likely to follow.
    pub(super) fn look_up(&mut self) {
        if let Some(lookup) = &mut self.lookup {
            lookup.look(&self.history);
        }
    }

    /// Whether it drafts whatever it costs.
    pub(super) fn drafts_always(&self) -> bool {
        self.options.lookup == PromptLookup::Always
    }

    /// How many of the tokens that are likely to follow are worth computing in a step of so many rows that makes so many tokens; and
    /// what they add to those, on average. At most `most`, and no more than may be made.
    pub(super) fn worth_drafting(
        &self,
        most: usize,
        rows: usize,
        tokens: f64,
        cost: impl Fn(usize) -> f64,
    ) -> (usize, f64) {
        let Some(lookup) = &self.lookup else { return (0, 0.0) };
        let most = most.min(self.left() - 1);
        match self.options.lookup {
            PromptLookup::Always => (lookup.likely().len().min(most), 0.0), // whatever it costs
            _ => lookup.worth(most, rows, tokens, cost),
        }
    }

    /// The tokens that were drafted for the step.
    pub(super) fn draft(&self) -> &[u32] {
        self.lookup.as_ref().map_or(&[], |lookup| &lookup.likely()[..self.drafted])
    }

    /// Takes note that so many tokens were drafted for the step, and asks its sampler what it needs of it.
    pub(super) fn look_ahead(&mut self, drafted: usize) {
        (self.need, self.drafted) = (self.asked(), drafted);
        self.told = match self.need {
            Need::Candidates(count) => Need::Candidates((count + drafted).min(MOST_CANDIDATES)),
            need => need,
        };
    }

    /// Whether the step, which was planned for the draw before, tells enough for the next one.
    pub(super) fn can_go_on(&mut self) -> bool {
        self.need = self.asked();
        match (self.told, self.need) {
            (Need::Candidates(told), Need::Candidates(needed)) => needed <= told,
            (told, needed) => told == needed,
        }
    }

    /// What became of the token that was likely at this place of the step's: whether it was drawn.
    pub(super) fn learn(&mut self, place: usize, drawn: u32) -> bool {
        let Some(lookup) = &mut self.lookup else { return false };
        let Some(&likely) = lookup.likely().get(place) else { return false };
        lookup.learn(likely == drawn);
        likely == drawn
    }

    /// So many rows of drafted tokens were computed.
    pub(super) fn computed_drafts(&mut self, rows: usize) {
        self.usage.drafted += rows;
    }

    /// One of them turned out to be the sequence's.
    pub(super) fn took_draft(&mut self) {
        self.usage.accepted += 1;
        self.usage.computed += 1;
    }

    fn asked(&self) -> Need {
        let need = self.sampler.needs(&History { ids: &self.history, prompt: self.usage.prompt });
        match need {
            Need::Candidates(count) | Need::Totals { candidates: count, .. } if count > MOST_CANDIDATES => Need::Logits,
            need => need,
        }
    }

    /// How many candidates the step has to tell of it, for its draws and for its log-probabilities: penalties lower one token more
    /// after each that is drawn.
    pub(super) fn candidates(&self) -> usize {
        let drawn = match self.told {
            Need::Candidates(count) | Need::Totals { candidates: count, .. } => count,
            Need::Best | Need::Logits => 1,
        };
        drawn.max(self.options.logprobs.unwrap_or(0))
    }

    /// Whether the step has to tell the totals of it.
    pub(super) fn wants_totals(&self) -> bool {
        matches!(self.need, Need::Totals { .. }) || self.options.logprobs.is_some()
    }

    /// The inverse temperature of those totals.
    pub(super) fn factor(&self) -> f32 {
        match self.need {
            Need::Totals { temperature, .. } => 1.0 / temperature,
            _ => 1.0,
        }
    }

    /// Draws the next token: `row` is the sequence's, among those of the step that want logits.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is not finite, otherwise the sampler's own, and those of the device.
    pub(super) async fn draw(&mut self, engine: &mut dyn Engine, row: usize) -> Result<u32> {
        if let Some(id) = self.draw_from(engine.chosen(), row)? {
            return Ok(id);
        }
        poll_fn(|context| engine.poll_logits(row..row + 1, context)).await;
        let history = History { ids: &self.history, prompt: self.usage.prompt };
        match self.sampler.draw(Logits::All(engine.logits(row..row + 1)?), &history)? {
            Draw::Token(id) => Ok(id),
            Draw::NeedsAll => Err(Error::Input("a sampler that was given all logits asked for more".into())),
        }
    }

    /// Draws from what the step chose; none if that was too little.
    fn draw_from(&mut self, chosen: Chosen<'_>, row: usize) -> Result<Option<u32>> {
        let candidates = match chosen {
            Chosen::Nothing => return Ok(None),
            Chosen::Best(best) if best[row] == NO_TOKEN => return Err(Error::not_finite()),
            Chosen::Best(best) => return Ok(Some(best[row])),
            Chosen::Candidates(candidates) => candidates,
        };
        let (ids, logits, totals) = candidates.of(row);
        let (count, totals) = match self.need {
            _ if ids[0] == NO_TOKEN => return Err(Error::not_finite()),
            Need::Best => return Ok(Some(ids[0])),
            Need::Logits => return Ok(None),
            Need::Candidates(count) => (count, None),
            Need::Totals { candidates, .. } => (candidates, totals.map(Totals::from)),
        };
        // No more than was asked for, whatever others of the step wanted: a draw does not depend on them.
        let count = count.min(ids.len());
        let best = Candidates { ids: &ids[..count], logits: &logits[..count], totals };
        match self.sampler.draw(Logits::Best(best), &History { ids: &self.history, prompt: self.usage.prompt })? {
            Draw::Token(id) => Ok(Some(id)),
            Draw::NeedsAll => Ok(None),
        }
    }

    /// How likely a token was, if that was asked for.
    pub(super) async fn logprobs(&self, id: u32, engine: &mut dyn Engine, row: usize) -> Result<Option<Logprobs>> {
        let Some(count) = self.options.logprobs else { return Ok(None) };
        let Chosen::Candidates(candidates) = engine.chosen() else { return Ok(None) };
        let (ids, logits, totals) = candidates.of(row);
        let at_one = totals.map_or(f64::NAN, |totals| Totals::from(totals).at_one);
        let log_total = f64::from(logits[0]) + at_one.ln();
        let mut logprobs = Logprobs::new(&ids[..count.min(ids.len())], logits, log_total);
        let chosen = match ids.iter().position(|&candidate| candidate == id) {
            Some(place) => logits[place],
            None => {
                poll_fn(|context| engine.poll_logits(row..row + 1, context)).await;
                engine.logits(row..row + 1)?[id as usize]
            }
        };
        logprobs.chosen = (f64::from(chosen) - log_total) as f32;
        Ok(Some(logprobs))
    }

    /// Takes the next token: appends it, or ends the sequence. `positions` are those of its slot.
    pub(super) fn accept(&mut self, id: u32, tokenizer: Option<&Tokenizer>, positions: usize) -> Piece {
        if self.options.stop_ids.contains(&id) {
            return self.end(Finish::StopId(id));
        }
        if !self.options.ignore_end && tokenizer.is_some_and(|t| t.is_end_of_generation(id)) {
            return self.end(Finish::EndOfGeneration(id));
        }
        self.history.push(id);
        self.usage.made += 1;
        let (text, met_stop) = match (&mut self.text, tokenizer) {
            (Some(text), Some(tokenizer)) => text.push(tokenizer.token_bytes(id)),
            _ => (String::new(), false),
        };
        if met_stop {
            return Piece { id: Some(id), text, ..self.over(Finish::StopText) };
        }
        let finish = match () {
            () if self.usage.made == self.options.max_tokens => Finish::MaxTokens,
            () if self.history.len() > positions => Finish::ContextFull,
            () => return Piece { id: Some(id), text, finish: None, ..self.piece() },
        };
        let last = self.end(finish);
        Piece { id: Some(id), text: text + &last.text, ..last }
    }

    /// Ends the sequence and gives out the text that was held back.
    pub(super) fn end(&mut self, finish: Finish) -> Piece {
        let (text, met_stop) = self.text.as_mut().map(StopText::finish).unwrap_or_default();
        Piece { text, ..self.over(if met_stop { Finish::StopText } else { finish }) }
    }

    /// Ends the sequence because something went wrong; its slot forgets what it holds, as that may be what did.
    pub(super) fn give_up(&mut self, error: Error, slots: &mut Slots) -> Piece {
        self.slot.into_iter().for_each(|slot| slots.forget(slot));
        Piece { error: Some(error), finish: Some(Finish::Failed), ..self.end(Finish::Failed) }
    }

    fn over(&mut self, finish: Finish) -> Piece {
        self.is_over = true;
        Piece { finish: Some(finish), ..self.piece() }
    }

    fn piece(&self) -> Piece {
        Piece {
            sequence: self.id,
            id: None,
            text: String::new(),
            logprobs: None,
            finish: None,
            error: None,
            usage: self.usage,
        }
    }
}

impl From<[f32; 2]> for Totals {
    fn from([at_one, at_temperature]: [f32; 2]) -> Self {
        Self { at_one: at_one.into(), at_temperature: at_temperature.into() }
    }
}
