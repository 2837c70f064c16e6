//! What all requests share: the settings, the way to the engine, and the model once it is loaded.

use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use sterna::Model;
use sterna::chat::Chat;
use sterna::constrain::Constrainer;
use sterna::generate::PromptLookup;
use tokio::time::timeout;

use crate::args::Settings;
use crate::engine::Engine;
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::http::keys::Keys;
use crate::metrics::Metrics;
use crate::routes::page::Package;

/// The server.
pub struct App {
    pub settings: Settings,
    pub keys: Keys,
    pub cors: Cors,
    pub engine: Engine,
    pub metrics: Arc<Metrics>,
    pub served: OnceLock<Arc<Served>>,
    pub package: Package,
}

/// The model that is served.
pub struct Served {
    pub model: Model,
    /// What answers call it.
    pub id: String,
    /// When it was loaded, in seconds of Unix.
    pub created: u64,
    /// The version of this program, and the model by its content.
    pub fingerprint: String,
    pub device: String,
    /// Positions of each slot.
    pub positions: usize,
    pub slots: usize,
    /// Whether tokens are drafted.
    pub lookup: PromptLookup,
    pub weight_bytes: u64,
    /// How it talks; none if its template is refused, with the reason.
    pub chat: Result<Chat, sterna::Error>,
    /// What holds answers to a form; made when the first is to have one.
    pub constrainer: OnceLock<Result<Constrainer, sterna::Error>>,
}

impl App {
    /// The model, for a request that names one.
    pub fn served(&self) -> Result<Arc<Served>, ApiError> {
        self.engine.check()?;
        self.served.get().cloned().ok_or_else(|| ApiError::unavailable("loading", "Loading model"))
    }

    /// Waits for what there is to send first, no longer than a request may wait.
    pub async fn in_time<T>(&self, first: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        let Some(patience) = self.settings.request_timeout else { return first.await };
        timeout(patience, first).await.unwrap_or_else(|_| {
            let message = format!("nothing was there to send within {} s", patience.as_secs_f64());
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).coded("timeout"))
        })
    }

    /// Whether a request means this model: by its name, by another name for it, or by none.
    pub fn check_model(&self, served: &Served, name: Option<&str>) -> Result<(), ApiError> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(()) };
        if self.settings.any_model || name == served.id || self.settings.alias.iter().any(|alias| alias == name) {
            return Ok(());
        }
        let message = format!("The model `{name}` does not exist; this server has `{}`", served.id);
        Err(ApiError::of("model", message).coded("model_not_found").with_status(StatusCode::NOT_FOUND))
    }
}

impl Served {
    /// Whether it continues texts; the other kind makes vectors of them.
    pub fn makes_text(&self) -> bool {
        self.model.config().pooling.is_none()
    }

    /// How it talks, for a request that wants it to.
    pub fn chat(&self) -> Result<&Chat, ApiError> {
        if !self.makes_text() {
            let message = "this model makes vectors of texts (/v1/embeddings) and cannot talk";
            return Err(ApiError::of("model", message));
        }
        let refused = |error| ApiError::of("model", format!("this model cannot chat, only continue texts: {error}"));
        self.chat.as_ref().map_err(refused)
    }

    /// What holds answers to a form. It takes a second the first time.
    pub fn constrainer(&self) -> Result<&Constrainer, ApiError> {
        let make = || Constrainer::new(self.model.tokenizer()?);
        self.constrainer.get_or_init(make).as_ref().map_err(|error| ApiError::from(error.clone()))
    }

    /// The words that help whoever's prompt is too long.
    pub fn more_room(&self) -> String {
        let most = self.model.config().context;
        match self.positions < most {
            true => format!("The model itself takes {most}: --context {most} makes that room."),
            false => "Please reduce the length of the messages.".into(),
        }
    }

    /// Refuses a prompt that can never fit. `param` is the field it came in.
    pub fn check_length(&self, tokens: usize, param: &str) -> Result<(), ApiError> {
        match tokens {
            0 => Err(ApiError::of(param, format!("{param} holds no tokens, so there is nothing to continue"))),
            tokens if tokens > self.positions => {
                Err(ApiError::context(tokens, self.positions, &self.more_room(), param))
            }
            _ => Ok(()),
        }
    }

    /// Refuses ids that the model does not have.
    pub fn check_ids(&self, ids: &[u32], param: &str) -> Result<(), ApiError> {
        let vocabulary = self.model.config().vocabulary;
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(id) => Err(ApiError::of(param, format!("token id {id} is outside the vocabulary of {vocabulary}"))),
            None => Ok(()),
        }
    }
}
