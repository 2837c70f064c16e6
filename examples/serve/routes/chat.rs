//! `/v1/chat/completions`: the next turn of a conversation.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use sterna::generate::Reuse;

use super::completions::watchers;
use crate::answer::chat::ChatAnswer;
use crate::answer::{self, Head};
use crate::app::App;
use crate::engine::{Generate, Task};
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::keys::Caller;
use crate::request::chat;

pub async fn completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let served = app.served()?;
    let (watchers, caller) = (watchers(&request), Caller::of(&request));
    let bytes = body::read(request).await?;
    if app.settings.log_content {
        watchers.0.facts().content.push(format!("asked {:?}", String::from_utf8_lossy(&bytes)));
    }
    let (app_, served_) = (app.clone(), served.clone());
    let mut asked = body::aside(move || chat::read(&app_, &served_, caller, &bytes)).await?;
    let constraint = match asked.form.take() {
        Some(form) => Some(form.constraint(&served).await?),
        None => None,
    };
    let (app_, served_) = (app.clone(), served.clone());
    let (answer, sequences) = body::aside(move || {
        let sequences = asked.sequences(&served_, constraint.as_ref())?;
        let head = Head::new("chatcmpl-", &app_, &served_);
        Ok((ChatAnswer::new(head, &asked, app_.settings.reasoning_field), sequences))
    })
    .await?;
    let options = answer.options();
    let (is_shared, stream) = (options.n > 1 && options.generate.reuse != Reuse::Never, options.stream);
    let running = app.engine.begin(Task::Generate(Generate { sequences, is_shared }))?;
    answer::respond(&app, running, answer, stream, watchers).await
}
