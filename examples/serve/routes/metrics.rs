//! What the server counts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::app::App;
use crate::metrics::About;

pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let served = app.served.get();
    let (model, device) = served.map_or(("", ""), |served| (&served.id, &served.device));
    let about = About { prefix: &app.settings.metrics_prefix, model, device };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.text(&about))
}
