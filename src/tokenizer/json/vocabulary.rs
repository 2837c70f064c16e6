//! The tokens and merges of a tokenizer.json, in the arrays of a GGUF file: one token a place, with its kind.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::super::byte_level::MOST_MERGES;
use super::super::vocabulary::{MOST_TOKENS, byte_spelled};
use super::damaged;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;

/// Ids that no token has: published files leave some between the vocabulary and the added tokens. Each costs an entry in
/// memory, so they may not be many more than the tokens.
const MOST_HOLES: usize = 1 << 12;

/// GGUF's numbers for kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A token that is recognised before anything else happens to a text.
#[derive(Deserialize)]
pub(super) struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    normalized: bool,
}

/// The model `BPE`.
#[derive(Deserialize)]
pub(super) struct Bpe {
    dropout: Option<f32>,
    pub(super) unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    vocab: HashMap<String, u32>,
    pub(super) merges: Vec<Merge>,
}

/// Two parts that become one token: `"a b"` in older files, `["a", "b"]` in newer ones.
pub(super) struct Merge(pub(super) String, pub(super) String);

impl Bpe {
    pub(super) fn parse(model: &RawValue) -> Result<Self> {
        #[derive(Deserialize)]
        struct Model {
            r#type: Option<String>,
        }
        let kind: Model = serde_json::from_str(model.get()).map_err(|error| damaged(&error))?;
        // The oldest files do not name the model; they are BPE if they have its fields.
        if let Some(kind) = kind.r#type.filter(|kind| kind != "BPE") {
            return Err(Error::Unsupported(format!("a tokenizer of the model {}; known is BPE", quoted(&kind))));
        }
        let bpe: Bpe = serde_json::from_str(model.get()).map_err(|error| damaged(&error))?;
        let affix = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if bpe.dropout.is_some_and(|dropout| dropout != 0.0) {
            return Err(Error::Unsupported("a BPE model with dropout, which leaves merges to chance".into()));
        }
        if affix(&bpe.continuing_subword_prefix) || affix(&bpe.end_of_word_suffix) {
            return Err(Error::Unsupported("a BPE model with a prefix or suffix for parts of words".into()));
        }
        if bpe.merges.len() > MOST_MERGES {
            return Err(Error::Model(format!("{} merges; at most {MOST_MERGES} are allowed", bpe.merges.len())));
        }
        Ok(bpe)
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        impl<'de> Visitor<'de> for Parts {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two parts with a space between them, or a list of two")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Merge, E> {
                match text.split_once(' ') {
                    Some((left, right)) if !right.contains(' ') => Ok(Merge(left.into(), right.into())),
                    _ => Err(E::invalid_value(de::Unexpected::Other("a merge of other parts"), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let wrong = |length| de::Error::invalid_length(length, &"a list of two");
                let left = list.next_element()?.ok_or_else(|| wrong(0))?;
                let right = list.next_element()?.ok_or_else(|| wrong(1))?;
                match list.next_element::<de::IgnoredAny>()? {
                    None => Ok(Merge(left, right)),
                    Some(_) => Err(wrong(3)),
                }
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

/// All tokens by id.
pub(super) struct Tokens {
    pub(super) texts: Vec<String>,
    pub(super) types: Vec<i32>, // GGUF's numbers
    /// Added tokens that are looked for after the others, in the text as it was normalised; sorted.
    pub(super) late: Vec<u32>,
    ids: HashMap<String, u32>,
}

impl Tokens {
    /// The id of a text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// An id that another file names.
    pub(super) fn checked(&self, id: u32) -> Result<u32> {
        if (id as usize) < self.texts.len() {
            return Ok(id);
        }
        Err(Error::Model(format!("the files beside it name the token {id}, but there are only {}", self.texts.len())))
    }
}

/// Puts vocabulary and added tokens into one list. `are_pieces`: bytes are spelled `<0xE6>`.
pub(super) fn tokens(bpe: &Bpe, added: &[Added], are_pieces: bool) -> Result<Tokens> {
    let highest = bpe.vocab.values().copied().chain(added.iter().map(|token| token.id)).max();
    let count = highest.map_or(0, |highest| highest as usize + 1);
    let listed = bpe.vocab.len() + added.len();
    if count > MOST_TOKENS || count > 2 * listed + MOST_HOLES {
        return Err(Error::Model(format!("a token with the id {}, but only {listed} tokens are listed", count - 1)));
    }
    let late = BTreeSet::from_iter(added.iter().filter(|token| token.normalized).map(|token| token.id));
    let mut tokens = Tokens {
        texts: vec![String::new(); count],
        types: vec![UNUSED; count],
        late: late.into_iter().collect(),
        ids: HashMap::new(),
    };
    for (text, &id) in &bpe.vocab {
        let place = &mut tokens.texts[id as usize];
        // Of tokens without text, some files have one in the vocabulary; it can never come out.
        if tokens.types[id as usize] != UNUSED {
            let (text, place) = (quoted(text), quoted(place));
            return Err(Error::Model(format!("the tokens {place} and {text} have the same id, {id}")));
        }
        place.clone_from(text);
        let is_byte = are_pieces && byte_spelled(text).is_some();
        tokens.types[id as usize] = if is_byte { BYTE } else { NORMAL };
    }
    for token in added {
        let (text, id) = (&token.content, token.id as usize);
        if token.lstrip || token.rstrip || token.single_word {
            return Err(Error::Unsupported(format!(
                "the token {} takes white space beside it along, or only whole words (lstrip, rstrip, single_word)",
                quoted(text)
            )));
        }
        if bpe.vocab.get(text).is_some_and(|known| *known != token.id) {
            return Err(Error::Model(format!("the added token {} has another id in the vocabulary", quoted(text))));
        }
        if tokens.types[id] != UNUSED && tokens.texts[id] != *text {
            let (text, place) = (quoted(text), quoted(&tokens.texts[id]));
            return Err(Error::Model(format!("the tokens {place} and {text} have the same id, {id}")));
        }
        // Programs number such a token behind the vocabulary, whatever id the file tells.
        if id < bpe.vocab.len() && !bpe.vocab.contains_key(text) {
            let text = quoted(text);
            let (most, why) = (bpe.vocab.len(), "is one of the vocabulary's, which does not have it");
            return Err(Error::Model(format!("the id {id} of the added token {text} {why} among its {most} tokens")));
        }
        tokens.texts[id].clone_from(text);
        tokens.types[id] = if token.special { CONTROL } else { USER_DEFINED };
    }
    for (id, text) in (0..).zip(&tokens.texts) {
        tokens.ids.entry(text.clone()).or_insert(id); // of tokens spelled alike, the first
    }
    Ok(tokens)
}

/// Scores that order the joining of pieces as the merges do: a token's is minus the place of the first merge that makes
/// it. Tokens that no merge makes come after all others.
pub(super) fn scores(bpe: &Bpe, tokens: &Tokens) -> Vec<f32> {
    let mut scores = vec![-((bpe.merges.len() + 1) as f32); tokens.texts.len()];
    for (place, Merge(left, right)) in bpe.merges.iter().enumerate().rev() {
        if let Some(id) = tokens.id(&format!("{left}{right}")) {
            scores[id as usize] = -(place as f32);
        }
    }
    scores
}
