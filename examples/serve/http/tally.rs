//! What is told of a request in one line of the log, when it is over: whatever became of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use sterna::generate::Usage;

use crate::app::App;

/// What a request came to, filled in by whoever knows it.
#[derive(Default)]
pub struct Facts {
    /// Of all its sequences together.
    pub usage: Usage,
    pub queued: Option<Duration>,
    pub first: Option<Duration>,
    /// What was asked and answered, if that is to be told.
    pub content: Vec<String>,
}

/// The facts of a request, shared between its answer and its line.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Facts>>);

impl Tally {
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the line when it is dropped: with the answer's last byte, or when the client went away.
pub struct Line {
    pub app: Arc<App>,
    pub id: String,
    pub method: Method,
    pub route: &'static str,
    pub start: Instant,
    pub status: Option<u16>,
    /// Whether all of the answer was handed to the connection.
    pub is_whole: bool,
    pub tally: Tally,
}

/// What is logged and counted where the client went away.
const CLIENT_GONE: u16 = 499;

impl Drop for Line {
    fn drop(&mut self) {
        let status = self.status.filter(|_| self.is_whole).unwrap_or(CLIENT_GONE);
        self.app.metrics.count_answered(self.route, status);
        let (method, route, total) = (&self.method, self.route, self.start.elapsed().as_millis());
        let facts = self.tally.facts();
        let Usage { prompt, cached, made, .. } = facts.usage;
        let mut line = format!("{} {method} {route} {status}", self.id);
        if prompt > 0 {
            let millis = |time: Option<Duration>| time.map_or("-".into(), |time| time.as_millis().to_string());
            let (queue, first) = (millis(facts.queued), millis(facts.first));
            line += &format!(" prompt={prompt} cached={cached} made={made} queue_ms={queue} ttft_ms={first}");
        }
        // Probes come every few seconds.
        let level = if is_probe(route) { log::Level::Debug } else { log::Level::Info };
        log::log!(level, "{line} total_ms={total}");
        for content in &facts.content {
            log::info!("{} {content}", self.id);
        }
    }
}

fn is_probe(route: &str) -> bool {
    matches!(route, "/health" | "/metrics" | "/")
}
