//! Answers as they are made: what a step made of a sequence becomes what its client reads, whole at the end or in events on the way.
//! Both go through the same steps, so a stream's parts together are what the whole answer would have been.

pub mod chat;
pub mod completion;
mod events;
mod frame;
pub mod logprobs;
pub mod text;
pub mod usage;

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use sterna::generate::{Finish, Piece};

use crate::app::{App, Served};
use crate::engine::{Event, Running};
use crate::http::connection::Activity;
use crate::http::error::ApiError;
use crate::http::random;
use crate::http::tally::Tally;
use crate::metrics::Metrics;

/// What a kind of request makes of pieces.
pub trait Answer: Send + Unpin + 'static {
    /// The engine gave the request its first slot.
    fn begin(&mut self);

    /// Takes a piece of a sequence. A stream's events are appended.
    fn take(&mut self, number: usize, piece: Piece, at: Instant, events: Option<&mut Vec<u8>>);

    /// Whether all sequences came to their end.
    fn is_whole(&self) -> bool;

    /// What a stream ends with, after the last piece.
    fn end(&mut self, events: &mut Vec<u8>);

    /// The whole answer.
    fn whole(&mut self) -> Value;

    /// Tells the log what the request came to.
    fn report(&self, tally: &Tally);
}

/// What all chunks of an answer have in common.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub served: Arc<Served>,
    pub metrics: Arc<Metrics>,
    /// Whether what is made is told to the log.
    pub logs_content: bool,
}

/// What ends a stream.
const DONE: &[u8] = b"data: [DONE]\n\n";

impl Head {
    pub fn new(prefix: &str, app: &App, served: &Arc<Served>) -> Self {
        Self {
            id: random::name(prefix),
            created: unix_time(),
            served: served.clone(),
            metrics: app.metrics.clone(),
            logs_content: app.settings.log_content,
        }
    }
}

/// Seconds of Unix.
pub fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Why an answer ended, as clients know it.
pub fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::MaxTokens | Finish::ContextFull => "length",
        _ => "stop",
    }
}

/// Makes the response of a request: whole, or a stream, which begins when the request has a slot.
pub async fn respond<A: Answer>(
    app: &App,
    running: Running,
    mut answer: A,
    stream: bool,
    (tally, activity): (Tally, Activity),
) -> Result<Response, ApiError> {
    let start = Instant::now();
    let mut running = running;
    let first = async {
        if stream && app.settings.early_headers {
            return Ok(());
        }
        if stream {
            return begun(&mut running, &mut answer, &tally).await;
        }
        collect(&mut running, &mut answer, &tally, start).await
    };
    app.in_time(first).await?;
    match stream {
        true => Ok(events::Stream::new(running, answer, tally, activity, start).into_response()),
        false => {
            running.end();
            Ok(Json(answer.whole()).into_response())
        }
    }
}

/// Waits until the request has a slot.
async fn begun<A: Answer>(running: &mut Running, answer: &mut A, tally: &Tally) -> Result<(), ApiError> {
    match running.next().await {
        Event::Begun(queued) => {
            answer.begin();
            tally.facts().queued = Some(queued);
            Ok(())
        }
        Event::Failed(error) => Err(error),
        _ => Err(ApiError::internal("an answer of another kind")),
    }
}

/// Waits until the answer is whole.
async fn collect<A: Answer>(
    running: &mut Running,
    answer: &mut A,
    tally: &Tally,
    start: Instant,
) -> Result<(), ApiError> {
    while !answer.is_whole() {
        match running.next().await {
            Event::Begun(queued) => {
                answer.begin();
                tally.facts().queued = Some(queued);
            }
            Event::Piece(number, piece, at) => {
                tally.facts().first.get_or_insert_with(|| start.elapsed());
                answer.take(number, piece, at, None);
            }
            Event::Failed(error) => return Err(error),
            Event::Scores(_) | Event::Vectors(_) => return Err(ApiError::internal("an answer of another kind")),
        }
    }
    answer.report(tally);
    Ok(())
}
