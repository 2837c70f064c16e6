//! What a request is answered where it cannot be served: OpenAI's form of an error, with a text that says what was wrong and what is
//! allowed. All four keys are always there; clients choose their class of error by the status.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sterna::Error;

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The field that is wrong.
    pub param: Option<String>,
    pub code: Option<&'static str>,
    /// Tokens of a prompt, and what the context has room for.
    tokens: Option<(usize, usize)>,
    retry_after: Option<Duration>,
}

/// The longest wait that a client is told.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, tokens: None, retry_after: None }
    }

    /// 400: a field that is wrong.
    pub fn of(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// 400: a field that means something, which this server does not do.
    pub fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self::of(param, message).coded("unsupported_parameter")
    }

    /// 400: no JSON, or not the JSON that was expected.
    pub fn json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).coded("invalid_json")
    }

    /// 400: a prompt that can never fit, in the words that clients of OpenAI look for.
    pub fn context(tokens: usize, room: usize, way: &str, param: &str) -> Self {
        let message = format!(
            "This model's maximum context length is {room} tokens. However, your messages resulted in {tokens} tokens. {way}"
        );
        Self { tokens: Some((tokens, room)), ..Self::of(param, message).coded("context_length_exceeded") }
    }

    /// 429: as many requests wait as may.
    pub fn queue_full(wait: Duration) -> Self {
        let message = "as many requests wait as this server takes; try again later, or raise --queue";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, message).coded("queue_full");
        Self { retry_after: Some(wait.clamp(Duration::from_secs(1), LONGEST_WAIT)), ..error }
    }

    /// 503: not now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, message).coded(code);
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    pub fn shutting_down() -> Self {
        Self::unavailable("shutting_down", "this server is being shut down")
    }

    /// 500: something that the client can do nothing about.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// What the client reads.
    pub fn body(&self) -> Value {
        let mut error = json!({ "message": self.message, "type": self.kind(), "param": self.param, "code": self.code });
        if let Some((tokens, room)) = self.tokens {
            error["n_prompt_tokens"] = tokens.into();
            error["n_ctx"] = room.into();
        }
        json!({ "error": error })
    }
}

/// Of a request that the library refused, or that failed while it was computed.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Input(message) => Self::new(StatusCode::BAD_REQUEST, message),
            Error::Unsupported(message) => Self::new(StatusCode::BAD_REQUEST, message).coded("unsupported_parameter"),
            Error::Busy(message) => Self::unavailable("busy", message),
            Error::Interrupted => Self::shutting_down(),
            other => Self::internal(other.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json")], self.body().to_string()).into_response();
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(wait) = self.retry_after {
            add("retry-after", wait.as_secs_f64().ceil().to_string());
            add("retry-after-ms", wait.as_millis().to_string());
        }
        match self.status {
            // What failed once will fail again: OpenAI's clients would ask twice more.
            StatusCode::INTERNAL_SERVER_ERROR => add("x-should-retry", "false".into()),
            StatusCode::UNAUTHORIZED => add("www-authenticate", "Bearer".into()),
            _ => {}
        }
        response
    }
}
