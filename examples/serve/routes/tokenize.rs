//! Text to ids and back, in the forms of llama.cpp's server and of vLLM's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use crate::app::{App, Served};
use crate::http::body;
use crate::http::error::ApiError;
use crate::request::chat;
use crate::request::fields::{self, Fields};

pub async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, ApiError> {
    let (served, bytes) = (app.served()?, body::read(request).await?);
    body::aside(move || {
        let fields = Fields::read(&bytes)?;
        app.check_model(&served, fields.text("model")?.as_deref())?;
        let tokenizer = served.model.tokenizer()?;
        if let Some(content) = fields.text("content")? {
            let ids = match fields.boolean("add_special")?.unwrap_or(false) {
                true => tokenizer.encode_prompt(&content)?,
                false => tokenizer.encode(&content)?,
            };
            let with_pieces = fields.boolean("with_pieces")?.unwrap_or(false);
            let pieces = || ids.iter().map(|&id| json!({ "id": id, "piece": piece(&served, id) })).collect();
            let tokens: Value = if with_pieces { pieces() } else { json!(ids) };
            return Ok(Json(json!({ "tokens": tokens })));
        }
        let ids = prompt(&app, &served, &fields)?;
        Ok(Json(json!({ "count": ids.len(), "max_model_len": served.positions, "tokens": ids })))
    })
    .await
}

/// The ids of what vLLM's clients send.
fn prompt(app: &App, served: &Served, fields: &Fields<'_>) -> Result<Vec<u32>, ApiError> {
    let tokenizer = served.model.tokenizer()?;
    if fields.has("messages") {
        let (conversation, _) = chat::conversation(fields)?;
        let talk = served.chat()?;
        return Ok(talk.prompt(&conversation).map_err(|error| chat::prompt_error(app, talk, error))?.ids);
    }
    match fields.text("prompt")? {
        Some(prompt) if fields.boolean("add_special_tokens")?.unwrap_or(true) => Ok(tokenizer.encode_prompt(&prompt)?),
        Some(prompt) => Ok(tokenizer.encode(&prompt)?),
        None => Err(ApiError::of("content", "there must be a text: content, prompt or messages")),
    }
}

/// What a token stands for: text, or its bytes where they are only a part of a character.
fn piece(served: &Served, id: u32) -> Value {
    let Ok(tokenizer) = served.model.tokenizer() else { return Value::Null };
    match (tokenizer.token_bytes(id), tokenizer.token_text(id)) {
        ([], Some(text)) => json!(text),
        (bytes, _) => std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text)),
    }
}

pub async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, ApiError> {
    let (served, bytes) = (app.served()?, body::read(request).await?);
    body::aside(move || {
        let fields = Fields::read(&bytes)?;
        app.check_model(&served, fields.text("model")?.as_deref())?;
        let ids = fields.parsed("tokens", "a list of token ids")?.map(fields::ids);
        let ids = ids.ok_or_else(|| ApiError::of("tokens", "tokens is missing: a list of token ids"))?;
        served.check_ids(&ids, "tokens")?;
        let text = served.model.tokenizer()?.decode(&ids);
        Ok(Json(json!({ "content": text, "prompt": text })))
    })
    .await
}
