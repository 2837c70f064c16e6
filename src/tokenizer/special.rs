//! Control and user-defined tokens spelled in a text. They are cut out before the rest is split into words, leftmost
//! first and the longest where several begin at one place, as the models' own tokenizers do.

use std::ops::Range;

use super::vocabulary::{Kind, Vocabulary};

/// The tokens that are recognised as a whole, in the order of their bytes.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    sorted: Vec<Special>,
    is_first: [bool; 256], // whether a token begins with the byte
}

#[derive(Debug)]
struct Special {
    text: Box<str>,
    id: u32,
    is_control: bool,
}

/// A stretch of text as [`SpecialTokens::split`] sees it.
#[derive(Debug, PartialEq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Control(u32),
    UserDefined(u32),
}

impl SpecialTokens {
    /// Of tokens spelled alike, the first is recognised. `spell` says how a token appears in text, if it is one to look for.
    pub(super) fn new(vocabulary: &Vocabulary, spell: impl Fn(u32, &str) -> Option<String>) -> Self {
        let mut sorted: Vec<Special> = (0..vocabulary.len() as u32)
            .filter(|&id| matches!(vocabulary.kind(id), Kind::Control | Kind::UserDefined))
            .map(|id| {
                let text = vocabulary.text(id).and_then(|text| spell(id, text)).unwrap_or_default().into_boxed_str();
                Special { text, id, is_control: vocabulary.kind(id) == Kind::Control }
            })
            .filter(|special| !special.text.is_empty())
            .collect();
        sorted.sort_by(|a, b| a.text.cmp(&b.text).then(a.id.cmp(&b.id)));
        sorted.dedup_by(|later, first| later.text == first.text);
        let mut is_first = [false; 256];
        for special in &sorted {
            is_first[usize::from(special.text.as_bytes()[0])] = true;
        }
        Self { sorted, is_first }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Cuts a text into special tokens and the text between them; control tokens count as text unless `with_control`.
    pub(super) fn split<'a>(&self, text: &'a str, with_control: bool) -> impl Iterator<Item = Fragment<'a>> {
        let mut position = 0;
        let mut found: Option<(Range<usize>, &Special)> = None;
        std::iter::from_fn(move || {
            if found.is_none() {
                found = self.next_from(text, position, with_control);
            }
            let end = found.as_ref().map_or(text.len(), |(range, _)| range.start);
            if position < end {
                let between = &text[position..end];
                position = end;
                return Some(Fragment::Text(between));
            }
            let (range, special) = found.take()?;
            position = range.end;
            Some(if special.is_control { Fragment::Control(special.id) } else { Fragment::UserDefined(special.id) })
        })
    }

    fn next_from(&self, text: &str, from: usize, with_control: bool) -> Option<(Range<usize>, &Special)> {
        // A token begins with the first byte of a character and is whole characters, so its range can be sliced.
        let bytes = text.as_bytes();
        (from..bytes.len())
            .filter(|&start| self.is_first[usize::from(bytes[start])])
            .find_map(|start| self.longest_at(&bytes[start..], with_control).map(|s| (start..start + s.text.len(), s)))
    }

    /// The longest token that `bytes` begin with: narrows the sorted list byte by byte.
    fn longest_at(&self, bytes: &[u8], with_control: bool) -> Option<&Special> {
        let mut candidates = self.sorted.as_slice();
        let mut longest = None;
        for (depth, &byte) in bytes.iter().enumerate() {
            // All candidates share the bytes before `depth`; one that ends there is first and sorts as smaller.
            let key = |special: &Special| special.text.as_bytes().get(depth).copied();
            let low = candidates.partition_point(|special| key(special) < Some(byte));
            let high = candidates.partition_point(|special| key(special) <= Some(byte));
            candidates = &candidates[low..high];
            let Some(first) = candidates.first() else { break };
            if first.text.len() == depth + 1 && (with_control || !first.is_control) {
                longest = Some(first);
            }
        }
        longest
    }
}
