//! `/v1/embeddings`: a vector of each text.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use sterna::generate::Usage;

use super::completions::watchers;
use crate::app::{App, Served};
use crate::engine::{Event, Running, Task};
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::tally::Tally;
use crate::request::fields::Fields;
use crate::request::inputs::{self, Input};

/// What a request asks.
struct Asked {
    texts: Vec<Vec<u32>>,
    as_base64: bool,
}

pub async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, ApiError> {
    let served = app.served()?;
    let (tally, _) = watchers(&request);
    let bytes = body::read(request).await?;
    let (app_, served_) = (app.clone(), served.clone());
    let Asked { texts, as_base64 } = body::aside(move || read(&app_, &served_, &bytes)).await?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let mut running = app.engine.begin(Task::Embed(texts))?;
    let vectors = app.in_time(vectors(&mut running, &tally)).await?;
    let mut usage = Usage::default();
    usage.prompt = tokens;
    tally.facts().usage = usage;
    let entry = |(index, vector): (usize, &Vec<f32>)| {
        let vector = if as_base64 {
            json!(base64(&vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>()))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": vector })
    };
    Ok(Json(json!({
        "object": "list",
        "data": vectors.iter().enumerate().map(entry).collect::<Vec<_>>(),
        "model": served.id,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

/// Waits for the vectors.
async fn vectors(running: &mut Running, tally: &Tally) -> Result<Vec<Vec<f32>>, ApiError> {
    loop {
        match running.next().await {
            Event::Vectors(vectors) => return Ok(vectors),
            Event::Failed(error) => return Err(error),
            Event::Begun(queued) => tally.facts().queued = Some(queued),
            Event::Piece(..) | Event::Scores(_) => return Err(ApiError::internal("an answer of another kind")),
        }
    }
}

fn read(app: &App, served: &Served, bytes: &[u8]) -> Result<Asked, ApiError> {
    let fields = Fields::read(bytes)?;
    app.check_model(served, fields.text("model")?.as_deref())?;
    if served.makes_text() {
        return Err(ApiError::of("model", "this model continues texts and makes no embeddings"));
    }
    let as_base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            return Err(ApiError::of(
                "encoding_format",
                format!("encoding_format is \"{other}\"; it must be float or base64"),
            ));
        }
    };
    let width = served.model.config().width;
    if fields.count("dimensions", 1..=usize::MAX)?.is_some_and(|dimensions| dimensions != width) {
        return Err(ApiError::unsupported(
            "dimensions",
            format!("this model's vectors have {width} dimensions, and no fewer"),
        ));
    }
    let ids = |input: Input| {
        let ids = match input {
            Input::Text(text) => served.model.embedding_ids(&text)?,
            Input::Ids(ids) => ids,
        };
        served.check_length(ids.len(), "input")?;
        served.check_ids(&ids, "input")?;
        Ok(ids)
    };
    let texts = inputs::read(&fields, "input")?.into_iter().map(ids).collect::<Result<_, ApiError>>()?;
    Ok(Asked { texts, as_base64 })
}

/// As RFC 4648 has it, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
