//! Whether the server can be asked, for whoever sends it requests, and whether its process lives.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::app::App;
use crate::engine::Health;
use crate::http::error::ApiError;

pub async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.engine.check()?;
    if app.engine.health() == Health::Leaving {
        return Err(ApiError::shutting_down());
    }
    lives().await
}

pub async fn lives() -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "status": "ok" })))
}
