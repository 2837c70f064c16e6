//! Texts or token ids, one or several: what completions and embeddings are asked of.

use super::fields::{Fields, Id, ids, short};
use crate::http::error::ApiError;

/// One text, or the ids of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Text(String),
    Ids(Vec<u32>),
}

/// Inputs of one request.
pub const MOST: usize = 256;

/// A string, a list of strings, a list of ids, or a list of such lists.
pub fn read(fields: &Fields<'_>, name: &str) -> Result<Vec<Input>, ApiError> {
    const FORM: &str = "a string, a list of strings, a list of token ids, or a list of such lists";
    let text = fields.raw(name).ok_or_else(|| ApiError::of(name, format!("{name} is missing: {FORM}")))?;
    let inside = text.strip_prefix('[').map(str::trim_start).and_then(|rest| rest.chars().next());
    let wrong = || ApiError::of(name, format!("{name} is {}; it must be {FORM}", short(text)));
    let inputs = match inside {
        None if text.starts_with('"') => fields.text(name)?.map(Input::Text).into_iter().collect(),
        None => return Err(wrong()),
        Some('"') => {
            let texts = fields.parsed::<Vec<String>>(name, FORM)?.unwrap_or_default();
            texts.into_iter().map(Input::Text).collect()
        }
        Some('[') => {
            let lists = fields.parsed::<Vec<Vec<Id>>>(name, FORM)?.unwrap_or_default();
            lists.into_iter().map(|list| Input::Ids(ids(list))).collect()
        }
        Some(']') => return Err(ApiError::of(name, format!("{name} is an empty list; it must be {FORM}"))),
        Some(_) => vec![Input::Ids(ids(fields.parsed(name, FORM)?.unwrap_or_default()))],
    };
    match inputs.len() {
        more if more > MOST => Err(ApiError::of(name, format!("{name} has {more} entries; there may be {MOST}"))),
        _ => Ok(inputs),
    }
}
