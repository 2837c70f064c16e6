//! The steps of a tokenizer.json around its model: how text is normalised and cut, and what is put before it. Published
//! files combine few of the many steps that the format knows; all others are refused by their text.

use serde_json::Value as Json;
use serde_json::value::RawValue;

use super::damaged;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;
use crate::tokenizer::pieces::{SPACE, Space};

/// The longest step that is looked at, in bytes: published ones have some hundreds.
const MAX_STEP_BYTES: usize = 1 << 16;

/// How text is cut before it is merged.
#[derive(Debug, PartialEq)]
pub(super) enum Cutting {
    /// Into words by a regular expression (GPT-2's if there is none), bytes spelled as characters.
    Words { pattern: Option<String>, composes: bool },
    /// Not at all, or at spaces; spaces spelled as U+2581, by the normaliser or behind it.
    Pieces { space: Space, splits: bool, normalizes: bool },
}

/// The special tokens around a text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Template {
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
}

/// Understands normaliser and pre-tokenizer together: SentencePiece's spaces may be spelled by either.
pub(super) fn cutting(normalizer: Option<&RawValue>, pre_tokenizer: Option<&RawValue>) -> Result<Cutting> {
    let unknown = |what: &str, step: Option<&RawValue>| {
        let text = step.map_or_else(|| "none".to_owned(), |step| quoted(step.get()));
        Err(Error::Unsupported(format!("the {what} {text}")))
    };
    let normal = flat(normalizer, "normalizers")?;
    let cuts = flat(pre_tokenizer, "pretokenizers")?;
    match kinds(&cuts).as_slice() {
        ["ByteLevel"] | ["Split", "ByteLevel"] => {
            let composes = match kinds(&normal).as_slice() {
                [] => false,
                ["NFC"] => true,
                _ => return unknown("normalizer", normalizer),
            };
            let bytes = cuts.last().expect("two patterns with a last step");
            let cuts_itself = bytes["use_regex"] != Json::Bool(false);
            if bytes["add_prefix_space"] == Json::Bool(true) || cuts_itself != (cuts.len() == 1) {
                return unknown("pre-tokenizer", pre_tokenizer);
            }
            match cuts.first().filter(|_| !cuts_itself) {
                None => Ok(Cutting::Words { pattern: None, composes }),
                Some(split) => match split["pattern"]["Regex"].as_str().filter(|_| takes_matches(split)) {
                    Some(pattern) => Ok(Cutting::Words { pattern: Some(pattern.to_owned()), composes }),
                    None => unknown("pre-tokenizer", pre_tokenizer),
                },
            }
        }
        ["Metaspace"] if normal.is_empty() => match metaspace(&cuts[0]) {
            Some(cutting) => Ok(cutting),
            None => unknown("pre-tokenizer", pre_tokenizer),
        },
        // A split at spaces does nothing where the normaliser has left none.
        [] | ["Split"] if cuts.iter().all(|split| split["pattern"]["String"] == " ") => match spaces(&normal) {
            Some(space) => Ok(Cutting::Pieces { space, splits: false, normalizes: true }),
            None => unknown("normalizer", normalizer),
        },
        _ => unknown("pre-tokenizer", pre_tokenizer),
    }
}

/// The words are the matches, and every character is part of one, so what lies between them does not matter.
fn takes_matches(split: &Json) -> bool {
    let inverted = split["invert"] == Json::Bool(true);
    matches!((split["behavior"].as_str(), inverted), (Some("Isolated"), false) | (Some("Removed"), true))
}

/// SentencePiece's spaces, spelled by the pre-tokenizer.
fn metaspace(step: &Json) -> Option<Cutting> {
    let scheme = match step["prepend_scheme"].as_str() {
        None if step["add_prefix_space"] == Json::Bool(false) => "never",
        None => "always",
        Some(scheme) => scheme,
    };
    let space = match scheme {
        "always" => Space::WhereMissing,
        "first" => Space::First,
        "never" => Space::Never,
        _ => return None,
    };
    let is_space = step["replacement"].as_str() == Some(SPACE.encode_utf8(&mut [0; 4]));
    let splits = step["split"] != Json::Bool(false);
    is_space.then_some(Cutting::Pieces { space, splits, normalizes: false })
}

/// SentencePiece's spaces, spelled by the normaliser.
fn spaces(steps: &[Json]) -> Option<Space> {
    let space = SPACE.to_string();
    let prepends = |step: &Json| step["prepend"] == *space;
    let replaces = |step: &Json| step["pattern"]["String"] == " " && step["content"] == *space;
    match (kinds(steps).as_slice(), steps) {
        (["Prepend", "Replace"], [first, second]) if prepends(first) && replaces(second) => Some(Space::Always),
        (["Replace"], [only]) if replaces(only) => Some(Space::Never),
        _ => None,
    }
}

/// What is put around a single text.
pub(super) fn template(post_processor: Option<&RawValue>) -> Result<Template> {
    let unknown = || {
        let text = post_processor.map_or("none", RawValue::get);
        Error::Unsupported(format!("the post-processor {}", quoted(text)))
    };
    let mut template = Template::default();
    for step in flat(post_processor, "processors")? {
        match step["type"].as_str() {
            Some("ByteLevel") => {} // concerns offsets only
            Some("TemplateProcessing") => {
                let mut follows = false;
                for item in step["single"].as_array().ok_or_else(unknown)? {
                    let special = item["SpecialToken"]["id"].as_str().map(str::to_owned);
                    let place = if follows { &mut template.last } else { &mut template.first };
                    match special {
                        Some(special) if place.is_none() => *place = Some(special),
                        None if item["Sequence"].is_object() && !follows => follows = true,
                        _ => return Err(unknown()),
                    }
                }
            }
            _ => return Err(unknown()),
        }
    }
    Ok(template)
}

/// The steps of a step: sequences are lists under `key`, perhaps of sequences.
fn flat(step: Option<&RawValue>, key: &str) -> Result<Vec<Json>> {
    fn unfold(step: Json, key: &str, steps: &mut Vec<Json>) {
        match step {
            Json::Null => {}
            Json::Object(mut map) if map.get("type").and_then(Json::as_str) == Some("Sequence") => {
                match map.remove(key) {
                    Some(Json::Array(list)) => list.into_iter().for_each(|step| unfold(step, key, steps)),
                    // Stands for itself, which no pattern of steps fits.
                    _ => steps.push(Json::Object(map)),
                }
            }
            other => steps.push(other),
        }
    }
    let Some(step) = step else { return Ok(Vec::new()) };
    if step.get().len() > MAX_STEP_BYTES {
        let length = step.get().len();
        return Err(Error::Unsupported(format!("a step of {length} bytes; at most {MAX_STEP_BYTES} are looked at")));
    }
    let mut steps = Vec::new();
    unfold(serde_json::from_str(step.get()).map_err(|error| damaged(&error))?, key, &mut steps);
    Ok(steps)
}

fn kinds(steps: &[Json]) -> Vec<&str> {
    steps.iter().map(|step| step["type"].as_str().unwrap_or("")).collect()
}
