//! The sequences of a request that wants tokens.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sterna::Result;
use sterna::generate::{Piece, SequenceId, Session, Usage};

use super::job::Work;
use super::turns::Turns;
use super::{Event, Generate, Start};

/// Those that wait for a slot, and those that have one.
pub struct Sequences {
    waiting: VecDeque<(usize, Start)>, // with their numbers
    running: Vec<Going>,
    left: usize,     // that are not over
    is_shared: bool, // and the first has not read the prompt yet
}

/// A sequence that the session has.
struct Going {
    id: SequenceId,
    number: usize,
    latest: Option<Instant>, // when its latest token came
    usage: Usage,            // as of then
}

impl Sequences {
    pub fn new(Generate { sequences, is_shared }: Generate) -> Self {
        let left = sequences.len();
        Self { waiting: sequences.into_iter().enumerate().collect(), running: Vec::new(), left, is_shared }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Positions of the caches that they hold.
    pub fn positions(&self, session: &Session) -> usize {
        let usages = self.running.iter().filter_map(|going| session.usage(going.id));
        usages.map(|usage| usage.cached + usage.computed).sum()
    }

    pub fn wants_slot(&self) -> bool {
        !self.waiting.is_empty() && (!self.is_shared || self.running.is_empty())
    }

    pub fn makes_tokens(&self, session: &Session) -> bool {
        self.running.iter().any(|going| session.usage(going.id).is_some_and(|usage| usage.made > 0))
    }

    /// Gives the next one to the session.
    pub fn begin_next(&mut self, session: &mut Session) -> Result<()> {
        let Some((number, Start { prompt, sampler })) = self.waiting.pop_front() else { return Ok(()) };
        let id = match sampler {
            Some(sampler) => session.join_with(prompt, sampler)?,
            None => session.join(prompt)?,
        };
        self.running.push(Going { id, number, latest: None, usage: Usage::default() });
        Ok(())
    }

    pub fn hold(&self, session: &mut Session, is_held: bool) {
        for going in &self.running {
            session.hold(going.id, is_held);
        }
    }

    /// Takes all of them out of the session.
    pub fn leave(&mut self, session: &mut Session) {
        self.waiting.clear();
        for going in self.running.drain(..) {
            session.leave(going.id);
        }
    }
}

impl Turns {
    /// Computes a step, counts it, and tells each client what is its own.
    pub fn step_sequences(&mut self) {
        let before = self.session.timings();
        let start = Instant::now();
        let pieces = self.session.step(&self.limits.budget).to_vec();
        self.count_step(&before, start.elapsed());
        for piece in pieces {
            let owner = self.jobs.iter().enumerate().find_map(|(place, job)| match &job.work {
                Work::Sequences(sequences) => {
                    let at = sequences.running.iter().position(|going| going.id == piece.sequence)?;
                    Some((place, at))
                }
                _ => None,
            });
            // Those that left have no owner any more.
            if let Some((place, at)) = owner {
                self.tell(place, at, piece);
            }
        }
    }

    fn count_step(&self, before: &sterna::measure::Timings, time: Duration) {
        let after = self.session.timings();
        let (prompt, made) = (after.prefill_tokens - before.prefill_tokens, after.decode_tokens - before.decode_tokens);
        if prompt + made > 0 {
            self.metrics.step_seconds.add(time.as_secs_f64());
            self.metrics.step_rows[0].add(prompt as f64);
            self.metrics.step_rows[1].add(made as f64);
        }
    }

    /// Hands a piece to its request.
    fn tell(&mut self, place: usize, at: usize, piece: Piece) {
        self.count(place, at, &piece);
        let job = &mut self.jobs[place];
        let Work::Sequences(sequences) = &mut job.work else { return };
        sequences.is_shared = false; // whoever made a token has read the prompt
        let number = sequences.running[at].number;
        if piece.finish.is_some() {
            sequences.running.remove(at);
            sequences.left -= 1;
        }
        if let Some(error) = piece.error {
            self.note_lost(&error);
            return self.fail(place, error.into());
        }
        let is_last = sequences.left == 0;
        self.jobs[place].send(Event::Piece(number, piece, Instant::now()));
        if is_last {
            self.metrics.whole_requests.add(self.jobs[place].request.arrived.elapsed().as_secs_f64());
            self.end(place);
        }
    }

    /// Counts a token and the time it took.
    fn count(&mut self, place: usize, at: usize, piece: &Piece) {
        let job = &mut self.jobs[place];
        let (metrics, arrived) = (&self.metrics, job.request.arrived);
        let Work::Sequences(sequences) = &mut job.work else { return };
        let going = &mut sequences.running[at];
        let now = Instant::now();
        match going.latest.replace(now) {
            None => {
                let usage = piece.usage;
                metrics.first_token.add((now - arrived).as_secs_f64());
                metrics.prompt_tokens.fetch_add(usage.prompt as u64, Ordering::Relaxed);
                metrics.cache_queries.fetch_add(usage.prompt as u64, Ordering::Relaxed);
                metrics.cache_hits.fetch_add(usage.cached as u64, Ordering::Relaxed);
            }
            Some(before) if piece.id.is_some() => metrics.gaps.add((now - before).as_secs_f64()),
            Some(_) => {}
        }
        metrics.made_tokens.fetch_add(u64::from(piece.id.is_some()), Ordering::Relaxed);
        let before = std::mem::replace(&mut going.usage, piece.usage);
        metrics.drafted_tokens.fetch_add((piece.usage.drafted - before.drafted) as u64, Ordering::Relaxed);
        metrics.accepted_tokens.fetch_add((piece.usage.accepted - before.accepted) as u64, Ordering::Relaxed);
    }
}
