//! How an embedding model makes one vector of a text: sentence-transformers puts it beside the network, in a file of its
//! own. A model of another way would give vectors that mean little, so the file is held against what this version does.

use std::path::Path;

use super::fields::{self, Fields};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{quoted, within};

/// The file of the way, where a directory has one.
const FILE: &str = "1_Pooling/config.json";

/// Older files have a switch for each way, newer ones its name.
const SWITCHES: [&str; 7] = [
    "pooling_mode_cls_token",
    "pooling_mode_mean_tokens",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
    "pooling_mode_lasttoken",
    "pooling_mode",
];
const LAST_TOKEN: [&str; 2] = ["pooling_mode_lasttoken", "lasttoken"];

/// Refuses a model of another way than the last token's.
pub(super) fn check(directory: &Path) -> Result<Decision> {
    let choice = "a vector for each text, of its last token";
    if !directory.join(FILE).exists() {
        let why = "a norm before every linear layer is what BitNet embedding models have";
        return Ok(Decision::new("output", choice, why));
    }
    let file = fields::read(directory, FILE, fields::MAX_BYTES)?;
    match way(file.fields()) {
        Ok(()) => Ok(Decision::new("output", choice, format!("{FILE} says so"))),
        Err(error) => Err(within(directory.display(), error)),
    }
}

fn way(fields: Fields) -> Result<()> {
    for name in SWITCHES {
        let chosen = match name {
            "pooling_mode" => fields.text(name)?,
            _ => fields.boolean(name)?.filter(|is_on| *is_on).map(|_| name),
        };
        if let Some(other) = chosen.filter(|way| !LAST_TOKEN.contains(way)) {
            let (name, other) = (fields.name(name), quoted(other));
            return Err(Error::Unsupported(format!("{name} asks for {other}; this version takes the last token")));
        }
    }
    let is_said = fields.boolean(LAST_TOKEN[0])? == Some(true) || fields.text("pooling_mode")?.is_some();
    if is_said { Ok(()) } else { Err(fields.missing(LAST_TOKEN[0])) }
}
