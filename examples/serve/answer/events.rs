//! A stream of events, which browsers and clients read as they come (`text/event-stream`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::time::{Sleep, sleep};

use super::Answer;
use crate::engine::{Event, Running};
use crate::http::connection::Activity;
use crate::http::error::ApiError;
use crate::http::tally::Tally;

/// After so long without an event a comment is sent: proxies cut streams that are silent.
const SILENCE: Duration = Duration::from_secs(15);
const COMMENT: &[u8] = b": keep-alive\n\n";
/// Bytes that are sent together, at most, of events that came at once.
const TOGETHER: usize = 16 << 10;

/// The events of an answer that is being made. Dropped before its end, it ends what is made for it.
pub struct Stream<A: Answer> {
    running: Option<Running>, // until the end
    answer: A,
    tally: Tally,
    activity: Activity,
    start: Instant,
    silence: Pin<Box<Sleep>>,
    events: Vec<u8>, // not sent yet
}

impl<A: Answer> Stream<A> {
    /// `start` is when the request came.
    pub fn new(running: Running, answer: A, tally: Tally, activity: Activity, start: Instant) -> Self {
        let silence = Box::pin(sleep(SILENCE));
        Self { running: Some(running), answer, tally, activity, start, silence, events: Vec::new() }
    }

    /// Takes an event of the engine.
    fn take(&mut self, event: Event) {
        match event {
            Event::Piece(number, piece, at) => {
                self.tally.facts().first.get_or_insert_with(|| self.start.elapsed());
                self.answer.take(number, piece, at, Some(&mut self.events));
                if self.answer.is_whole() {
                    self.answer.end(&mut self.events);
                    self.running.take().into_iter().for_each(Running::end);
                }
            }
            Event::Failed(error) => self.fail(&error),
            Event::Begun(_) => {}
            Event::Scores(_) | Event::Vectors(_) => self.fail(&ApiError::internal("an answer of another kind")),
        }
    }

    /// Tells of an error where the status was sent long ago; there is no end of the events then, and the connection closes.
    fn fail(&mut self, error: &ApiError) {
        self.events.extend_from_slice(b"data: ");
        self.events.extend_from_slice(error.body().to_string().as_bytes());
        self.events.extend_from_slice(b"\n\n");
        self.activity.close_after();
        self.running = None;
    }
}

/// What was made is told even if nobody read it to the end.
impl<A: Answer> Drop for Stream<A> {
    fn drop(&mut self) {
        self.answer.report(&self.tally);
    }
}

impl<A: Answer> hyper::body::Body for Stream<A> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        while this.events.len() < TOGETHER
            && let Some(running) = &mut this.running
            && let Poll::Ready(event) = running.poll(context)
        {
            this.take(event);
        }
        if this.events.is_empty() {
            if this.running.is_none() {
                return Poll::Ready(None);
            }
            ready!(this.silence.as_mut().poll(context));
            this.events.extend_from_slice(COMMENT);
        }
        this.silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
        let events = std::mem::take(&mut this.events);
        Poll::Ready(Some(Ok(Frame::data(events.into()))))
    }
}

impl<A: Answer> IntoResponse for Stream<A> {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (headers, Body::new(self)).into_response()
    }
}
