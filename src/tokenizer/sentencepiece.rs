//! SentencePiece's byte-pair encoding, `tokenizer.ggml.model` = "llama": no merges, but a score for each token. The
//! whole text starts as single characters; the neighbours whose union is the token of highest score are joined,
//! leftmost first, until no union is a token. Joining by score directly, as SentencePiece does, rather than by a list
//! of merges made from the scores, keeps ties between several ways to make one token where the model's training had
//! them.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::vocabulary::{Kind, Vocabulary, byte_spelled, one_per_token};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted};

/// U+2581, which stands for a space in the vocabulary.
const SPACE: &str = "▁";

/// A vocabulary with scores.
#[derive(Debug)]
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, Piece>,
    longest_piece_bytes: usize,
    bytes: Vec<Option<u32>>, // [256]: the token of each byte
    unknown: Option<u32>,
    adds_space: bool,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    id: u32,
    score: f32,
    is_unused: bool, // may be passed through on the way to another piece, but does not come out
}

/// A stretch of the text, linked to its neighbours; empty once it was joined to the one before it.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could be joined. Ordered by score, then by place; the scores hold no NaN and no −0.
struct Union {
    score: f32,
    left: usize,
    right: usize,
    bytes: usize, // of both; if it is no longer so, one of them has changed
}

impl SentencePiece {
    pub(super) fn new(metadata: &Metadata, vocabulary: &Vocabulary, decisions: &mut Vec<Decision>) -> Result<Self> {
        const KEY: &str = "tokenizer.ggml.scores";
        let missing = || Error::Model(format!("a \"llama\" vocabulary needs numbers in {KEY}, which the file lacks"));
        let array = metadata.array(KEY)?.ok_or_else(missing)?;
        one_per_token(array, KEY, vocabulary.len())?;
        let mut pieces: HashMap<Box<str>, Piece> = HashMap::with_capacity(vocabulary.len());
        let mut bytes = vec![None; 256];
        let mut unknown = vocabulary.id(metadata, "tokenizer.ggml.unknown_token_id")?;
        for ((id, text, kind), score) in vocabulary.iter().zip(array.floats().ok_or_else(missing)?) {
            if score.is_nan() {
                return Err(Error::Model(format!("{KEY} of token {id} is not a number")));
            }
            match kind {
                Kind::Normal | Kind::Unused => {
                    // Adding 0 makes a zero of −0. Of tokens spelled alike, the first is used.
                    let piece = Piece { id, score: score as f32 + 0.0, is_unused: kind == Kind::Unused };
                    pieces.entry(Box::from(text)).or_insert(piece);
                }
                Kind::Byte => {
                    let wrong = || Error::Model(format!("token {id} is typed as a byte, but spelled {}", quoted(text)));
                    bytes[usize::from(byte_spelled(text).ok_or_else(wrong)?)].get_or_insert(id);
                }
                Kind::Unknown => unknown = unknown.or(Some(id)),
                // Cut out of the text before this.
                Kind::Control | Kind::UserDefined => {}
            }
        }
        let adds_space = metadata.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let choice = format!("SentencePiece BPE with {} tokens", vocabulary.len());
        decisions.push(Decision::new("tokenizer", choice, "tokenizer.ggml.model is \"llama\""));
        let longest_piece_bytes = pieces.keys().map(|text| text.len()).max().unwrap_or(0);
        Ok(Self { pieces, longest_piece_bytes, bytes, unknown, adds_space })
    }

    pub(super) fn adds_space(&self) -> bool {
        self.adds_space
    }

    /// Appends the ids of a text that holds no special tokens; `at_start`, a space is put before it.
    pub(super) fn encode(&self, text: &str, at_start: bool, ids: &mut Vec<u32>) -> Result<()> {
        let prefix = if at_start && self.adds_space { SPACE } else { "" };
        let text = prefix.to_owned() + &text.replace(' ', SPACE);
        let (symbols, passed) = self.join(&text);
        let mut follows_unknown = false;
        // Symbols are in the order of the text, so the links are not needed to walk them.
        for symbol in symbols.iter().filter(|symbol| symbol.start < symbol.end) {
            // An unused piece is taken apart again, the way it was put together.
            let mut parts = vec![&text[symbol.start..symbol.end]];
            while let Some(part) = parts.pop() {
                let piece = self.pieces.get(part);
                match (piece, passed.get(part)) {
                    (Some(piece), Some(&middle)) if piece.is_unused => {
                        let (left, right) = part.split_at(middle);
                        parts.extend([right, left]);
                    }
                    (Some(piece), _) => {
                        ids.push(piece.id);
                        follows_unknown = false;
                    }
                    (None, _) => follows_unknown = self.encode_unknown(part, follows_unknown, ids)?,
                }
            }
        }
        Ok(())
    }

    /// A character that is no piece: its bytes, or else the unknown token, once for a run of such characters. Returns
    /// whether it was the latter.
    fn encode_unknown(&self, character: &str, follows_unknown: bool, ids: &mut Vec<u32>) -> Result<bool> {
        let bytes: Option<Vec<u32>> = character.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        match (bytes, self.unknown) {
            (Some(bytes), _) => {
                ids.extend(bytes);
                Ok(false)
            }
            (None, Some(unknown)) => {
                ids.extend((!follows_unknown).then_some(unknown));
                Ok(true)
            }
            (None, None) => Err(Error::Model(format!("the vocabulary has no token for {character:?}"))),
        }
    }

    /// Joins neighbours until none can be joined. Also tells, of each unused piece met, after how many bytes it was put
    /// together.
    fn join<'a>(&self, text: &'a str) -> (Vec<Symbol>, HashMap<&'a str, usize>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, character) in text.char_indices() {
            let index = symbols.len();
            let end = start + character.len_utf8();
            let next = (end < text.len()).then_some(index + 1);
            symbols.push(Symbol { start, end, previous: index.checked_sub(1), next });
        }
        let mut unions = BinaryHeap::new();
        let mut passed = HashMap::new();
        for right in 1..symbols.len() {
            unions.extend(self.union(text, &symbols, right - 1, right, &mut passed));
        }
        while let Some(Union { left, right, bytes, .. }) = unions.pop() {
            let (start, middle, end) = (symbols[left].start, symbols[right].start, symbols[right].end);
            let is_stale = start == symbols[left].end || middle == end || end - start != bytes;
            if is_stale {
                continue;
            }
            let next = symbols[right].next;
            symbols[left].end = end;
            symbols[left].next = next;
            symbols[right].end = middle; // empty from here on
            if let Some(next) = next {
                symbols[next].previous = Some(left);
                unions.extend(self.union(text, &symbols, left, next, &mut passed));
            }
            if let Some(previous) = symbols[left].previous {
                unions.extend(self.union(text, &symbols, previous, left, &mut passed));
            }
        }
        (symbols, passed)
    }

    fn union<'a>(
        &self,
        text: &'a str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        passed: &mut HashMap<&'a str, usize>,
    ) -> Option<Union> {
        let whole = &text[symbols[left].start..symbols[right].end];
        if whole.len() > self.longest_piece_bytes {
            return None;
        }
        let piece = self.pieces.get(whole)?;
        if piece.is_unused {
            passed.insert(whole, symbols[left].end - symbols[left].start);
        }
        Some(Union { score: piece.score, left, right, bytes: whole.len() })
    }
}

/// How a token of this kind of vocabulary appears in text.
pub(super) fn spell(text: &str) -> String {
    text.replace(SPACE, " ")
}

impl Ord for Union {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Union {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Union {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Union {}
