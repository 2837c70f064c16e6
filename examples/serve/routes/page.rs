//! The chat page: one file, which asks nothing of anybody else. Where the server is given what `web/build` makes, the page from there is
//! shown, which can have a model answer in the tab too, and the files that it takes for that.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::app::App;

/// The page that is shown without a package.
const ALONE: &[u8] = include_bytes!("../page.html");

/// The path of the page in a package.
const PAGE: &str = "/index.html";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const MODULE: &str = "application/wasm";
/// The files of a package with their media types: what `web/page/service-worker.js` keeps, and that file.
const FILES: &[(&str, &str)] = &[
    (PAGE, HTML),
    ("/tab.js", SCRIPT),
    ("/sterna.js", SCRIPT),
    ("/worker.js", SCRIPT),
    ("/storage.js", SCRIPT),
    ("/service-worker.js", SCRIPT),
    ("/simd128/sterna_web.js", SCRIPT),
    ("/simd128/sterna_web_bg.wasm", MODULE),
    ("/relaxed/sterna_web.js", SCRIPT),
    ("/relaxed/sterna_web_bg.wasm", MODULE),
    ("/tales-4m-i2_s.gguf", "application/octet-stream"),
];

/// What `web/build` made, by path; empty if there is none. It is read when the server begins, so that no path leads elsewhere later.
#[derive(Default)]
pub struct Package(HashMap<&'static str, (&'static str, Bytes)>);

impl Package {
    /// The files of a package in a folder, all of them; whatever else lies there is left.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut package = Self::default();
        for &(path, kind) in FILES {
            let bytes = fs::read(folder.join(&path[1..])).with_context(|| {
                let folder = folder.display();
                format!("{folder} holds no package for a page, as {path} cannot be read: give the target/web/dist of web/build")
            })?;
            package.0.insert(path, (kind, bytes.into()));
        }
        Ok(package)
    }

    /// The paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Whether there is a file at a path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

pub async fn page(State(app): State<Arc<App>>) -> Response {
    file(&app, PAGE)
}

/// A file of the package.
pub async fn package(State(app): State<Arc<App>>, request: Request) -> Response {
    file(&app, request.uri().path())
}

/// A file of the package; the page that is shown without one, where it is not there.
fn file(app: &App, path: &str) -> Response {
    let alone = (HTML, Bytes::from_static(ALONE));
    let (kind, bytes) = app.package.0.get(path).cloned().unwrap_or(alone);
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}
