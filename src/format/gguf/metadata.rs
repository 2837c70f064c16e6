//! Key/value pairs of a GGUF file. Strings and arrays stay where they are in the map and are decoded when asked for,
//! so that a lying count cannot make us allocate.

use std::fmt;

use bytes::Bytes;

use super::quoted;
use crate::error::{Error, Result};

/// The metadata of a file, in the file's order, keys unique.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pairs: Vec<(String, Value)>,
}

/// One value. Integer widths are those of the file; readers accept any.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type ids 0, 2, 4, 10: an unsigned integer of any width.
    Unsigned(u64),
    /// Type ids 1, 3, 5, 11: a signed integer of any width.
    Signed(i64),
    /// Type ids 6, 12: a float of either width.
    Float(f64),
    /// Type id 7.
    Bool(bool),
    /// Type id 8.
    String(String),
    /// Type id 9.
    Array(Array),
}

/// The type ids that need more than [`element_width`] to read.
const I32: u32 = 5;
pub(super) const F32: u32 = 6;
pub(super) const BOOL: u32 = 7;
pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;
pub(super) const F64: u32 = 12;

/// An array whose elements were checked against the file when it was parsed.
#[derive(Clone, PartialEq)]
pub struct Array {
    element_type: u32, // 0..=12 without 9
    count: usize,
    bytes: Bytes, // the elements back to back
}

impl Metadata {
    /// Takes parsed pairs; the parser guarantees that keys are unique and not empty.
    pub(crate) fn new(pairs: Vec<(String, Value)>) -> Self {
        Self { pairs }
    }

    /// All pairs in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// A string, if the key is there.
    ///
    /// # Errors
    /// [`Error::Model`] if it is there with another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A non-negative integer of any width, if the key is there.
    ///
    /// # Errors
    /// [`Error::Model`] if it is there with another type or negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", |value| match *value {
            Value::Unsigned(n) => Some(n),
            Value::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        })
    }

    /// A number as f64, if the key is there.
    ///
    /// # Errors
    /// [`Error::Model`] if it is there with another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match *value {
            Value::Float(x) => Some(x),
            Value::Unsigned(n) => Some(n as f64),
            Value::Signed(n) => Some(n as f64),
            _ => None,
        })
    }

    /// A boolean, if the key is there.
    ///
    /// # Errors
    /// [`Error::Model`] if it is there with another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match *value {
            Value::Bool(b) => Some(b),
            _ => None,
        })
    }

    /// An array, if the key is there.
    ///
    /// # Errors
    /// [`Error::Model`] if it is there with another type.
    pub fn array(&self, key: &str) -> Result<Option<&Array>> {
        self.typed(key, "an array", |value| match value {
            Value::Array(array) => Some(array),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, cast: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match cast(value) {
                Some(typed) => Ok(Some(typed)),
                None => Err(Error::Model(format!("the key \"{key}\" must hold {wanted}, but holds {value}"))),
            },
        }
    }
}

impl Array {
    /// Takes elements that the parser has walked once: `bytes` holds exactly `count` of them, strings valid UTF-8.
    pub(crate) fn new(element_type: u32, count: usize, bytes: Bytes) -> Self {
        Self { element_type, count, bytes }
    }

    /// An array of strings.
    pub fn of_strings<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for text in texts {
            bytes.extend_from_slice(&(text.as_ref().len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_ref().as_bytes());
            count += 1;
        }
        Self::new(STRING, count, bytes.into())
    }

    /// An array of i32.
    pub fn of_integers(values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(I32, values.len(), bytes.into())
    }

    /// An array of f32.
    pub fn of_floats(values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(F32, values.len(), bytes.into())
    }

    /// An array of booleans.
    pub fn of_truths(values: &[bool]) -> Self {
        let bytes: Vec<u8> = values.iter().map(|&value| value.into()).collect();
        Self::new(BOOL, values.len(), bytes.into())
    }

    /// The type number of the elements.
    pub(super) fn element_type(&self) -> u32 {
        self.element_type
    }

    /// The elements as they stand in a file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings, if it is an array of strings.
    pub fn strings(&self) -> Option<impl Iterator<Item = &str>> {
        (self.element_type == STRING).then(|| {
            let mut rest: &[u8] = &self.bytes;
            std::iter::from_fn(move || {
                let (length, tail) = rest.split_first_chunk::<8>()?;
                let (text, tail) = tail.split_at(u64::from_le_bytes(*length) as usize);
                rest = tail;
                Some(std::str::from_utf8(text).expect("the parser checked every string of the array"))
            })
        })
    }

    /// The elements as f64, if it is an array of numbers of any type (booleans are 0 and 1).
    pub fn floats(&self) -> Option<impl Iterator<Item = f64> + '_> {
        let width = element_width(self.element_type)?;
        Some(self.bytes.chunks_exact(width).map(|element| match scalar(self.element_type, element) {
            Value::Unsigned(n) => n as f64,
            Value::Signed(n) => n as f64,
            Value::Float(x) => x,
            Value::Bool(b) => f64::from(u8::from(b)),
            Value::String(_) | Value::Array(_) => unreachable!("element_width is None for strings and arrays"),
        }))
    }

    /// The elements as i64, if it is an array of integers of any width or of booleans.
    pub fn integers(&self) -> Option<impl Iterator<Item = i64> + '_> {
        let width = element_width(self.element_type).filter(|_| !matches!(self.element_type, F32 | F64))?;
        Some(self.bytes.chunks_exact(width).map(|element| match scalar(self.element_type, element) {
            Value::Unsigned(n) => i64::try_from(n).unwrap_or(i64::MAX),
            Value::Signed(n) => n,
            Value::Bool(b) => i64::from(b),
            Value::Float(_) | Value::String(_) | Value::Array(_) => unreachable!("filtered above"),
        }))
    }

    /// The elements, if it is an array of booleans.
    pub fn truths(&self) -> Option<impl Iterator<Item = bool> + '_> {
        (self.element_type == BOOL).then(|| self.bytes.iter().map(|&byte| byte != 0))
    }

    /// The name of the element type, as the GGUF specification spells it.
    pub fn element_type_name(&self) -> &'static str {
        type_name(self.element_type)
    }
}

/// Bytes of one scalar of a value type; `None` for strings, arrays and unknown ids.
pub(super) fn element_width(type_id: u32) -> Option<usize> {
    match type_id {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Decodes one scalar from exactly [`element_width`] bytes.
pub(super) fn scalar(type_id: u32, bytes: &[u8]) -> Value {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let n = u64::from_le_bytes(wide);
    match type_id {
        0 | 2 | 4 | 10 => Value::Unsigned(n),
        1 => Value::Signed(i64::from(n as i8)),
        3 => Value::Signed(i64::from(n as i16)),
        5 => Value::Signed(i64::from(n as i32)),
        11 => Value::Signed(n as i64),
        F32 => Value::Float(f64::from(f32::from_bits(n as u32))),
        F64 => Value::Float(f64::from_bits(n)),
        BOOL => Value::Bool(n != 0),
        _ => unreachable!("the caller knows the width, so the type is a scalar"),
    }
}

/// The name of a value type.
pub(super) fn type_name(type_id: u32) -> &'static str {
    const NAMES: [&str; 13] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];
    NAMES.get(type_id as usize).copied().unwrap_or("unknown")
}

impl fmt::Display for Value {
    /// Short: long strings are cut, of arrays only the first elements are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(n) => write!(f, "{n}"),
            Value::Signed(n) => write!(f, "{n}"),
            // The shortest text of an f32 that was widened, not its exact digits.
            Value::Float(x) if f64::from(*x as f32) == *x => write!(f, "{}", *x as f32),
            Value::Float(x) => write!(f, "{x}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::String(text) => f.write_str(&quoted(text)),
            Value::Array(array) => write!(f, "{array}"),
        }
    }
}

impl fmt::Display for Array {
    /// Short: the number of elements and the first few.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_ELEMENTS: usize = 4;
        let first: Vec<String> = match (self.strings(), self.floats()) {
            (Some(strings), _) => strings.take(SHOWN_ELEMENTS).map(quoted).collect(),
            (None, Some(numbers)) => numbers.take(SHOWN_ELEMENTS).map(|x| x.to_string()).collect(),
            (None, None) => unreachable!("the parser refuses elements that are neither strings nor numbers"),
        };
        let more = if self.len() > first.len() { ", …" } else { "" };
        write!(f, "[{} × {}: {}{more}]", self.len(), self.element_type_name(), first.join(", "))
    }
}

impl fmt::Debug for Array {
    /// As Display: a vocabulary is megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
