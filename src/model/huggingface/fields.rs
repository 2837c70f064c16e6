//! `config.json`, and files like it, as typed fields: numbers of an untrusted file, each checked and named where it is wrong.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::file::read_short;
use crate::format::gguf::{quoted, within};
use crate::model::config::{LARGEST_SIZE, Numbers};

/// The file of the network's numbers.
pub(super) const FILE: &str = "config.json";

/// The longest accepted config, in bytes; published ones have some thousands. In memory it takes up to a hundred times as
/// many.
pub(super) const MAX_BYTES: usize = 1 << 18;

/// An object of a JSON file; null is as if the field were not there.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    file: &'static str,
    place: &'a str, // "" or "rope_scaling." and the like
}

/// A parsed file of a directory.
pub(super) struct ConfigFile {
    object: Map<String, Value>,
    name: &'static str,
}

/// Reads a file of at most so many bytes whose outermost value is an object.
pub(super) fn read(directory: &Path, name: &'static str, most: usize) -> Result<ConfigFile> {
    let path = directory.join(name);
    let in_file = |error| within(path.display(), error);
    let bytes = read_short(&path, most)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(ConfigFile { object, name }),
        Ok(_) => Err(in_file(Error::Malformed("this is no object of fields".into()))),
        Err(error) => Err(in_file(Error::Malformed(quoted(&error.to_string())))),
    }
}

impl ConfigFile {
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields { object: &self.object, file: self.name, place: "" }
    }
}

impl<'a> Fields<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// All of them, null apart.
    pub(super) fn all(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.as_str(), value))
    }

    /// How errors call a field.
    pub(super) fn name(self, name: &str) -> String {
        format!("{}: \"{}{name}\"", self.file, self.place)
    }

    fn typed<T>(self, name: &str, wanted: &str, cast: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match cast(value) {
                Some(typed) => Ok(Some(typed)),
                None => {
                    let value = quoted(&value.to_string());
                    Err(Error::Model(format!("{} must be {wanted}, but is {value}", self.name(name))))
                }
            },
        }
    }

    pub(super) fn missing(self, name: &str) -> Error {
        Error::Model(format!("{} is missing", self.name(name)))
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>> {
        self.typed(name, "a text", Value::as_str)
    }

    pub(super) fn boolean(self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn float(self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// A size of at least 1 and at most what a model can have.
    pub(super) fn size(self, name: &str) -> Result<Option<usize>> {
        let wanted = format!("a size from 1 to {LARGEST_SIZE}");
        let size = |value: &Value| value.as_u64().filter(|size| (1..=LARGEST_SIZE).contains(size));
        self.typed(name, &wanted, size).map(|size| size.map(|size| size as usize))
    }

    pub(super) fn required_size(self, name: &str) -> Result<usize> {
        self.size(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn list(self, name: &str) -> Result<Option<&'a Vec<Value>>> {
        self.typed(name, "a list", Value::as_array)
    }

    /// An object within this one. `place` is its name with a dot.
    pub(super) fn object(self, name: &str, place: &'a str) -> Result<Option<Fields<'a>>> {
        let object = self.typed(name, "an object", Value::as_object)?;
        Ok(object.map(|object| Fields { object, file: self.file, place }))
    }
}

impl Numbers for Fields<'_> {
    fn find_size(&self, name: &str) -> Result<Option<usize>> {
        self.size(name)
    }

    fn find_float(&self, name: &str) -> Result<Option<f64>> {
        self.float(name)
    }

    fn place(&self, name: &str) -> String {
        self.name(name)
    }

    fn label(&self, name: &str) -> String {
        format!("\"{}{name}\"", self.place)
    }
}
