//! The fields of a request. Its body is cut into the texts of its fields, so that what nobody asks for costs nothing and is no error;
//! each field is read where it is wanted, and what is wrong with it is said by its name.
//!
//! `null` means that a field is absent, whole numbers may be written as 1.0, and of a field that is there twice the last one holds.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::http::error::ApiError;

/// How deep a body may be nested.
const DEEPEST: usize = 128;
/// Values that a body may hold: each becomes many times its bytes in memory.
const MOST_VALUES: usize = 1 << 20;

/// The fields of a body that is a JSON object.
pub struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Cuts a body into its fields.
    pub fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        let text =
            std::str::from_utf8(body).map_err(|error| ApiError::json(format!("the body is not UTF-8: {error}")))?;
        check_size(text)?;
        match serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            Ok(fields) => Ok(Self(fields)),
            Err(_) if text.trim().is_empty() => Err(ApiError::json("the body is empty; it must be a JSON object")),
            Err(error) => Err(ApiError::json(format!("the body must be a JSON object: {error}"))),
        }
    }

    /// The text of a field.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|raw| raw.get().trim()).filter(|text| *text != "null")
    }

    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A field of a known form.
    pub fn parsed<T: DeserializeOwned>(&self, name: &str, form: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        let wrong =
            |error: serde_json::Error| ApiError::of(name, format!("{name} must be {form}: {}", without_place(&error)));
        serde_json::from_str(text).map(Some).map_err(wrong)
    }

    pub fn value(&self, name: &str) -> Result<Option<Value>, ApiError> {
        self.parsed(name, "JSON")
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.parsed(name, "a string")
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.parsed(name, "true or false")
    }

    /// A number within bounds.
    pub fn number(&self, name: &str, bounds: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(number) = self.parsed::<f64>(name, "a number")? else { return Ok(None) };
        match bounds.contains(&number) {
            true => Ok(Some(number)),
            false => {
                let (least, most) = bounds.into_inner();
                Err(ApiError::of(name, format!("{name} is {number}; it must be {least} to {most}")))
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer(&self, name: &str, bounds: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.raw(name) else { return Ok(None) };
        let (least, most) = (*bounds.start(), *bounds.end());
        let within = match (least, most) {
            (i64::MIN, i64::MAX) => String::new(),
            (least, i64::MAX) => format!(" of {least} or more"),
            (least, most) => format!(" of {least} to {most}"),
        };
        let number = whole(text).filter(|number| bounds.contains(number));
        number
            .map(Some)
            .ok_or_else(|| ApiError::of(name, format!("{name} is {}; it must be a whole number{within}", short(text))))
    }

    /// A count within bounds.
    pub fn count(&self, name: &str, bounds: RangeInclusive<usize>) -> Result<Option<usize>, ApiError> {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let number = self.integer(name, signed(*bounds.start())..=signed(*bounds.end()))?;
        Ok(number.and_then(|number| usize::try_from(number).ok()))
    }

    /// Refuses a field that would change the answer and cannot be honoured, unless its value asks for nothing.
    pub fn refuse(&self, name: &str, neutral: &[Value], way: &str) -> Result<(), ApiError> {
        // A number is the same however it is written.
        let is_same =
            |one: &Value, other: &Value| one == other || one.as_f64().is_some_and(|one| Some(one) == other.as_f64());
        match self.value(name)? {
            Some(value) if !neutral.iter().any(|neutral| is_same(neutral, &value)) => {
                Err(ApiError::unsupported(name, format!("{name} is not supported by this server{way}")))
            }
            _ => Ok(()),
        }
    }
}

/// A token id, which may be written as 17.0 as well.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct Id(#[serde(deserialize_with = "id")] pub u32);

fn id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = f64::deserialize(deserializer)?;
    let is_id = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    is_id.then_some(number as u32).ok_or_else(|| D::Error::custom(format!("{number} is no token id")))
}

/// Token ids.
pub fn ids(ids: Vec<Id>) -> Vec<u32> {
    ids.into_iter().map(|Id(id)| id).collect()
}

/// A whole number, whether it is written as one or as 1.0.
pub fn whole(text: &str) -> Option<i64> {
    let number = serde_json::from_str::<serde_json::Number>(text).ok()?;
    let as_float = || number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9.2e18);
    number.as_i64().or_else(|| as_float().map(|number| number as i64))
}

/// The begin of a value that a message repeats.
pub fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What serde says, without a line and a column of something that the client never sees by itself.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

/// Refuses what would take too much stack or memory, before it is parsed.
fn check_size(text: &str) -> Result<(), ApiError> {
    let (mut depth, mut values, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > DEEPEST {
            return Err(ApiError::json(format!("the body is nested more than {DEEPEST} deep")));
        }
        if values > MOST_VALUES {
            return Err(ApiError::json(format!("the body holds more than {MOST_VALUES} values")));
        }
    }
    Ok(())
}
