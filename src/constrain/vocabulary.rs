//! The vocabulary as the grammars see it: the bytes of each token, which tokens end a generation, and which are written by
//! their number as they have no bytes.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Longer tokens never follow in a constrained answer: the trie counts its levels in 10 bits. They are runs of spaces.
const LONGEST_TOKEN_BYTES: usize = 256;
/// All tokens together; the trie counts its nodes in 22 bits. The largest published vocabularies have half of it.
const MOST_BYTES: usize = (1 << 22) - 2;
/// Of tokens spelled alike, so many may follow: a letter and the byte of that letter, say. The trie looks through them in turn.
const MOST_ALIKE: usize = 8;
/// Begins what is not text in the grammars' bytes; no text has it.
const NOT_TEXT: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The tokens of a model.
pub(super) struct Vocabulary {
    pub(super) environment: TokEnv,
    /// Tokens that end a generation, ascending.
    pub(super) ends: Vec<u32>,
    /// Tokens of spaces and line breaks alone, with their bytes.
    pub(super) blanks: Vec<(u32, usize)>,
    controls: HashMap<u32, Box<str>>, // those without bytes, as the vocabulary spells them
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let ends = tokenizer.end_of_generation().to_vec();
        let Some(&end) = ends.first() else {
            return Err(Error::Unsupported(
                "a constraint for a vocabulary in which no token ends a generation: its answers could not end".into(),
            ));
        };
        let size = tokenizer.vocabulary_size() as u32;
        let mut alike: HashMap<&[u8], usize> = HashMap::with_capacity(size as usize);
        let mut words = Vec::with_capacity(size as usize);
        for id in 0..size {
            let bytes = tokenizer.token_bytes(id);
            let can_follow =
                bytes.len() <= LONGEST_TOKEN_BYTES && bytes.first() != Some(&NOT_TEXT) && !ends.contains(&id);
            let before = alike.entry(bytes).or_default();
            *before += 1;
            words.push(if can_follow && *before <= MOST_ALIKE { bytes.to_vec() } else { Vec::new() });
        }
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > MOST_BYTES {
            return Err(Error::Unsupported(format!(
                "a constraint for a vocabulary whose tokens have {bytes} bytes together; at most {MOST_BYTES}"
            )));
        }
        let is_blank = |word: &[u8]| !word.is_empty() && word.iter().all(|byte| b" \t\n\r".contains(byte));
        let blanks =
            (0..size).zip(&words).filter(|(_, word)| is_blank(word)).map(|(id, word)| (id, word.len())).collect();
        let has_bytes = |id: u32| !tokenizer.token_bytes(id).is_empty();
        let control = |id: u32| tokenizer.token_text(id).map(|text| (id, Box::from(text)));
        let controls = (0..size).filter(|&id| !has_bytes(id)).filter_map(control).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(&ends);
        Ok(Self { environment: Arc::new(ApproximateTokEnv::new(trie)), ends, blanks, controls })
    }

    pub(super) fn trie(&self) -> &TokTrie {
        self.environment.tok_trie()
    }

    /// The text that a token stands for: its bytes, or of a control token what the vocabulary calls it.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        match self.controls.get(&id) {
            Some(text) => text.as_bytes(),
            None if id < self.trie().vocab_size() as u32 => self.trie().token(id),
            None => &[],
        }
    }

    /// A tag in a grammar: the control token of that name, or the text.
    pub(super) fn spelled(&self, tag: &str) -> String {
        let named = self.controls.iter().filter(|(_, text)| ***text == *tag).map(|(id, _)| id);
        match named.min() {
            Some(id) => format!("<[{id}]>"),
            None => Value::from(tag).to_string(),
        }
    }
}
