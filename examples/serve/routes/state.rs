//! What llama.cpp's clients ask of a server: its sizes, and what its slots are at.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::error::ApiError;

pub async fn props(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let served = app.served()?;
    Ok(Json(json!({
        "default_generation_settings": { "n_ctx": served.positions },
        "total_slots": served.slots,
        "model_alias": served.id,
        "chat_template": served.chat.as_ref().map_or("", |chat| chat.template().source()),
        "build_info": concat!("sterna-", env!("CARGO_PKG_VERSION")),
    })))
}

/// Numbers alone: what is written there is between a client and the model.
pub async fn slots(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if !app.settings.slots_route {
        let message = "the slots are not shown; start the server with --slots-route for that";
        return Err(ApiError::new(StatusCode::NOT_FOUND, message));
    }
    let served = app.served()?;
    let running = app.metrics.running.load(Ordering::Relaxed) as usize;
    let slot = |place: usize| json!({ "id": place, "n_ctx": served.positions, "is_processing": place < running });
    Ok(Json((0..served.slots).map(slot).collect()))
}
