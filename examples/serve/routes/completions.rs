//! `/v1/completions`: texts that go on as they began. Evaluations of models ask for their likelihoods here too.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sterna::generate::Reuse;

use crate::answer::completion::Completion;
use crate::answer::{self, Answer, Head};
use crate::app::{App, Served};
use crate::engine::{Event, Generate, Score, Task};
use crate::http::body;
use crate::http::connection::Activity;
use crate::http::error::ApiError;
use crate::http::keys::Caller;
use crate::http::random;
use crate::http::tally::Tally;
use crate::request::fields::Fields;
use crate::request::inputs::{self, Input};
use crate::request::options::Options;
use crate::request::refused::refuse;
use crate::request::sequence;

/// As OpenAI has it.
const MAX_TOKENS: usize = 16;
/// The most likely tokens that can be asked for.
const MOST_LOGPROBS: usize = 5;
/// Choices of one request.
const MOST_CHOICES: usize = 256;
/// Tokens of prompts that are echoed with their likelihoods, in all choices together: each is some kilobytes on its way out.
const MOST_SCORED: usize = 1 << 16;

/// What a request asks.
struct Asked {
    prompts: Vec<Prompt>,
    options: Options,
    echo: bool,
    logprobs: Option<usize>,
    content: Option<String>,
}

struct Prompt {
    text: String,
    ids: Vec<u32>,
}

pub async fn completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let served = app.served()?;
    let (watchers, caller) = (watchers(&request), Caller::of(&request));
    let bytes = body::read(request).await?;
    let (app_, served_) = (app.clone(), served.clone());
    let asked = body::aside(move || read(&app_, &served_, caller, &bytes)).await?;
    let Asked { prompts, options, echo, logprobs, content } = asked;
    watchers.0.facts().content.extend(content);

    let sequences = prompts.len() * options.n;
    let head = Head::new("cmpl-", &app, &served);
    let mut answer = Completion::new(head, &options, sequences, logprobs.is_some());
    if echo {
        // A text is scored in pieces, each of which finds those before it: with nobody else, if that was asked for.
        let score_reuse = match options.generate.reuse {
            Reuse::Never => Reuse::Within(random::seed()),
            reuse => reuse,
        };
        for (place, prompt) in prompts.iter().enumerate() {
            let scores = match logprobs {
                Some(best) => Some(app.in_time(scores(&app, prompt.ids.clone(), best, score_reuse)).await?),
                None => None,
            };
            for number in place * options.n..(place + 1) * options.n {
                answer.echo(number, prompt.text.clone(), &prompt.ids, scores.as_deref());
            }
        }
    }
    if options.max_tokens == Some(0) {
        return Ok(at_once(answer, options.stream, &watchers.0));
    }
    let numbers = (0..prompts.len() * options.n).map(|number| (&*prompts[number / options.n].ids, number));
    let start = |number| sequence::of(&served, &options, number, logprobs, None);
    let sequences = numbers.map(start).collect::<Result<_, _>>()?;
    let is_shared = prompts.len() == 1 && options.n > 1 && options.generate.reuse != Reuse::Never;
    let running = app.engine.begin(Task::Generate(Generate { sequences, is_shared }))?;
    answer::respond(&app, running, answer, options.stream, watchers).await
}

/// Who is told of a request what happens to it.
pub fn watchers(request: &Request) -> (Tally, Activity) {
    let extensions = request.extensions();
    let (tally, activity) = (extensions.get().cloned(), extensions.get().cloned());
    (tally.unwrap_or_default(), activity.unwrap_or_default())
}

/// How likely the ids of a prompt are.
async fn scores(app: &App, ids: Vec<u32>, best: usize, reuse: Reuse) -> Result<Vec<Score>, ApiError> {
    let mut running = app.engine.begin(Task::Score { ids, best, reuse })?;
    loop {
        match running.next().await {
            Event::Scores(scores) => return Ok(scores),
            Event::Failed(error) => return Err(error),
            Event::Begun(_) => {}
            Event::Piece(..) | Event::Vectors(_) => return Err(ApiError::internal("an answer of another kind")),
        }
    }
}

/// The answer to who wants nothing made.
fn at_once(mut answer: Completion, stream: bool, tally: &Tally) -> Response {
    answer.end_at_once();
    answer.report(tally);
    match stream {
        true => ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], answer.events_at_once()).into_response(),
        false => Json(answer.whole()).into_response(),
    }
}

fn read(app: &App, served: &Served, caller: Caller, bytes: &[u8]) -> Result<Asked, ApiError> {
    let fields = Fields::read(bytes)?;
    app.check_model(served, fields.text("model")?.as_deref())?;
    if !served.makes_text() {
        return Err(ApiError::of(
            "model",
            "this model makes vectors of texts (/v1/embeddings) and cannot continue them",
        ));
    }
    let mut options = Options::read(&fields, served, caller, app.settings.max_tokens)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    match options.max_tokens {
        None => options.max_tokens = Some(MAX_TOKENS),
        Some(0) if !echo => return Err(ApiError::of("max_tokens", "max_tokens is 0, which goes with echo alone")),
        Some(_) => {}
    }
    refuse(&fields, &["tools", "response_format"], &json!(null))?;
    let logprobs = match fields.raw("logprobs") {
        Some("false") => None, // as routers send it
        _ => fields.count("logprobs", 0..=MOST_LOGPROBS)?,
    };
    let prompts = inputs::read(&fields, "prompt")?;
    if prompts.len() * options.n > MOST_CHOICES {
        return Err(ApiError::of(
            "n",
            format!("{} prompts with {} answers each; {MOST_CHOICES} may be made", prompts.len(), options.n),
        ));
    }
    let tokenizer = served.model.tokenizer()?;
    let prompt = |input: Input| {
        let (text, ids) = match input {
            Input::Text(text) => {
                let ids = tokenizer.encode_prompt(&text)?;
                (text, ids)
            }
            Input::Ids(ids) => (tokenizer.decode(&ids), ids),
        };
        served.check_length(ids.len(), "prompt")?;
        served.check_ids(&ids, "prompt")?;
        Ok(Prompt { text, ids })
    };
    let prompts: Vec<Prompt> = prompts.into_iter().map(prompt).collect::<Result<_, ApiError>>()?;
    let scored = prompts.iter().map(|prompt| prompt.ids.len()).sum::<usize>() * options.n;
    if echo && logprobs.is_some() && scored > MOST_SCORED {
        let message = format!("{scored} tokens would be echoed with logprobs; {MOST_SCORED} may be");
        return Err(ApiError::of("logprobs", message));
    }
    let content = app.settings.log_content.then(|| format!("asked {:?}", String::from_utf8_lossy(bytes)));
    Ok(Asked { prompts, options, echo, logprobs, content })
}
