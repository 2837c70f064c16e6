//! The body of a request: read whole, within limits of size and time, and parsed on a thread where nobody waits for others.

use std::ops::Deref;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::Frame;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body.
const MOST_BYTES: usize = 8 << 20;
/// What is read of a body that is too large, and thrown away: many clients read no answer before they have sent all.
const MOST_DISCARDED: usize = 64 << 20;
/// A body beyond this is a large one.
const LARGE: usize = 256 << 10;
/// Large bodies that are held at once.
static LARGE_PLACES: Semaphore = Semaphore::const_new(32);
/// How long a large body may wait for its place.
const QUEUE: Duration = Duration::from_secs(10);
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes of a body, and its place among the large ones while it is held.
pub struct Received {
    bytes: Vec<u8>,
    _place: Option<SemaphorePermit<'static>>,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the body of a request.
pub async fn read(request: Request) -> Result<Received, ApiError> {
    let (parts, body) = request.into_parts();
    check_encoding(&parts.headers)?;
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = length.filter(|&length: &u64| length > MOST_BYTES as u64) {
        if length <= MOST_DISCARDED as u64 {
            discard_rest(body, 0).await;
        }
        return Err(too_large());
    }
    let (mut body, mut bytes, mut place, start) = (body, Vec::new(), None, Instant::now());
    let mut waited = Duration::ZERO;
    loop {
        let left = (PATIENCE + waited).saturating_sub(start.elapsed());
        let Ok(frame) = timeout(left, next_frame(&mut body)).await else {
            let message = format!("the body did not arrive within {} s", PATIENCE.as_secs());
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message));
        };
        let Some(frame) = frame else { return Ok(Received { bytes, _place: place }) };
        let broke_off = |_| ApiError::new(StatusCode::BAD_REQUEST, "the body broke off");
        let Ok(data) = frame.map_err(broke_off)?.into_data() else { continue };
        if bytes.len() + data.len() > MOST_BYTES {
            discard_rest(body, bytes.len()).await;
            return Err(too_large());
        }
        if bytes.len() + data.len() > LARGE && place.is_none() {
            let before = Instant::now();
            place = match large_place().await {
                Ok(place) => Some(place),
                Err(error) => {
                    discard_rest(body, bytes.len()).await;
                    return Err(error);
                }
            };
            waited = before.elapsed();
            let most = length.map_or(bytes.len(), |length| length as usize);
            bytes.reserve_exact(most.saturating_sub(bytes.len()));
        }
        bytes.extend_from_slice(&data);
    }
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than {} MiB", MOST_BYTES >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// A place among the large bodies.
async fn large_place() -> Result<SemaphorePermit<'static>, ApiError> {
    match timeout(QUEUE, LARGE_PLACES.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(ApiError::unavailable("too_many_bodies", "too many large requests are being read; try again")),
    }
}

async fn next_frame(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    std::future::poll_fn(|context| hyper::body::Body::poll_frame(std::pin::Pin::new(body), context)).await
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

/// Throws away what comes of a body of which so much was read, as far as that is worth the wait.
async fn discard_rest(mut body: Body, read: usize) {
    let rest = async {
        let mut read = read;
        while let Some(Ok(frame)) = next_frame(&mut body).await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST_DISCARDED {
                break;
            }
        }
    };
    let _ = timeout(PATIENCE, rest).await; // whatever comes of it, the answer is the same
}

/// Does work that takes a while, such as reading JSON and encoding text, where no other request waits for it. If it panics, that is
/// the end of this request alone.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|_| Err(ApiError::internal("this request could not be processed; please report it")))
}
