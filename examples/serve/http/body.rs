//! The body of a request: read whole, within limits of size and time, and parsed on a thread where nobody waits for others.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::time::timeout;

use super::error::ApiError;

/// The largest body.
const MOST_BYTES: usize = 8 << 20;
/// What is read of a body that is too large, and thrown away: many clients read no answer before they have sent all.
const MOST_DISCARDED: usize = 64 << 20;
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the body of a request.
pub async fn read(request: Request) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    check_encoding(&parts.headers)?;
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let too_large = || {
        let message = format!("the body is larger than {} MiB", MOST_BYTES >> 20);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if let Some(length) = length.filter(|&length: &u64| length > MOST_BYTES as u64) {
        if length <= MOST_DISCARDED as u64 {
            let _ = timeout(PATIENCE, discard(body)).await; // whatever comes of it, the answer is the same
        }
        return Err(too_large());
    }
    match timeout(PATIENCE, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(match is_too_large(&error) {
            true => too_large(),
            false => ApiError::new(StatusCode::BAD_REQUEST, "the body broke off"),
        }),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", PATIENCE.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
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

/// Whether a body was cut at the limit, or else broke off.
fn is_too_large(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

async fn discard(body: Body) {
    let mut body = body;
    let next = |body: &mut Body, context: &mut std::task::Context<'_>| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(body), context)
    };
    while let Some(Ok(_)) = std::future::poll_fn(|context| next(&mut body, context)).await {}
}

/// Does work that takes a while, such as reading JSON and encoding text, where no other request waits for it. If it panics, that is
/// the end of this request alone.
pub async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|_| Err(ApiError::internal("this request could not be processed; please report it")))
}
