//! Byte-level byte-pair encoding, `tokenizer.ggml.model` = "gpt2". Text is cut into words, each byte of a word is
//! spelled as a printable character (GPT-2's table), and merges put the characters together. The merging is the
//! `tokenizers` crate's ([`super::merger`]); the cutting is done here, because its pre-tokenizer hides when the regular
//! expression gives up.

use std::borrow::Cow;
use std::collections::HashSet;

use super::merger::{Ids, Merger, Settings, Words};
use super::rules::Rule;
use super::vocabulary::{Kind, Vocabulary, strings};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted};

/// Ten times the longest published list.
pub(super) const MOST_MERGES: usize = 1 << 22;

/// GPT-2's spelling of bytes: printable Latin-1 stands for itself, the rest moves to U+0100 and after, in order.
const SPELLING: [char; 256] = {
    let mut table = ['\0'; 256];
    let (mut byte, mut moved) = (0, 0);
    while byte < 256 {
        table[byte] = match byte {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u8 as char,
            _ => {
                moved += 1;
                match char::from_u32(0xFF + moved) {
                    Some(c) => c,
                    None => unreachable!(),
                }
            }
        };
        byte += 1;
    }
    table
};

/// The inverse of [`SPELLING`]; the highest character is U+0143.
const SPELLED: [Option<u8>; 0x144] = {
    let mut table = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[SPELLING[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    table
};

/// A byte-level vocabulary with its merges and its way to cut words.
#[derive(Debug)]
pub(super) struct ByteLevel {
    words: Words,
    merger: Merger,
    composes: bool,
}

impl ByteLevel {
    pub(super) fn new(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        rule: &Rule,
        reason: &str,
        decisions: &mut Vec<Decision>,
    ) -> Result<Self> {
        let mut ids = Ids::with_capacity(vocabulary.len());
        for (id, text, kind) in vocabulary.iter() {
            // Special tokens are cut out of the text before this. Leaving them out here means that no word of plain
            // text can become one. Of tokens spelled alike, the first is used.
            if matches!(kind, Kind::Normal | Kind::Byte | Kind::Unused) && !text.is_empty() {
                ids.entry(text.to_owned()).or_insert(id);
            }
        }
        let merges = read_merges(metadata, vocabulary, &ids, decisions)?;
        let choice = format!("byte-level BPE with {} tokens and {} merges", vocabulary.len(), merges.len());
        decisions.push(Decision::new("tokenizer", choice, reason));
        let settings = Settings { ignores_merges: rule.ignores_merges, ..Settings::default() };
        let (words, merger) = (Words::new(rule.words)?, Merger::new(ids, merges, settings)?);
        Ok(Self { words, merger, composes: rule.composes })
    }

    /// A text as the normaliser leaves it.
    pub(super) fn normalized<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        match self.composes && !text.is_ascii() {
            true => self.words.composed(text).map(Cow::from),
            false => Ok(text.into()),
        }
    }

    /// Appends the ids of a text that holds no special tokens.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>, width: impl Fn(u32) -> usize) -> Result<()> {
        self.encode_composed(&self.normalized(text)?, ids, width)
    }

    fn encode_composed(&self, text: &str, ids: &mut Vec<u32>, width: impl Fn(u32) -> usize) -> Result<()> {
        let mut position = 0;
        for (start, end) in self.words.cut(text)? {
            if start != position {
                break;
            }
            self.encode_word(&text[start..end], ids, &width)?;
            position = end;
        }
        // Every character is part of some match, so matches end early only when the engine has given up: it does in
        // runs of about a million spaces.
        if position != text.len() {
            return Err(Error::Input(format!(
                "the text cannot be cut into words after byte {position}: shorten the run of white space there"
            )));
        }
        Ok(())
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>, width: impl Fn(u32) -> usize) -> Result<()> {
        let before = ids.len();
        self.merger.merge(&spell(word.as_bytes()), ids)?;
        // Characters that are not in the vocabulary are left out by the merger without a word.
        if ids[before..].iter().map(|&id| width(id)).sum::<usize>() != word.len() {
            return Err(Error::Model(format!("the vocabulary has no token for some byte of {word:?}")));
        }
        Ok(())
    }
}

/// Bytes as the vocabulary spells them.
pub(super) fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| SPELLING[usize::from(byte)]).collect()
}

/// The bytes that a token of this kind of vocabulary stands for. A token with characters outside the table was added to
/// the vocabulary as plain text.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    let spelled: Option<Vec<u8>> = text.chars().map(|c| SPELLED.get(c as usize).copied().flatten()).collect();
    spelled.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The merges whose parts and result are all in `ids`. The crate's builder would panic on a result longer than any
/// token, and names no index in its errors, so they are checked here.
fn read_merges(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    ids: &Ids,
    decisions: &mut Vec<Decision>,
) -> Result<Vec<(String, String)>> {
    const KEY: &str = "tokenizer.ggml.merges";
    let missing = || Error::Model(format!("a \"gpt2\" vocabulary needs {KEY}, which the file lacks"));
    let array = metadata.array(KEY)?.ok_or_else(missing)?;
    if array.len() > MOST_MERGES {
        return Err(Error::Model(format!("{KEY} lists {} merges; at most {MOST_MERGES} are allowed", array.len())));
    }
    let mut merges = Vec::with_capacity(array.len());
    let special: HashSet<&str> =
        vocabulary.iter().map(|(_, text, _)| text).filter(|&text| !ids.contains_key(text)).collect();
    let mut whole = String::new();
    let mut unreachable = 0;
    for (index, merge) in strings(array, KEY)?.enumerate() {
        let halves =
            merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '));
        let Some((left, right)) = halves else {
            let merge = quoted(merge);
            return Err(Error::Model(format!("merge {index} is {merge}, not two parts with one space between them")));
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        match [left, right, &whole].into_iter().find(|&part| !ids.contains_key(part)) {
            None => merges.push((left.to_owned(), right.to_owned())),
            // Special tokens are cut out of the text first, so nothing is left that such a merge could act on.
            Some(part) if special.contains(part) => unreachable += 1,
            Some(part) => {
                return Err(Error::Model(format!(
                    "merge {index} ({}) needs the token {}, which is missing",
                    quoted(merge),
                    quoted(part)
                )));
            }
        }
    }
    if unreachable > 0 {
        let reason = "they make or use special tokens, which are recognised before merging";
        decisions.push(Decision::new("merges", format!("{unreachable} ignored"), reason).warned());
    }
    Ok(merges)
}
