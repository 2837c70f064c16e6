//! What the files beside a tokenizer.json say: which tokens begin and end a text, and the chat template. Each may be
//! missing; what is there must be sound.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::damaged;
use crate::error::{Error, Result};
use crate::format::gguf::within;
use crate::format::map::map;

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
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Added { content: String },
}

/// `generation_config.json` and `config.json`.
#[derive(Default, Deserialize)]
struct Ids {
    bos_token_id: Option<OneOrMore>,
    eos_token_id: Option<OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Beside {
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let config: TokenizerConfig = file(directory, "tokenizer_config.json")?;
        let map: TokenizerConfig = file(directory, "special_tokens_map.json")?;
        let generation: Ids = file(directory, "generation_config.json")?;
        let model: Ids = file(directory, "config.json")?;
        let ids = |list: Option<OneOrMore>| list.map_or_else(Vec::new, OneOrMore::into_vec);
        let mut ends = ids(generation.eos_token_id);
        ends.extend(ids(model.eos_token_id));
        let bos = ids(generation.bos_token_id).into_iter().chain(ids(model.bos_token_id)).next();
        Ok(Self {
            bos_text: config.bos_token.or(map.bos_token).map(Token::into_text),
            eos_text: config.eos_token.or(map.eos_token).map(Token::into_text),
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

impl Token {
    fn into_text(self) -> String {
        match self {
            Token::Text(text) | Token::Added { content: text } => text,
        }
    }
}

impl OneOrMore {
    fn into_vec(self) -> Vec<u32> {
        match self {
            OneOrMore::One(id) => vec![id],
            OneOrMore::More(ids) => ids,
        }
    }
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
    let bytes = map(&path)?;
    if bytes.len() > MAX_BYTES {
        let text = format!("{}: {} bytes; at most {MAX_BYTES} are accepted", path.display(), bytes.len());
        return Err(Error::Unsupported(text));
    }
    Ok(Some(bytes.to_vec()))
}
