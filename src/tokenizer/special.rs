//! Control and user-defined tokens spelled in a text. They are cut out before the rest is split into words, leftmost
//! first and the longest where several begin at one place, as the models' own tokenizers do.
//!
//! The text is read once, from its end: what begins at a place is then what was read last, so that a trie of the reversed
//! tokens, whose nodes know the longest shorter path that ends alike (Aho and Corasick, CACM 18, 1975), tells the longest
//! token of each place in time proportional to the text, whatever the tokens are.

use std::collections::HashSet;

use super::vocabulary::{Kind, Vocabulary};
use crate::error::{Error, Result};

/// The tokens that are recognised as a whole.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    tokens: Vec<Special>, // in the order of their reversed bytes
    trie: Trie,
    beginnings: HashSet<u64>, // hashes of what control tokens begin with and are more than
    longest: usize,           // bytes of the longest control token
}

#[derive(Debug)]
struct Special {
    bytes: usize,
    id: u32,
    is_control: bool,
}

/// Reversed tokens, node by node as they are reached from the root, the first: the children of a node lie side by side, in
/// the order of their bytes.
#[derive(Debug, Default)]
struct Trie {
    bytes: Vec<u8>,         // [nodes], that lead there
    children: Vec<u32>,     // [nodes + 1], the first child; the next node's first is the end
    shorter: Vec<u32>,      // [nodes], the deepest other node whose path is an end of this one's
    longest: [Vec<u32>; 2], // [nodes], the longest token that is an end of the path: of all, and of the user-defined
}

/// Bytes of a beginning that is looked for at the end of a text; no known token is longer.
const MOST_BEGINNING: usize = 256;
/// The offset and the prime of the hash of Fowler, Noll and Vo (FNV-1a).
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

fn hash_on(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(FNV.1)
}

/// No token.
const NONE: u32 = u32::MAX;

/// A stretch of text as [`SpecialTokens::split`] sees it.
#[derive(Debug, PartialEq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Control(u32),
    UserDefined(u32),
}

impl SpecialTokens {
    /// Of tokens spelled alike, the first is recognised. `spell` says how a token appears in text, if it is one to look for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for tokens of more than 4 GiB together.
    pub(super) fn new(vocabulary: &Vocabulary, spell: impl Fn(u32, &str) -> Option<String>) -> Result<Self> {
        let is_special = |id: &u32| matches!(vocabulary.kind(*id), Kind::Control | Kind::UserDefined);
        let reversed = |id: u32| {
            let mut text = vocabulary.text(id).and_then(|text| spell(id, text)).unwrap_or_default().into_bytes();
            text.reverse();
            (text.into_boxed_slice(), id)
        };
        let ids = (0..vocabulary.len() as u32).filter(is_special);
        let mut sorted: Vec<(Box<[u8]>, u32)> = ids.map(reversed).filter(|(text, _)| !text.is_empty()).collect();
        sorted.sort_unstable();
        sorted.dedup_by(|later, first| later.0 == first.0);
        let bytes: usize = sorted.iter().map(|(text, _)| text.len()).sum();
        if bytes >= NONE as usize {
            return Err(Error::Unsupported(format!(
                "special tokens of {bytes} bytes together; at most {NONE} are read"
            )));
        }
        let is_control = |id: u32| vocabulary.kind(id) == Kind::Control;
        let trie = Trie::new(&sorted, |token| is_control(sorted[token].1));
        let (mut beginnings, mut longest) = (HashSet::new(), 0);
        for (reversed, _) in sorted.iter().filter(|(_, id)| is_control(*id)) {
            longest = longest.max(reversed.len());
            let hashes = reversed.iter().rev().scan(FNV.0, |hash, &byte| {
                *hash = hash_on(*hash, byte);
                Some(*hash)
            });
            beginnings.extend(hashes.take(reversed.len() - 1));
        }
        let special = |(text, id): (Box<[u8]>, u32)| Special { bytes: text.len(), id, is_control: is_control(id) };
        Ok(Self { tokens: sorted.into_iter().map(special).collect(), trie, beginnings, longest })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Cuts a text into special tokens and the text between them; control tokens count as text unless `with_control`.
    pub(super) fn split<'a>(&self, text: &'a str, with_control: bool) -> impl Iterator<Item = Fragment<'a>> {
        let mut position = 0;
        let mut places = self.places(text, with_control);
        std::iter::from_fn(move || {
            while places.last().is_some_and(|(start, _)| *start < position) {
                places.pop(); // begins within the token before
            }
            // A token begins with the first byte of a character and is whole characters, so its range can be sliced.
            let end = places.last().map_or(text.len(), |(start, _)| *start);
            if position < end {
                let between = &text[position..end];
                position = end;
                return Some(Fragment::Text(between));
            }
            let (_, special) = places.pop()?;
            position += special.bytes;
            Some(if special.is_control { Fragment::Control(special.id) } else { Fragment::UserDefined(special.id) })
        })
    }

    /// Whether a text ends in what a control token begins with, so that what comes behind it could complete one. (It may say so
    /// of a text that does not: it compares hashes.)
    pub(super) fn is_begun_by(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let most = self.longest.min(MOST_BEGINNING).min(bytes.len());
        let hash = |end: &[u8]| end.iter().fold(FNV.0, |hash, &byte| hash_on(hash, byte));
        (1..=most).any(|length| self.beginnings.contains(&hash(&bytes[bytes.len() - length..])))
    }

    /// Where control tokens begin, also within others.
    pub(super) fn control_places(&self, text: &str) -> Vec<usize> {
        let places = self.places(text, true).into_iter();
        places.filter(|(_, special)| special.is_control).map(|(start, _)| start).collect()
    }

    /// Where tokens begin, the last first, and the longest of each place.
    fn places(&self, text: &str, with_control: bool) -> Vec<(usize, &Special)> {
        let longest = &self.trie.longest[usize::from(!with_control)];
        let (mut node, mut places) = (0, Vec::new());
        if self.tokens.is_empty() {
            return places;
        }
        for (start, &byte) in text.as_bytes().iter().enumerate().rev() {
            node = self.trie.step(node, byte);
            if longest[node] != NONE {
                places.push((start, &self.tokens[longest[node] as usize]));
            }
        }
        places
    }
}

impl Trie {
    /// Of different texts that are not empty, in their order.
    fn new(sorted: &[(Box<[u8]>, u32)], is_control: impl Fn(usize) -> bool) -> Self {
        let mut trie = Self { bytes: vec![0], shorter: vec![0], ..Self::default() };
        let mut ranges = vec![(0, sorted.len() as u32)]; // [nodes], of `sorted`, that have its path in common
        let (mut node, mut depth, mut level_end) = (0, 0, 1);
        while node < ranges.len() {
            if node == level_end {
                (depth, level_end) = (depth + 1, ranges.len());
            }
            trie.children.push(ranges.len() as u32);
            let (mut first, end) = (ranges[node].0 as usize, ranges[node].1 as usize);
            let shorter = trie.shorter[node] as usize;
            let own = (first < end && sorted[first].0.len() == depth).then_some(first); // the shortest sorts first
            for (user_defined_only, longest) in trie.longest.iter_mut().enumerate() {
                let own = own.filter(|&token| user_defined_only == 0 || !is_control(token));
                let other = longest.get(shorter).copied().unwrap_or(NONE); // the root has none
                longest.push(own.map_or(other, |token| token as u32));
            }
            first += usize::from(own.is_some());
            while first < end {
                let byte = sorted[first].0[depth];
                let count = sorted[first..end].partition_point(|(text, _)| text[depth] == byte);
                // The node that is an end of this one's path is nearer to the root, so its children are there.
                let shorter = if node == 0 { 0 } else { trie.step(shorter, byte) as u32 };
                trie.shorter.push(shorter);
                trie.bytes.push(byte);
                ranges.push((first as u32, (first + count) as u32));
                first += count;
            }
            node += 1;
        }
        trie.children.push(ranges.len() as u32);
        trie
    }

    /// The node of the longest path that is an end of this one's and the byte after it.
    fn step(&self, mut node: usize, byte: u8) -> usize {
        loop {
            let children = self.children[node] as usize..self.children[node + 1] as usize;
            match self.bytes[children.clone()].binary_search(&byte) {
                Ok(place) => return children.start + place,
                Err(_) if node == 0 => return 0,
                Err(_) => node = self.shorter[node] as usize,
            }
        }
    }
}
