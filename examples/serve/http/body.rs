//! The body of a request: read whole, within limits of size and time, and parsed on a thread where nobody waits for others.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body.
const MOST_BYTES: usize = 8 << 20;
/// What is read of a body that is too large, and thrown away: many clients read no answer before they have sent all.
const MOST_DISCARDED: usize = 64 << 20;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What each body has for itself, so that small ones are read whatever large ones do.
const OWN_BYTES: usize = 64 << 10;
/// A unit of the room that all bodies share beyond that, in bytes; and how many there are: 256 MiB.
const UNIT: usize = 1 << 10;
static ROOM: Semaphore = Semaphore::const_new((256 << 20) / UNIT);

/// A body, and its share of the room for all, until it is dropped.
#[derive(Default)]
pub struct Held {
    bytes: Vec<u8>,
    room: Option<SemaphorePermit<'static>>,
}

impl Held {
    /// Adds a piece.
    ///
    /// # Errors
    /// 413 if the body is too large, 503 if others have all the room.
    fn add(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        if piece.len() > MOST_BYTES - self.bytes.len() {
            return Err(too_large());
        }
        let no_room = || ApiError::unavailable("too_many_bodies", "too many large requests are being read; try again");
        self.bytes.try_reserve(piece.len()).map_err(|_| no_room())?;
        let wanted = self.bytes.capacity().saturating_sub(OWN_BYTES).div_ceil(UNIT);
        let more = wanted.saturating_sub(self.room.as_ref().map_or(0, SemaphorePermit::num_permits));
        let more = ROOM.try_acquire_many(more as u32).map_err(|_| no_room())?; // at most 16 Ki: a Vec doubles
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the body of a request.
pub async fn read(request: Request) -> Result<Held, ApiError> {
    let (parts, body) = request.into_parts();
    check_encoding(&parts.headers)?;
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = length.filter(|&length: &u64| length > MOST_BYTES as u64) {
        if length <= MOST_DISCARDED as u64 {
            // Whatever comes of it, the answer is the same.
            let _ = timeout(PATIENCE, each_piece(body, |_| Ok(()))).await;
        }
        return Err(too_large());
    }
    let mut held = Held::default();
    match timeout(PATIENCE, each_piece(body, |piece| held.add(&piece))).await {
        Ok(outcome) => outcome.map(|()| held),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", PATIENCE.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {} MiB", MOST_BYTES >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(()) };
    match encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        true => Ok(()),
        false => {
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not taken; send it as it is"))
        }
    }
}

/// Hands over every piece of a body as it comes.
async fn each_piece(mut body: Body, mut take: impl FnMut(Bytes) -> Result<(), ApiError>) -> Result<(), ApiError> {
    while let Some(frame) = poll_fn(|context| hyper::body::Body::poll_frame(Pin::new(&mut body), context)).await {
        let frame = frame.map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        if let Ok(piece) = frame.into_data() {
            take(piece)?;
        }
    }
    Ok(())
}

/// Does work that takes a while, such as reading JSON and encoding text, where no other request waits for it. If it panics, that is
/// the end of this request alone.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|_| Err(ApiError::internal("this request could not be processed; please report it")))
}
