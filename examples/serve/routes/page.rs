//! The chat page: one file, which asks nothing of anybody else. Where the server is given what `web/build` makes, the page from there is
//! shown, which can have a model answer in the tab too, and the files that it takes for that.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::app::App;

/// The page that is shown without a package.
const ALONE: &[u8] = include_bytes!("../page.html");

/// What `web/build` made, by path; empty if there is none. It is read when the server begins, so that no path leads elsewhere later.
#[derive(Default)]
pub struct Package(HashMap<String, (&'static str, Bytes)>);

impl Package {
    /// The files of a folder and of the folders in it.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut package = Self::default();
        package.add(folder, "/").with_context(|| format!("cannot read the package in {}", folder.display()))?;
        let is_whole = ["/index.html", "/tab.js", "/sterna.js"].iter().all(|path| package.0.contains_key(*path));
        ensure!(is_whole, "{} holds no package for a page: give the target/web/dist of web/build", folder.display());
        Ok(package)
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_dir() && prefix == "/" {
                self.add(&path, &format!("/{name}/"))?;
            } else if let Some(kind) = kind(name) {
                self.0.insert(format!("{prefix}{name}"), (kind, fs::read(&path)?.into()));
            }
        }
        Ok(())
    }

    /// Whether there is a file at a path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

/// The media type of a file that a package has.
fn kind(name: &str) -> Option<&'static str> {
    Some(match Path::new(name).extension()?.to_str()? {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "gguf" => "application/octet-stream",
        _ => return None,
    })
}

pub async fn page(State(app): State<Arc<App>>) -> Response {
    file(&app, "/index.html").unwrap_or_else(|| sent("text/html; charset=utf-8", Bytes::from_static(ALONE)))
}

/// A file of the package.
pub async fn package(State(app): State<Arc<App>>, request: Request) -> Response {
    match file(&app, request.uri().path()) {
        Some(answer) => answer,
        None => super::not_found(&request).into_response(),
    }
}

fn file(app: &App, path: &str) -> Option<Response> {
    app.package.0.get(path).map(|(kind, bytes)| sent(kind, bytes.clone()))
}

fn sent(kind: &'static str, bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}
