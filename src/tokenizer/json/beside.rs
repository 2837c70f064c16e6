//! What the files beside a tokenizer.json say: which tokens begin and end a text, and the chat template. Each may be
//! missing; what is there must be sound.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::damaged;
use crate::error::{Error, Result};
use crate::format::file::read_short;
use crate::format::gguf::within;

/// The longest accepted file, in bytes; configs that list all added tokens have some millions.
const MAX_BYTES: usize = 16 << 20;

/// The tokens that the files name.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) bos_text: Option<String>,
    pub(super) eos_text: Option<String>,
    pub(super) add_bos: Option<bool>,
    pub(super) bos: Option<u32>,
    pub(super) ends: Vec<u32>,
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: Option<bool>,
    chat_template: Option<Template>,
}

/// A token by its text, alone or with its properties.
struct Token(String);

/// `generation_config.json` and `config.json`.
#[derive(Default, Deserialize)]
struct Ids {
    bos_token_id: Option<OneOrMore>,
    eos_token_id: Option<OneOrMore>,
}

/// An id, or a list of them.
struct OneOrMore(Vec<u32>);

/// A chat template, or several of which one is called the default.
enum Template {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// Fields of two forms are told by their first letter. An untagged enum would first make a value of each letter or two of
/// the file, however many there are, before it looked at what was wanted.
impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Added {
            content: String,
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match raw.get().starts_with('{') {
            true => typed(&raw).map(|Added { content }| Self(content)),
            false => typed(&raw).map(Self),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match raw.get().starts_with('[') {
            true => typed(&raw).map(Self),
            false => typed(&raw).map(|id| Self(vec![id])),
        }
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match raw.get().starts_with('[') {
            true => typed(&raw).map(Self::Several),
            false => typed(&raw).map(Self::One),
        }
    }
}

fn typed<T: DeserializeOwned, E: serde::de::Error>(raw: &RawValue) -> Result<T, E> {
    serde_json::from_str(raw.get()).map_err(E::custom)
}

impl Beside {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let config: TokenizerConfig = file(directory, "tokenizer_config.json")?;
        let map: TokenizerConfig = file(directory, "special_tokens_map.json")?;
        let generation: Ids = file(directory, "generation_config.json")?;
        let model: Ids = file(directory, "config.json")?;
        let ids = |list: Option<OneOrMore>| list.map_or_else(Vec::new, |list| list.0);
        let mut ends = ids(generation.eos_token_id);
        ends.extend(ids(model.eos_token_id));
        let bos = ids(generation.bos_token_id).into_iter().chain(ids(model.bos_token_id)).next();
        Ok(Self {
            bos_text: config.bos_token.or(map.bos_token).map(|token| token.0),
            eos_text: config.eos_token.or(map.eos_token).map(|token| token.0),
            add_bos: config.add_bos_token,
            bos,
            ends,
        })
    }
}

/// The chat template of a directory: a file of its own in newer models, else a field of `tokenizer_config.json`.
pub(crate) fn chat_template(directory: &Path) -> Result<Option<String>> {
    if let Some(bytes) = bytes(directory, "chat_template.jinja")? {
        let path = directory.join("chat_template.jinja");
        let text = String::from_utf8(bytes);
        return text.map(Some).map_err(|error| Error::Malformed(format!("{}: {error}", path.display())));
    }
    let config: TokenizerConfig = file(directory, "tokenizer_config.json")?;
    Ok(match config.chat_template {
        None => None,
        Some(Template::One(text)) => Some(text),
        Some(Template::Several(list)) => list.into_iter().find(|t| t.name == "default").map(|t| t.template),
    })
}

/// A JSON file, or nothing where it is missing.
fn file<T: Default + DeserializeOwned>(directory: &Path, name: &str) -> Result<T> {
    match bytes(directory, name)? {
        None => Ok(T::default()),
        Some(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| within(directory.join(name).display(), damaged(&error)))
        }
    }
}

fn bytes(directory: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(None);
    }
    read_short(&path, MAX_BYTES).map(Some)
}
