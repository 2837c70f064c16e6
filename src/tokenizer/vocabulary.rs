//! The tokens of a vocabulary as the file lists them: how each is spelled, of what kind it is, and which of them end a
//! generation. Everything here comes from an untrusted file and is checked before anything is built on it.

use std::collections::{BTreeMap, HashSet};

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Metadata};

/// Four times the largest published vocabulary.
pub(super) const MOST_TOKENS: usize = 1 << 20;
/// The longest published tokens are runs of some hundred spaces or dashes.
const LONGEST_TOKEN_BYTES: usize = 1 << 14;
/// Tokens that end a turn or a text in some family, whether or not a key of the file points at them.
const END_TEXTS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<EOT>",
    "<|return|>",
];

/// What a token is for: `tokenizer.ggml.token_type`, 1 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens, by id.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: Vec<Box<str>>,
    kinds: Vec<Kind>,
}

impl Vocabulary {
    pub(super) fn read(metadata: &Metadata, decisions: &mut Vec<Decision>) -> Result<Self> {
        const KEY: &str = "tokenizer.ggml.tokens";
        let array = metadata.array(KEY)?.ok_or_else(|| Error::Model(format!("the file has no tokenizer ({KEY})")))?;
        if array.len() > MOST_TOKENS {
            return Err(Error::Model(format!("{KEY} lists {} tokens; at most {MOST_TOKENS} are allowed", array.len())));
        }
        let texts: Vec<Box<str>> = strings(array, KEY)?.map(Box::from).collect();
        if texts.is_empty() {
            return Err(Error::Model(format!("{KEY} is empty")));
        }
        if let Some(id) = texts.iter().position(|text| text.len() > LONGEST_TOKEN_BYTES) {
            let length = texts[id].len();
            return Err(Error::Model(format!(
                "token {id} has {length} bytes; at most {LONGEST_TOKEN_BYTES} are allowed"
            )));
        }
        let mut vocabulary = Self { kinds: Vec::new(), texts };
        vocabulary.kinds = match declared_kinds(metadata, vocabulary.len())? {
            Some(kinds) => kinds,
            None => vocabulary.guess_kinds(metadata, decisions)?,
        };
        Ok(vocabulary)
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Tokens but for the last ones that only fill the rows of an embedding: converters call them `[PAD` with their id, and unused.
    pub(super) fn used(&self) -> usize {
        let is_filling = |id: usize| self.kinds[id] == Kind::Unused && *self.texts[id] == format!("[PAD{id}]");
        let filling = (0..self.len()).rev().take_while(|&id| is_filling(id)).count();
        self.len() - filling
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(|text| &**text)
    }

    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    /// All tokens in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0..).zip(&self.texts).zip(&self.kinds).map(|((id, text), &kind)| (id, &**text, kind))
    }

    /// The token that a key points at, if the key is there.
    pub(super) fn id(&self, metadata: &Metadata, key: &str) -> Result<Option<u32>> {
        match metadata.unsigned(key)? {
            None => Ok(None),
            Some(id) if id < self.len() as u64 => Ok(Some(id as u32)),
            Some(id) => Err(Error::Model(format!("{key} is {id}, but there are only {} tokens", self.len()))),
        }
    }

    /// The tokens that end a generation: those that keys name, and those that are spelled like an end. The latter are
    /// made control tokens where the file calls them text, or chat turns would be typed out instead of ended.
    /// `named` are ids of the vocabulary that other files call ends.
    pub(super) fn ends(
        &mut self,
        metadata: &Metadata,
        named: &[u32],
        decisions: &mut Vec<Decision>,
    ) -> Result<Vec<u32>> {
        let mut ends = named.to_vec();
        let mut retyped = BTreeMap::<(&str, Kind), usize>::new(); // a line for each spelling, not for each token
        for key in ["eos", "eot", "eom"] {
            ends.extend(self.id(metadata, &format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let merged = merged_brackets(metadata)?;
        for id in 0..self.len() as u32 {
            let Some(&text) = END_TEXTS.iter().find(|&&text| *text == *self.texts[id as usize]) else { continue };
            let kind = self.kinds[id as usize];
            // A token that merging makes is a piece of ordinary text ("</s>" is struck-out HTML), not a sign.
            if kind == Kind::Normal && merged.contains(text) {
                continue;
            }
            ends.push(id);
            if kind != Kind::Control {
                *retyped.entry((text, kind)).or_default() += 1;
                self.kinds[id as usize] = Kind::Control;
            }
        }
        for ((text, kind), count) in retyped {
            let times = if count == 1 { String::new() } else { format!(", {count} times") };
            let reason = format!("the file types it as {kind:?}{times}, but it is spelled like an end of generation");
            decisions.push(Decision::new("token kind", format!("{text:?} is a control token"), reason).warned());
        }
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }

    /// Kinds for a file without `token_type`: what the keys name as signs, what is spelled `<|…|>` and no merge makes,
    /// and SentencePiece's own spellings; all else is text.
    fn guess_kinds(&self, metadata: &Metadata, decisions: &mut Vec<Decision>) -> Result<Vec<Kind>> {
        let mut signs = HashSet::new();
        for key in ["bos", "eos", "eot", "eom", "padding"] {
            signs.extend(self.id(metadata, &format!("tokenizer.ggml.{key}_token_id"))?);
        }
        let unknown = self.id(metadata, "tokenizer.ggml.unknown_token_id")?;
        let merged = merged_brackets(metadata)?;
        let is_sentencepiece = metadata.string("tokenizer.ggml.model")? == Some("llama");
        let kind = |(id, text)| match text {
            _ if signs.contains(&id) => Kind::Control,
            _ if unknown == Some(id) => Kind::Unknown,
            "<unk>" if is_sentencepiece => Kind::Unknown,
            "<s>" | "</s>" if is_sentencepiece => Kind::Control,
            _ if is_sentencepiece && byte_spelled(text).is_some() => Kind::Byte,
            _ if text.starts_with("<|") && text.ends_with("|>") && !merged.contains(text) => Kind::Control,
            _ => Kind::Normal,
        };
        let kinds: Vec<Kind> = (0..).zip(self.texts.iter().map(|text| &**text)).map(kind).collect();
        let count = kinds.iter().filter(|&&kind| kind == Kind::Control).count();
        let choice = format!("{count} control tokens, by their keys and spelling");
        decisions.push(Decision::new("token kind", choice, "the file has no tokenizer.ggml.token_type").warned());
        Ok(kinds)
    }
}

/// The byte of SentencePiece's `<0xXX>`.
pub(super) fn byte_spelled(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let are_digits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u8::from_str_radix(digits, 16).expect("two hexadecimal digits are a byte"))
}

/// The strings of an array that must hold strings.
pub(super) fn strings<'a>(array: &'a Array, key: &str) -> Result<impl Iterator<Item = &'a str>> {
    let wrong = || Error::Model(format!("{key} must hold strings, but holds {}", array.element_type_name()));
    array.strings().ok_or_else(wrong)
}

/// Checks that an array has one element per token.
pub(super) fn one_per_token(array: &Array, key: &str, tokens: usize) -> Result<()> {
    if array.len() == tokens {
        return Ok(());
    }
    Err(Error::Model(format!("{key} has {} elements for {tokens} tokens", array.len())))
}

fn declared_kinds(metadata: &Metadata, tokens: usize) -> Result<Option<Vec<Kind>>> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(array) = metadata.array(KEY)? else { return Ok(None) };
    one_per_token(array, KEY, tokens)?;
    let wrong = || Error::Model(format!("{KEY} must hold integers, but holds {}", array.element_type_name()));
    let kind = |(id, number)| match number {
        1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        other => Err(Error::Model(format!("{KEY} of token {id} is {other}; it must be 1 to 6"))),
    };
    array.integers().ok_or_else(wrong)?.enumerate().map(kind).collect::<Result<_>>().map(Some)
}

/// Results of the merges that stand in angle brackets: few, and all that could be mistaken for a sign.
fn merged_brackets(metadata: &Metadata) -> Result<HashSet<String>> {
    const KEY: &str = "tokenizer.ggml.merges";
    let Some(array) = metadata.array(KEY)? else { return Ok(HashSet::new()) };
    Ok(strings(array, KEY)?
        .filter(|merge| merge.starts_with('<') && merge.ends_with('>'))
        .map(|merge| merge.replacen(' ', "", 1))
        .collect())
}
