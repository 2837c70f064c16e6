//! Templates of published models are other people's files: they are read from a folder beside the project, where there is one.

use std::path::PathBuf;

use serde_json::Value;

use crate::skipped::skipped;

/// A file of the folder of chat templates and what they render; none where that is not there.
pub fn file(name: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/chat").join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skipped(format!("what published chat templates render: no {}", path.display()));
            None
        }
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// The same, of a JSON file.
pub fn json(name: &str) -> Option<Value> {
    file(name).map(|text| serde_json::from_str(&text).unwrap())
}
