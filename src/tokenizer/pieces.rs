//! SentencePiece's vocabulary with merges, as a tokenizer.json has it: a stretch of text is one long word of characters,
//! spaces spelled as U+2581, and merges put them together in the order of the list. Characters that are no token become
//! their bytes (`<0xE6>`). The merging is the `tokenizers` crate's ([`super::merger`]), so that the ids are those of the
//! models' authors, ties included.

use std::borrow::Cow;
use std::collections::HashSet;

use super::merger::{Ids, Merger, Settings};
use super::vocabulary::{Kind, Vocabulary};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::quoted;

/// U+2581, which stands for a space in the vocabulary.
pub(super) const SPACE: char = '▁';

/// What a tokenizer.json says of such a vocabulary.
#[derive(Debug)]
pub(super) struct Merges {
    pub(super) merges: Vec<(String, String)>,
    pub(super) unknown: Option<String>,
    pub(super) fuses_unknown: bool,
    pub(super) falls_back_to_bytes: bool,
    pub(super) ignores_merges: bool,
    pub(super) space: Space,
    /// Words begin at spaces and are merged each for itself.
    pub(super) splits: bool,
    /// Spaces are spelled by the normaliser, so that tokens which are looked for behind it are spelled so too.
    pub(super) normalizes: bool,
}

/// Where a space is put before text, so that a word is the same token at the beginning and within a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// Nowhere.
    Never,
    /// Before each stretch between special tokens, also where it begins with a space.
    Always,
    /// Before each stretch that does not begin with a space.
    WhereMissing,
    /// Before a text that begins neither with a space nor with a special token.
    First,
}

/// A vocabulary with merges.
#[derive(Debug)]
pub(super) struct Pieces {
    merger: Merger,
    has_unknown: bool,
    space: Space,
    splits: bool,
    normalizes: bool,
}

impl Pieces {
    pub(super) fn new(
        merges: Merges,
        vocabulary: &Vocabulary,
        reason: &str,
        decisions: &mut Vec<Decision>,
    ) -> Result<Self> {
        let mut ids = Ids::with_capacity(vocabulary.len());
        for (id, text, kind) in vocabulary.iter() {
            // As the byte-level vocabulary: special tokens are cut out of the text before, but the unknown one comes out.
            let is_special = matches!(kind, Kind::Control | Kind::UserDefined);
            if !text.is_empty() && (!is_special || merges.unknown.as_deref() == Some(text)) {
                ids.entry(text.to_owned()).or_insert(id);
            }
        }
        let all = merges.merges.len();
        let special: HashSet<&str> =
            vocabulary.iter().map(|(_, text, _)| text).filter(|&text| !ids.contains_key(text)).collect();
        let mut usable = Vec::with_capacity(all);
        for (index, (left, right)) in merges.merges.into_iter().enumerate() {
            let whole = format!("{left}{right}");
            let missing = [&left, &right, &whole].into_iter().find(|part| !ids.contains_key(part.as_str()));
            if missing.is_none() {
                usable.push((left, right));
            } else if let Some(part) = missing.filter(|part| !special.contains(part.as_str())) {
                let part = quoted(part);
                return Err(Error::Model(format!("merge {index} needs the token {part}, which is missing")));
            }
        }
        if usable.len() < all {
            let reason = "they make or use special tokens, which are recognised before merging";
            decisions.push(Decision::new("merges", format!("{} ignored", all - usable.len()), reason).warned());
        }
        let has_unknown = match &merges.unknown {
            Some(text) if !ids.contains_key(text.as_str()) => {
                return Err(Error::Model(format!("the unknown token {} is not in the vocabulary", quoted(text))));
            }
            unknown => unknown.is_some(),
        };
        let choice = format!("SentencePiece BPE with {} tokens and {} merges", vocabulary.len(), usable.len());
        decisions.push(Decision::new("tokenizer", choice, reason));
        let settings = Settings {
            unknown: merges.unknown,
            fuses_unknown: merges.fuses_unknown,
            falls_back_to_bytes: merges.falls_back_to_bytes,
            ignores_merges: merges.ignores_merges,
        };
        let merger = Merger::new(ids, usable, settings)?;
        let Merges { space, splits, normalizes, .. } = merges;
        Ok(Self { merger, has_unknown, space, splits, normalizes })
    }

    pub(super) fn adds_space(&self) -> bool {
        self.space != Space::Never
    }

    /// Appends the ids of a stretch of text without special tokens; `is_first` if the text begins with it.
    pub(super) fn encode(&self, stretch: &str, is_first: bool, ids: &mut Vec<u32>) -> Result<()> {
        self.encode_spelled(&self.spell(stretch, is_first), ids)
    }

    /// A stretch as the normaliser leaves it, and whether that is how it is merged.
    pub(super) fn normalized<'a>(&self, stretch: &'a str) -> (Cow<'a, str>, bool) {
        match self.normalizes {
            true => (self.spell(stretch, false).into(), true),
            false => (stretch.into(), false),
        }
    }

    /// A stretch as it is merged.
    fn spell(&self, stretch: &str, is_first: bool) -> String {
        let mut text = String::with_capacity(stretch.len() + SPACE.len_utf8());
        let has_space = stretch.starts_with([' ', SPACE]);
        let adds = match self.space {
            Space::Never => false,
            Space::Always => true,
            Space::WhereMissing => !has_space,
            Space::First => is_first && !has_space,
        };
        text.extend(adds.then_some(SPACE));
        text.extend(stretch.chars().map(|c| if c == ' ' { SPACE } else { c }));
        text
    }

    /// Appends the ids of a stretch that is spelled as it is merged.
    pub(super) fn encode_spelled(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if !self.splits {
            return self.encode_word(text, ids);
        }
        let mut start = 0;
        for (at, _) in text.match_indices(SPACE).filter(|&(at, _)| at > 0) {
            self.encode_word(&text[start..at], ids)?;
            start = at;
        }
        self.encode_word(&text[start..], ids)
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<()> {
        let covered = self.merger.merge(word, ids)?;
        // Characters that are not in the vocabulary are left out by the merger without a word, if there is no token for
        // them; what comes out must cover the text.
        if covered != word.len() && !self.has_unknown {
            return Err(Error::Model(format!("the vocabulary has no token for some character of {}", quoted(word))));
        }
        Ok(())
    }
}
