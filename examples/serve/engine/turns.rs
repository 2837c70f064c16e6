//! The engine's loop: takes what came in, gives free slots to who waits, computes one step, and tells what it made.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use sterna::generate::{Session, StepBudget};

use super::embed::Embedding;
use super::generate::Sequences;
use super::job::{Job, Work};
use super::score::Scoring;
use super::{Command, Event, Health, Request, Shared, Task};
use crate::http::error::ApiError;
use crate::metrics::Metrics;

/// How often a client that reads slowly is looked after while nothing else is to do.
const LOOK: Duration = Duration::from_millis(10);
/// How long a client may read nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much one step may take.
#[derive(Clone, Copy)]
pub struct Limits {
    pub budget: StepBudget,
}

/// What runs on the engine's thread.
pub struct Turns {
    pub session: Session,
    pub metrics: Arc<Metrics>,
    pub shared: Arc<Shared>,
    pub limits: Limits,
    pub jobs: Vec<Job>, // in the order in which they came
    turn: u64,          // of the next slot that is given
}

/// Runs until it is stopped, or nobody is left who could ask.
pub fn run(
    session: Session,
    receiver: &mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    limits: Limits,
) {
    let positions = session.sequences() * session.positions();
    metrics.positions[1].store(positions as u64, Ordering::Relaxed);
    let mut turns = Turns { session, metrics, shared, limits, jobs: Vec::new(), turn: 0 };
    while turns.take(receiver) {
        turns.end_cancelled();
        turns.admit();
        turns.step();
        turns.send_unsent();
        turns.remove_ended();
        turns.tell_gauges();
    }
}

impl Turns {
    /// Takes all commands that came, and waits for one if there is nothing to do. False if that was the last one.
    fn take(&mut self, receiver: &mpsc::Receiver<Command>) -> bool {
        let first = match () {
            () if self.jobs.is_empty() => match receiver.recv() {
                Ok(command) => Some(command),
                Err(_) => return false,
            },
            () if self.is_idle() => receiver.recv_timeout(LOOK).ok(),
            () => receiver.try_recv().ok(),
        };
        let more = std::iter::from_fn(|| receiver.try_recv().ok());
        for command in first.into_iter().chain(more) {
            match command {
                Command::Begin(request) => self.queue(*request),
                Command::Look => {}
                Command::Drain => self.send_away(|job| job.begun.is_none()),
                Command::Stop => {
                    self.send_away(|_| true);
                    self.remove_ended();
                    self.tell_gauges();
                    return false;
                }
            }
        }
        true
    }

    fn queue(&mut self, request: Request) {
        if let Err(error) = self.refusal() {
            let _ = request.events.try_send(Event::Failed(error)); // its client may be gone
            return;
        }
        let mut request = request;
        let work = match std::mem::replace(&mut request.task, Task::Embed(Vec::new())) {
            Task::Generate(generate) => Work::Sequences(Sequences::new(generate)),
            Task::Score { ids, best, reuse } => Work::Scoring(Scoring::new(ids, best, reuse)),
            Task::Embed(texts) => Work::Embedding(Embedding::new(texts)),
        };
        self.turn += 1;
        let job =
            Job { request, work, begun: None, turn: self.turn, unsent: VecDeque::new(), stalled: None, is_over: false };
        self.jobs.push(job);
    }

    /// What a request is told that came while the server was being shut down, or its device was lost.
    fn refusal(&self) -> Result<(), ApiError> {
        match self.shared.health() {
            Health::Draining => Err(ApiError::shutting_down()),
            Health::Failed => Err(ApiError::unavailable("failed", "this server can do no more")),
            _ => Ok(()),
        }
    }

    /// Whether no step would compute anything.
    fn is_idle(&self) -> bool {
        let free = self.free();
        let has_slot = |job: &Job| match &job.work {
            Work::Sequences(sequences) => sequences.running() > 0,
            Work::Scoring(_) | Work::Embedding(_) => job.begun.is_some(),
        };
        !self.jobs.iter().any(|job| !job.is_over && job.stalled.is_none() && (has_slot(job) || free > 0))
    }

    /// Slots that nobody has.
    fn free(&self) -> usize {
        let scoring =
            self.jobs.iter().filter(|job| job.begun.is_some() && matches!(job.work, Work::Scoring(_))).count();
        self.session.sequences().saturating_sub(self.session.running() + self.session.waiting() + scoring)
    }

    /// Ends the requests of clients that went away, or that read nothing for too long.
    fn end_cancelled(&mut self) {
        for place in 0..self.jobs.len() {
            let job = &self.jobs[place];
            let is_stuck = job.stalled.is_some_and(|since| since.elapsed() > PATIENCE);
            if !is_stuck && !job.is_deserted() {
                continue;
            }
            if is_stuck {
                log::info!("a client that read nothing for {} s was let go", PATIENCE.as_secs());
            }
            if !job.is_over && !job.request.client.has_all.load(Ordering::Relaxed) {
                self.metrics.count_cancelled(job.stage(&self.session));
            }
            self.jobs[place].unsent.clear();
            self.end(place);
        }
        self.remove_ended();
    }

    /// Ends some requests because the server does.
    fn send_away(&mut self, which: impl Fn(&Job) -> bool) {
        for place in 0..self.jobs.len() {
            if which(&self.jobs[place]) {
                self.fail(place, ApiError::shutting_down());
            }
        }
        self.remove_ended();
    }

    /// Ends a request with an error.
    pub fn fail(&mut self, place: usize, error: ApiError) {
        self.jobs[place].send(Event::Failed(error));
        self.end(place);
    }

    /// Ends a request: whatever of it runs leaves the session.
    pub fn end(&mut self, place: usize) {
        let job = &mut self.jobs[place];
        job.is_over = true;
        if let Work::Sequences(sequences) = &mut job.work {
            sequences.leave(&mut self.session);
        }
    }

    /// Gives free slots to those that wait, one at a time: to whoever waits the longest since it got one.
    fn admit(&mut self) {
        while self.free() > 0 {
            let waits = |job: &&Job| !job.is_over && job.wants_slot();
            let Some(turn) = self.jobs.iter().filter(waits).map(|job| job.turn).min() else { break };
            let Some(place) = self.jobs.iter().position(|job| job.turn == turn) else { break };
            self.turn += 1;
            let job = &mut self.jobs[place];
            job.turn = self.turn;
            if job.begun.is_none() {
                job.begun = Some(Instant::now());
                let queued = job.request.arrived.elapsed();
                self.metrics.queue_time.add(queued.as_secs_f64());
                job.send(Event::Begun(queued));
            }
            if let Work::Sequences(sequences) = &mut job.work
                && let Err(error) = sequences.begin_next(&mut self.session)
            {
                self.fail(place, error.into());
            }
        }
    }

    /// Computes a step of the sequences, and a piece of one request of another kind.
    fn step(&mut self) {
        self.step_sequences();
        let others = self.jobs.iter().enumerate().filter(|(_, job)| job.begun.is_some() && !job.is_over);
        let others = others.filter(|(_, job)| !matches!(job.work, Work::Sequences(_)));
        let Some(place) = others.min_by_key(|(_, job)| job.turn).map(|(place, _)| place) else { return };
        self.turn += 1;
        self.jobs[place].turn = self.turn;
        let outcome = match &mut self.jobs[place].work {
            Work::Sequences(_) => return,
            Work::Scoring(scoring) => scoring.step(&mut self.session, self.limits),
            Work::Embedding(embedding) => embedding.step(&mut self.session),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(event)) => {
                let job = &mut self.jobs[place];
                self.metrics.whole_requests.add(job.request.arrived.elapsed().as_secs_f64());
                self.metrics.prompt_tokens.fetch_add(job.read_tokens() as u64, Ordering::Relaxed);
                job.send(event);
                self.end(place);
            }
            Err(error) => {
                self.note_lost(&error);
                self.fail(place, error.into());
            }
        }
    }

    /// A device that was lost takes no more requests.
    pub fn note_lost(&self, error: &sterna::Error) {
        use sterna::{DeviceErrorKind, Error};
        if matches!(error, Error::Device(device) if device.kind == DeviceErrorKind::Lost) {
            log::error!("{error}");
            self.shared.set_health(Health::Failed);
        }
    }

    /// Hands out what clients had no room for; sequences of those that still have none are held.
    fn send_unsent(&mut self) {
        for job in &mut self.jobs {
            let was_stalled = job.stalled.is_some();
            job.flush();
            let is_stalled = job.stalled.is_some();
            if let (true, Work::Sequences(sequences)) = (was_stalled != is_stalled || is_stalled, &job.work) {
                sequences.hold(&mut self.session, is_stalled);
            }
        }
    }

    /// Those that are over and have told everything are gone.
    fn remove_ended(&mut self) {
        let shared = &self.shared;
        self.jobs.retain_mut(|job| {
            let is_done = job.is_over && (job.unsent.is_empty() || job.is_deserted());
            if let (true, false, Some(begun)) = (is_done, job.is_deserted(), job.begun) {
                shared.note_time(begun.elapsed());
            }
            !is_done
        });
    }

    fn tell_gauges(&self) {
        let (mut running, mut waiting, mut positions) = (0, 0, 0);
        for job in self.jobs.iter().filter(|job| !job.is_over) {
            match &job.work {
                Work::Sequences(sequences) => {
                    running += sequences.running();
                    waiting += sequences.waiting();
                    positions += sequences.positions(&self.session);
                }
                _ if job.begun.is_some() => running += 1,
                _ => waiting += 1,
            }
        }
        self.metrics.running.store(running as u64, Ordering::Relaxed);
        self.metrics.waiting.store(waiting as u64, Ordering::Relaxed);
        self.metrics.positions[0].store(positions as u64, Ordering::Relaxed);
    }
}
