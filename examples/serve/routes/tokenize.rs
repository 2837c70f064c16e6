//! Text to ids and back, in the forms of llama.cpp's server and of vLLM's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use sterna::tokenizer::Tokenizer;

use crate::app::{App, Served};
use crate::http::body;
use crate::http::error::ApiError;
use crate::request::chat;
use crate::request::fields::{self, Fields};

/// An answer, written as it is: a long text has many tokens.
#[derive(Serialize)]
struct Tokens<T> {
    tokens: Vec<T>,
}

/// The same for vLLM's clients.
#[derive(Serialize)]
struct Counted {
    count: usize,
    max_model_len: usize,
    tokens: Vec<u32>,
}

/// A token with what it stands for.
#[derive(Serialize)]
struct Piece<'a> {
    id: u32,
    piece: Meaning<'a>,
}

/// Text, or bytes where they are only a part of a character.
#[derive(Serialize)]
#[serde(untagged)]
enum Meaning<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

pub async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
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
            let piece = |&id| Piece { id, piece: piece(tokenizer, id) };
            return Ok(match with_pieces {
                true => Json(Tokens { tokens: ids.iter().map(piece).collect::<Vec<_>>() }).into_response(),
                false => Json(Tokens { tokens: ids }).into_response(),
            });
        }
        let ids = prompt(&app, &served, &fields)?;
        Ok(Json(Counted { count: ids.len(), max_model_len: served.positions, tokens: ids }).into_response())
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

/// What a token stands for; its name, if it is a command.
fn piece(tokenizer: &Tokenizer, id: u32) -> Meaning<'_> {
    match (tokenizer.token_bytes(id), tokenizer.token_text(id)) {
        ([], Some(text)) => Meaning::Text(text),
        (bytes, _) => std::str::from_utf8(bytes).map_or(Meaning::Bytes(bytes), Meaning::Text),
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
