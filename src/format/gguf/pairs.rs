//! Parses the key/value pairs: each value is walked once, so that [`Metadata`] can decode it later without checks.

use std::collections::HashSet;

use bytes::Bytes;

use super::metadata::{ARRAY, Array, BOOL, Metadata, STRING, Value, element_width, scalar};
use super::reader::Reader;
use super::{quoted, within};
use crate::error::{Error, Result};

/// The most keys a file may have. Published files have 20 to 60; in memory a key takes up to 120 bytes while it is
/// parsed, so this many are 8 MB.
pub(super) const MAX_KEYS: u64 = 65_536;

/// The longest key, in bytes (GGUF specification).
pub(super) const MAX_KEY_BYTES: usize = 65_535;

/// The shortest pair: the length of the key, one byte of key, the type, one byte of value.
const MIN_PAIR_BYTES: usize = 8 + 1 + 4 + 1;

/// The length in front of each string.
const STRING_LENGTH_BYTES: usize = 8;

/// Reads `count` pairs; `file` is what the reader reads, for windows of arrays.
pub(super) fn parse(reader: &mut Reader<'_>, count: u64, file: &Bytes) -> Result<Metadata> {
    reader.expect_entries(count, MIN_PAIR_BYTES, "keys")?;
    if count > MAX_KEYS {
        return Err(Error::Unsupported(format!("a file with {count} keys: at most {MAX_KEYS} are accepted")));
    }
    let mut seen = HashSet::new();
    let mut pairs = Vec::new(); // grows with what was read, not with what was claimed
    for number in 0..count {
        let start = reader.at();
        let key = key(reader).map_err(|error| within(format_args!("key {number} at byte {start}"), error))?;
        let place = || format!("key {number} at byte {start}, {}", quoted(key));
        if !seen.insert(key) {
            return Err(Error::Malformed(format!("{}: an earlier key has the same name", place())));
        }
        let value = value(reader, file).map_err(|error| within(place(), error))?;
        pairs.push((key.to_owned(), value));
    }
    Ok(Metadata::new(pairs))
}

fn key<'a>(reader: &mut Reader<'a>) -> Result<&'a str> {
    let key = reader.text("name")?;
    match key.len() {
        0 => Err(Error::Malformed("the name is empty".into())),
        1..=MAX_KEY_BYTES => Ok(key),
        length => Err(Error::Malformed(format!("the name has {length} bytes, at most {MAX_KEY_BYTES} are allowed"))),
    }
}

fn value(reader: &mut Reader<'_>, file: &Bytes) -> Result<Value> {
    let type_id = reader.u32("type")?;
    match (type_id, element_width(type_id)) {
        (STRING, _) => Ok(Value::String(reader.text("string")?.to_owned())),
        (ARRAY, _) => array(reader, file).map(Value::Array),
        (_, Some(width)) => {
            let bytes = reader.take(width as u64, "value")?;
            check_booleans(type_id, bytes)?;
            Ok(scalar(type_id, bytes))
        }
        (_, None) => Err(Error::Malformed(format!("the value has the unknown type {type_id}"))),
    }
}

fn array(reader: &mut Reader<'_>, file: &Bytes) -> Result<Array> {
    let type_id = reader.u32("element type")?;
    let count = reader.u64("number of elements")?;
    let start = reader.at();
    match (type_id, element_width(type_id)) {
        (STRING, _) => {
            reader.expect_entries(count, STRING_LENGTH_BYTES, "strings")?;
            for number in 0..count {
                let at = reader.at();
                reader.text("string").map_err(|error| within(format_args!("element {number} at byte {at}"), error))?;
            }
        }
        (ARRAY, _) => return Err(Error::Unsupported("an array of arrays".into())),
        (_, Some(width)) => {
            reader.expect_entries(count, width, "elements")?;
            let bytes = reader.take(count * width as u64, "array")?; // cannot wrap: it is at most what remains
            check_booleans(type_id, bytes)?;
        }
        (_, None) => return Err(Error::Malformed(format!("the elements have the unknown type {type_id}"))),
    }
    let count = usize::try_from(count).expect("each element takes a byte or more of a slice");
    Ok(Array::new(type_id, count, file.slice(start..reader.at())))
}

fn check_booleans(type_id: u32, bytes: &[u8]) -> Result<()> {
    match bytes.iter().position(|&byte| type_id == BOOL && byte > 1) {
        Some(wrong) => Err(Error::Malformed(format!("boolean {wrong} is the byte {:#04x}, not 0 or 1", bytes[wrong]))),
        None => Ok(()),
    }
}
