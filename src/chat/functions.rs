//! What `transformers` adds to Jinja for chat templates: `tojson` as Python's `json.dumps` writes it, `raise_exception`,
//! `strftime_now`.

use std::fmt;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use super::clock;
use super::template::Bounded;
use crate::time::SystemTime;

/// The widest indentation of `tojson`: fuel does not pay for it.
const MOST_INDENT: usize = 32;

/// What a template said by `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(String);

impl Raised {
    /// The template's own words, if that is what the error is.
    pub(super) fn of(error: &minijinja::Error) -> Option<&str> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(Self(message)) = error.downcast_ref() {
                return Some(message);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Ends the rendering: the template refuses the conversation.
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

/// The date and time in UTC, by a format of `strftime`; `now` is another time, in seconds since 1970.
pub(super) fn strftime_now(format: &str, now: Option<u64>) -> Result<String, Error> {
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = now.unwrap_or_else(since_1970);
    clock::formatted(seconds, format).map_err(|text| Error::new(ErrorKind::InvalidOperation, text))
}

/// JSON as Python's `json.dumps` writes it: the engine's own filter escapes for HTML.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let is_ascii: Option<bool> = options.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorts: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = indent.map(|indent| " ".repeat(indent.min(MOST_INDENT + 1)));
    if indent.as_ref().is_some_and(|indent| indent.len() > MOST_INDENT) {
        let text = format!("tojson with an indent of more than {MOST_INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (&**item, &**key),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators of tojson are two strings")),
    };
    let python = Python {
        item,
        key,
        is_ascii: is_ascii.unwrap_or(false),
        lines: indent.as_ref().map(|indent| PrettyFormatter::with_indent(indent.as_bytes())),
    };
    let mut bytes = Bounded(Vec::new());
    let written = if sorts == Some(true) {
        // A value may be many times what it is made of: whether it is too large is found out before it is laid out.
        let is_bounded = value.serialize(&mut Serializer::new(Bounded(Vec::new())));
        let sorted = is_bounded.and_then(|()| serde_json::to_value(value)).map(sorted);
        sorted.and_then(|value| value.serialize(&mut Serializer::with_formatter(&mut bytes, python)))
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut bytes, python))
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, "tojson").with_source(error))?;
    Ok(String::from_utf8(bytes.0).expect("JSON is written as UTF-8").into())
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            fields.into_iter().collect()
        }
        serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

/// The separators, and lines if it is indented.
struct Python<'a> {
    item: &'a str,
    key: &'a str,
    is_ascii: bool,
    lines: Option<PrettyFormatter<'a>>,
}

impl Python<'_> {
    /// Before an item or a key: what separates it from the one before, and its line.
    fn begin<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        // A first item brings its line without a comma.
        self.lines.as_mut().map_or(Ok(()), |lines| lines.begin_array_value(writer, true))
    }
}

macro_rules! of_lines {
    ($($name:ident),*) => {$(
        fn $name<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
            match &mut self.lines {
                Some(lines) => lines.$name(writer),
                None => CompactFormatter.$name(writer),
            }
        }
    )*};
}

impl Formatter for Python<'_> {
    of_lines!(begin_array, end_array, end_array_value, begin_object, end_object, end_object_value);

    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        self.begin(writer, first)
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        self.begin(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, text: &str) -> std::io::Result<()> {
        if !self.is_ascii || text.is_ascii() {
            return writer.write_all(text.as_bytes());
        }
        let mut units = [0; 2];
        for character in text.chars() {
            // What is of private use may be a mark that is left out again.
            if character.is_ascii() || ('\u{e000}'..='\u{f8ff}').contains(&character) {
                writer.write_all(character.encode_utf8(&mut [0; 4]).as_bytes())?;
                continue;
            }
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
