//! The one model that there is, under all its names.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::app::{App, Served};
use crate::http::error::ApiError;

pub async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let served = app.served()?;
    let names = std::iter::once(&served.id).chain(&app.settings.alias);
    let data: Vec<_> = names.map(|name| entry(&served, name)).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

pub async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let served = app.served()?;
    app.check_model(&served, Some(&name))?;
    Ok(Json(entry(&served, &name)))
}

fn entry(served: &Served, name: &str) -> Value {
    let config = served.model.config();
    json!({
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "sterna",
        "max_model_len": served.positions,
        "meta": {
            "n_ctx_train": config.context,
            "n_vocab": config.vocabulary,
            "n_embd": config.width,
            "n_params": config.ternary_weights() + (config.vocabulary * config.width) as u64,
            "size": served.weight_bytes,
        },
    })
}
