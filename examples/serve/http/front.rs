//! What every request meets before and after its route: a name, a key, what browsers ask, a line in the log.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, Response, Uri};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::connection::Activity;
use super::cors::Cors;
use super::keys::Caller;
use super::random;
use super::tally::{Line, Tally};
use crate::app::App;
use crate::routes;

/// The longest name of a request that is taken from its client.
const LONGEST_NAME: usize = 128;

/// Answers the requests of all connections.
#[derive(Clone)]
pub struct Front {
    app: Arc<App>,
    routes: TowerToHyperService<Router>,
}

impl Front {
    pub fn new(app: &Arc<App>) -> Self {
        Self { app: app.clone(), routes: TowerToHyperService::new(routes::all(app)) }
    }

    /// Answers one request.
    pub async fn answer(self, request: Request<Incoming>, activity: Activity) -> Result<Response<Tracked>, Infallible> {
        let Self { app, routes } = self;
        let mut request = request;
        let id = name_of(&request);
        let tally = Tally::default();
        let path = plain_path(request.uri());
        let mut line = Line {
            app: app.clone(),
            id: id.clone(),
            method: request.method().clone(),
            route: routes::label(&path),
            start: Instant::now(),
            status: None,
            is_whole: false,
            tally: tally.clone(),
        };
        let allowed = app.cors.allowed(request.headers());
        let mut response = if request.method() == Method::OPTIONS {
            Cors::preflight(request.headers())
        } else {
            match app.keys.check(request.headers()).or_else(|error| match routes::is_free(&app, &path) {
                true => Ok(Caller::default()),
                false => Err(error),
            }) {
                Err(error) => error.into_response(),
                Ok(caller) => {
                    set_path(request.uri_mut(), &path);
                    request.extensions_mut().insert(caller);
                    request.extensions_mut().insert(tally);
                    request.extensions_mut().insert(activity.clone());
                    routes.call(request).await.unwrap_or_else(|never| match never {})
                }
            }
        };
        Cors::mark(&mut response, allowed);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", value);
        }
        line.status = Some(response.status().as_u16());
        // Nobody asks for the body of such an answer.
        line.is_whole = line.method == Method::HEAD || hyper::body::Body::is_end_stream(response.body());
        Ok(response.map(|body| Tracked { body, line, _activity: activity.busy() }))
    }
}

/// The name that the client gave the request, or one that is made.
fn name_of(request: &Request<Incoming>) -> String {
    let given = request.headers().get("x-request-id").and_then(|name| name.to_str().ok());
    let is_fit =
        |name: &&str| (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(is_fit).map_or_else(|| random::name("req-"), str::to_owned)
}

/// The path without slashes at its end, which change nothing.
fn plain_path(uri: &Uri) -> String {
    match uri.path().trim_end_matches('/') {
        "" => "/".into(),
        path => path.into(),
    }
}

fn set_path(uri: &mut Uri, path: &str) {
    if uri.path() == path {
        return;
    }
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    if let Ok(plain) = format!("{path}{query}").parse() {
        *uri = plain;
    }
}

/// The body of an answer, which knows when it is over.
pub struct Tracked {
    body: Body,
    line: Line,
    _activity: super::connection::Busy,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let is_end = matches!(frame, Poll::Ready(None)) || hyper::body::Body::is_end_stream(&self.body);
        self.line.is_whole |= is_end;
        frame
    }

    fn is_end_stream(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}
