//! The values of a schema's keywords: their types, and the sizes within which they are honoured exactly.

use serde_json::Value;

use crate::error::{Error, Result};

use super::{MOST_NESTING, MOST_SCHEMA_BYTES, wrong};

/// Whole numbers up to here are exact as f64, in which bounds and constants are computed.
const MOST_EXACT: f64 = (1u64 << 53) as f64;
/// Smaller fractions are written with more digits than expressions of numbers are made for.
const LEAST_FRACTION: f64 = 1e-9;
/// A regular expression of more takes long at each token.
const MOST_PATTERN_BYTES: usize = 1024;
/// The largest count of items, characters or properties.
const MOST_COUNT: u64 = 1 << 20;

/// # Errors
/// [`Error::Input`] if a schema is nested too deep or too large.
pub(super) fn check_size(schema: &Value) -> Result<()> {
    if !is_nested_at_most(schema, MOST_NESTING) {
        return Err(Error::Input(format!("a schema nested more than {MOST_NESTING} deep")));
    }
    let bytes = schema.to_string().len();
    if bytes > MOST_SCHEMA_BYTES {
        return Err(Error::Input(format!("a schema of {bytes} bytes; at most {MOST_SCHEMA_BYTES}")));
    }
    Ok(())
}

fn is_nested_at_most(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels > 0 && is_nested_at_most(value, levels - 1);
    match value {
        Value::Array(values) => values.iter().all(below),
        Value::Object(values) => values.values().all(below),
        _ => true,
    }
}

/// A count, also where it is written as 3.0.
pub(super) fn count(value: &Value, place: &str) -> Result<u64> {
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..=MOST_EXACT).contains(&number)).then_some(number as u64);
    match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
        Some(count) if count <= MOST_COUNT => Ok(count),
        _ => Err(wrong(place, &format!("a whole number from 0 to {MOST_COUNT}"), value)),
    }
}

/// A bound, or what numbers are multiples of.
pub(super) fn check_number(value: &Value, is_divisor: bool, place: &str) -> Result<Value> {
    match value {
        Value::Number(_) if is_divisor && value.as_f64().is_some_and(|number| number <= 0.0) => {
            Err(wrong(place, "above 0", value))
        }
        Value::Number(_) => check_exact(value, place),
        _ => Err(wrong(place, "a number", value)),
    }
}

/// A constant: its numbers and texts, however deep, can be honoured.
pub(super) fn check_exact(value: &Value, place: &str) -> Result<Value> {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => {
            let is_exact = |number: f64| number == 0.0 || (LEAST_FRACTION..=MOST_EXACT).contains(&number.abs());
            if !number.as_f64().is_some_and(is_exact) {
                return Err(wrong(place, "a number from −2^53 to 2^53, and no smaller fraction than 1e-9", value));
            }
        }
        Value::String(_) => drop(check_text(value, place)?),
        Value::Array(values) => {
            for value in values {
                check_exact(value, place)?;
            }
        }
        Value::Object(values) => {
            for (key, value) in values {
                check_text(&key.as_str().into(), place)?;
                check_exact(value, place)?;
            }
        }
    }
    Ok(value.clone())
}

/// A text. Control characters that JSON spells but by their number are none that an answer has.
pub(super) fn check_text(value: &Value, place: &str) -> Result<Value> {
    let Value::String(text) = value else { return Err(wrong(place, "a text", value)) };
    let has_no_spelling = |c: char| c.is_ascii_control() && !"\n\r\t\u{8}\u{c}".contains(c);
    match text.contains(has_no_spelling) {
        true => Err(wrong(place, "without control characters", value)),
        false => Ok(value.clone()),
    }
}

/// A regular expression.
pub(super) fn check_pattern(value: &Value, place: &str) -> Result<Value> {
    match value.as_str() {
        Some(pattern) if pattern.len() > MOST_PATTERN_BYTES => {
            Err(wrong(place, &format!("a pattern of at most {MOST_PATTERN_BYTES} bytes"), value))
        }
        _ => check_text(value, place),
    }
}

/// The beginning of a value, for a message.
pub(super) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A reference's fragment, in which % stands for bytes. None if it does not come to text.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
