//! What can be asked, and where.

mod chat;
mod completions;
mod embeddings;
mod health;
mod metrics;
mod models;
pub mod page;
mod state;
mod tokenize;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::app::App;
use crate::http::error::ApiError;

/// Routes with the names that metrics and the log have for them.
const LABELS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/health",
    "/metrics",
    "/tokenize",
    "/detokenize",
    "/props",
    "/slots",
    "/",
];
/// The other names of [`/health`](health).
const HEALTH: &[&str] = &["/health", "/ping", "/healthz", "/livez", "/readyz"];

/// All routes.
pub fn all(app: &Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::lives))
        .route("/metrics", get(metrics::metrics))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .route("/props", get(state::props))
        .route("/slots", get(state::slots));
    for path in HEALTH.iter().filter(|path| **path != "/livez") {
        router = router.route(path, get(health::health));
    }
    for prefix in ["/v1", ""] {
        router = router
            .route(&format!("{prefix}/chat/completions"), post(chat::completions))
            .route(&format!("{prefix}/completions"), post(completions::completions))
            .route(&format!("{prefix}/embeddings"), post(embeddings::embeddings))
            .route(&format!("{prefix}/models"), get(models::list))
            .route(&format!("{prefix}/models/{{*id}}"), get(models::one));
    }
    for path in app.package.paths() {
        router = router.route(path, get(page::package));
    }
    router.fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(app.clone())
}

/// The name of a path in metrics, where names that clients make up must not become series.
pub fn label(path: &str) -> &'static str {
    let known = |path: &str| LABELS.iter().copied().find(|label| *label == path);
    match path {
        path if HEALTH.contains(&path) => "/health",
        path if path.starts_with("/v1/models/") || path.starts_with("/models/") => "/v1/models",
        path => known(path).or_else(|| known(&format!("/v1{path}"))).unwrap_or("other"),
    }
}

/// Whether a path needs no key: a page asks for the key that it then sends, and whoever watches a server has none.
pub fn is_free(app: &App, path: &str) -> bool {
    HEALTH.contains(&path) || path == "/" || app.package.has(path) || (path == "/metrics" && !app.settings.metrics_key)
}

async fn not_found(request: Request) -> ApiError {
    let path = request.uri().path();
    let hint = match path.starts_with("/api/") {
        true => "; Ollama's interface is not spoken here: use OpenAI's, at /v1",
        false => "",
    };
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {} {path}{hint}", request.method()))
}

async fn not_allowed(request: Request) -> ApiError {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
