//! The model at work, on a thread of its own: requests come in over a channel, and what is made of them goes out over one for each.
//! Nothing here knows of HTTP.
//!
//! A request waits here until there is a slot for it, and not in the session, since some need a slot without joining as a sequence,
//! and since those that still wait are the first to be told when the server is shut down. Of several that wait, each gets one slot
//! at a time, so that one who asks for many answers is not the only one who is served.

mod embed;
mod generate;
mod job;
mod score;
mod turns;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sterna::Prompt;
use sterna::generate::{Piece, Reuse, Sampler};
use tokio::sync::mpsc as events;

use crate::http::error::ApiError;

pub use score::Score;
pub use turns::{Limits, run};

/// Events that wait for a client that reads slowly; then its sequences are held.
const EVENTS: usize = 1024;

/// What a request asks of the model.
pub enum Task {
    Generate(Generate),
    /// How likely each of these ids is after those before it, and this many of the most likely ones in its place.
    Score {
        ids: Vec<u32>,
        best: usize,
        reuse: Reuse,
    },
    /// A vector of each text.
    Embed(Vec<Vec<u32>>),
}

/// Sequences, whose places are their numbers.
pub struct Generate {
    pub sequences: Vec<Start>,
    /// They begin alike: the others wait until the first has read the prompt, so that it is read once.
    pub is_shared: bool,
}

/// A sequence to begin.
pub struct Start {
    pub prompt: Prompt,
    /// In the place of what the prompt's options say.
    pub sampler: Option<Box<dyn Sampler>>,
}

/// What comes of a request.
pub enum Event {
    /// It was given its first slot, after so long.
    Begun(Duration),
    /// What a step made for the sequence of this number, and when.
    Piece(usize, Piece, Instant),
    /// Of each id of a [`Task::Score`].
    Scores(Vec<Score>),
    /// Of each text of a [`Task::Embed`].
    Vectors(Vec<Vec<f32>>),
    /// Nothing more comes.
    Failed(ApiError),
}

/// How the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    Loading,
    Ready,
    /// Requests are taken, but whoever asks is told that others should have them.
    Leaving,
    /// Requests that run go on, and no others begin.
    Draining,
    /// The device is gone.
    Failed,
}

/// What the engine's thread and all others share.
pub struct Shared {
    health: AtomicU8,
    /// Requests that are not over, and as many as may be.
    requests: AtomicUsize,
    most: AtomicUsize,
    slots: AtomicUsize,
    /// What a request takes of a slot, in microseconds.
    request_time: AtomicU64,
}

/// The way to the engine. Clones are one.
#[derive(Clone)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What the engine's thread is told.
pub enum Command {
    Begin(Box<Request>),
    /// Some client went away.
    Look,
    /// Those that wait are sent away.
    Drain,
    /// All are.
    Stop,
}

/// A request on its way to the engine.
pub struct Request {
    pub task: Task,
    pub arrived: Instant,
    pub events: events::Sender<Event>,
    pub client: Arc<Client>,
    #[expect(dead_code, reason = "it is given back when the request is over")]
    pub place: Place,
}

/// Who waits for a request.
#[derive(Default)]
pub struct Client {
    /// Nobody does any more.
    pub is_gone: AtomicBool,
    /// It has all that it wanted.
    pub has_all: AtomicBool,
}

impl Engine {
    /// The way to an engine that is not there yet, and its other end.
    pub fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel();
        let shared = Shared {
            health: AtomicU8::new(Health::Loading as u8),
            requests: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            slots: AtomicUsize::new(1),
            request_time: AtomicU64::new(0),
        };
        (Self { commands, shared: Arc::new(shared) }, receiver)
    }

    pub fn health(&self) -> Health {
        self.shared.health()
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether requests are taken at present, or else what they are told.
    pub fn check(&self) -> Result<(), ApiError> {
        match self.health() {
            Health::Ready | Health::Leaving => Ok(()),
            Health::Loading => Err(ApiError::unavailable("loading", "Loading model")),
            Health::Draining => Err(ApiError::shutting_down()),
            Health::Failed => {
                Err(ApiError::unavailable("failed", "this server can do no more; it must be started again"))
            }
        }
    }

    /// Gives a request to the engine, or refuses it at once.
    pub fn begin(&self, task: Task) -> Result<Running, ApiError> {
        self.check()?;
        let place = Place::take(&self.shared)?;
        let (sender, receiver) = events::channel(EVENTS);
        let client = Arc::new(Client::default());
        let request = Request { task, arrived: Instant::now(), events: sender, client: client.clone(), place };
        let sent = self.commands.send(Command::Begin(Box::new(request)));
        sent.map_err(|_| ApiError::internal("the engine has ended"))?;
        Ok(Running { events: receiver, client, commands: self.commands.clone() })
    }

    /// Sends away who waits, and takes nobody any more.
    pub fn drain(&self) {
        self.shared.set_health(Health::Draining);
        let _ = self.commands.send(Command::Drain); // it may have ended
    }

    /// Ends the engine, with all that runs.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// Takes no more requests, and none comes back: the server has to be started again.
    pub fn give_up(&self) {
        self.shared.set_health(Health::Failed);
    }

    /// Requests that are not over.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Shared {
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Loading,
            1 => Health::Ready,
            2 => Health::Leaving,
            3 => Health::Draining,
            _ => Health::Failed,
        }
    }

    /// A device that is gone stays gone.
    pub fn set_health(&self, health: Health) {
        if self.health() != Health::Failed {
            self.health.store(health as u8, Ordering::Relaxed);
        }
    }

    /// The model was loaded: so many sequences at once, and so many requests that may wait for them.
    pub fn open(&self, slots: usize, queue: usize) {
        self.slots.store(slots, Ordering::Relaxed);
        self.most.store(slots.saturating_add(queue), Ordering::Relaxed);
        // Whoever was told to end meanwhile does not begin.
        let (loading, ready) = (Health::Loading as u8, Health::Ready as u8);
        let _ = self.health.compare_exchange(loading, ready, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Takes note of what a request took of a slot.
    pub fn note_time(&self, time: Duration) {
        let (latest, before) = (time.as_micros() as u64, self.request_time.load(Ordering::Relaxed));
        let average = if before == 0 { latest } else { (7 * before + latest) / 8 };
        self.request_time.store(average, Ordering::Relaxed);
    }

    /// How long a request would wait that came now.
    fn wait(&self) -> Duration {
        let (requests, slots) = (self.requests.load(Ordering::Relaxed), self.slots.load(Ordering::Relaxed));
        let ahead = requests.saturating_sub(slots) as u64 + 1;
        Duration::from_micros(self.request_time.load(Ordering::Relaxed).saturating_mul(ahead) / slots.max(1) as u64)
    }
}

/// A place among the requests that run or wait, until it is dropped.
pub struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Result<Self, ApiError> {
        let most = shared.most.load(Ordering::Relaxed);
        let one_more = |requests: usize| (requests < most).then_some(requests + 1);
        match shared.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self(shared.clone())),
            Err(_) => Err(ApiError::queue_full(shared.wait())),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that the engine has. Whoever drops it is not interested any more: its sequences end after the step at work.
pub struct Running {
    events: events::Receiver<Event>,
    client: Arc<Client>,
    commands: mpsc::Sender<Command>,
}

impl Running {
    /// The client has all that it wanted, even if more is being made.
    pub fn end(self) {
        self.client.has_all.store(true, Ordering::Relaxed);
    }

    /// The next event. An end without a word is a failure too.
    pub async fn next(&mut self) -> Event {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let broken = "the answer was broken off: it was not read for too long, or the engine has ended";
        let gone = || Event::Failed(ApiError::internal(broken));
        self.events.poll_recv(context).map(|event| event.unwrap_or_else(gone))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.client.is_gone.store(true, Ordering::Relaxed);
        let _ = self.commands.send(Command::Look); // it may have ended
    }
}
