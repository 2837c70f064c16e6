//! What browsers ask before they let a page read an answer. Pages of this machine may always, others by `--cors`; errors and streams
//! tell so too, or a page could not read them.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;

/// The origins that may read answers.
pub struct Cors {
    any: bool,
    origins: Vec<String>,
}

impl Cors {
    pub fn new(origins: &[String]) -> Self {
        let origins: Vec<_> = origins.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect();
        Self { any: origins.iter().any(|origin| origin == "*"), origins }
    }

    /// What the answer to a request of this origin tells the browser, if it may read it.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        let text = origin.to_str().ok()?;
        (is_loopback(text) || self.origins.iter().any(|known| known == text)).then(|| origin.clone())
    }

    /// The answer to the question that browsers ask before they ask anything else.
    pub fn preflight(headers: &HeaderMap) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let usual = HeaderValue::from_static("authorization, content-type");
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(usual));
        response
    }

    /// Adds to an answer what browsers look for.
    pub fn mark(response: &mut Response, allowed: Option<HeaderValue>) {
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let Some(allowed) = allowed else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let exposed = HeaderValue::from_static("x-request-id, retry-after, retry-after-ms");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// Whether a page lies on this machine itself.
fn is_loopback(origin: &str) -> bool {
    let host = origin.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}
