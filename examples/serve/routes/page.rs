//! The chat page: one file, which asks nothing of anybody else.

use axum::http::header;
use axum::response::{Html, IntoResponse};

pub async fn page() -> impl IntoResponse {
    let headers = [(header::CACHE_CONTROL, "no-cache"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Html(include_str!("../page.html")))
}
