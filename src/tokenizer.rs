//! Text to token ids and back, from the tokenizer that a GGUF file carries or that lies beside safetensors weights
//! (`tokenizer.json`). Two kinds of vocabulary are known: byte-level BPE, which all recent families use, and
//! SentencePiece's, with scores or with merges. Ids stand for bytes rather than text, because a
//! character may span several tokens; [`TextStream`] puts characters together as tokens arrive.
//!
//! Without the crate's feature `text`, vocabularies with merges (byte-level BPE, and those of a `tokenizer.json`) turn ids into
//! text only; [`Tokenizer::encode`] and its kin are an [`Error::Unsupported`] for them.

use std::borrow::Cow;
use std::path::Path;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted, within};

mod byte_level;
#[cfg(feature = "chat")]
mod guarded;
mod json;
mod merger;
mod pieces;
mod rules;
mod sentencepiece;
#[cfg_attr(not(feature = "chat"), expect(dead_code, reason = "nothing is guarded"))]
mod special;
mod stream;
#[cfg(all(test, feature = "text"))]
mod tests;
mod vocabulary;

use byte_level::ByteLevel;
use json::Exact;
pub(crate) use json::chat_template;
use pieces::Pieces;
use sentencepiece::SentencePiece;
use special::{Fragment, SpecialTokens};
pub use stream::TextStream;
use vocabulary::{Kind, Vocabulary};

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    bytes: Vec<Box<[u8]>>, // by id; empty for tokens that are not text
    special: SpecialTokens,
    late: SpecialTokens, // looked for in what those leave of a text, once it is normalised
    algorithm: Algorithm,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    ends: Vec<u32>, // sorted
}

#[derive(Debug)]
enum Algorithm {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(SentencePiece),
    Pieces(Box<Pieces>),
}

impl Algorithm {
    /// A text as it is before it is cut into words; empty where it cannot be normalised, as then no text becomes ids.
    fn normalized(&self, text: &str) -> String {
        match self {
            Self::ByteLevel(words) => words.normalized(text).map(Cow::into_owned).unwrap_or_default(),
            Self::SentencePiece(_) => text.to_owned(),
            Self::Pieces(pieces) => pieces.normalized(text).0.into_owned(),
        }
    }
}

impl Tokenizer {
    /// Builds the tokenizer from the `tokenizer.ggml.*` keys of a GGUF file. Returns with it what was decided where the
    /// file left a choice; decisions that a sound file would not have needed are also logged as warnings.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the kind of vocabulary or the pre-tokenizer is unknown; [`Error::Model`] if keys are
    /// missing or do not fit together.
    pub fn from_gguf(metadata: &Metadata) -> Result<(Self, Vec<Decision>)> {
        Self::build(metadata, None)
    }

    /// Builds the tokenizer from the files of a directory in Hugging Face form: `tokenizer.json`, which must be there, and
    /// what `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json` and `config.json` say of the
    /// tokens that begin and end a text. Its ids are those of the `tokenizers` library with the same file.
    ///
    /// # Errors
    /// [`Error::Io`] if `tokenizer.json` is not there, [`Error::Malformed`] if a file is no JSON of the known form, otherwise
    /// as [`Tokenizer::from_gguf`].
    pub fn from_directory(directory: &Path) -> Result<(Self, Vec<Decision>)> {
        Self::read_directory(directory).map(|(tokenizer, _, decisions)| (tokenizer, decisions))
    }

    /// [`Tokenizer::from_directory`], with the keys that a GGUF file of the tokenizer has.
    pub(crate) fn read_directory(directory: &Path) -> Result<(Self, Metadata, Vec<Decision>)> {
        let (metadata, exact) = json::read(directory)?;
        match Self::build(&metadata, Some(exact)) {
            Ok((tokenizer, decisions)) => Ok((tokenizer, metadata, decisions)),
            Err(error) => Err(within(directory.join(json::FILE).display(), error)),
        }
    }

    /// `exact` is what a tokenizer.json says and GGUF has no keys for.
    fn build(metadata: &Metadata, exact: Option<Exact>) -> Result<(Self, Vec<Decision>)> {
        const MODEL: &str = "tokenizer.ggml.model";
        let missing = || Error::Model(format!("the file has no tokenizer ({MODEL})"));
        let mut decisions = Vec::new();
        let is_byte_level = match metadata.string(MODEL)?.ok_or_else(missing)? {
            "gpt2" => true,
            "llama" => false,
            other => {
                let other = quoted(other);
                return Err(Error::Unsupported(format!("the tokenizer {other} ({MODEL}); known are gpt2, llama")));
            }
        };
        let mut vocabulary = Vocabulary::read(metadata, &mut decisions)?;
        let more_ends = exact.as_ref().map_or(&[][..], |exact| &exact.ends);
        let ends = vocabulary.ends(metadata, more_ends, &mut decisions)?;
        let mut bos = vocabulary.id(metadata, "tokenizer.ggml.bos_token_id")?;
        let mut eos = vocabulary.id(metadata, "tokenizer.ggml.eos_token_id")?;
        // A tokenizer.json spells special tokens as they appear in text.
        let is_spelled = is_byte_level || exact.is_some();
        let spell = |text: &str| if is_spelled { text.to_owned() } else { sentencepiece::spell(text) };
        let late = exact.as_ref().map_or_else(Vec::new, |exact| exact.late.clone());
        let is_late = |id: u32| late.binary_search(&id).is_ok();
        let special = SpecialTokens::new(&vocabulary, |id, text| (!is_late(id)).then(|| spell(text)))?;
        let bos_reason = exact.as_ref().map(|exact| exact.bos_reason.clone());
        let (algorithm, adds_bos_by_default) = match exact {
            Some(Exact { way: json::Way::Words(rule), model_reason, .. }) => {
                let byte_level = ByteLevel::new(metadata, &vocabulary, &rule, &model_reason, &mut decisions)?;
                (Algorithm::ByteLevel(Box::new(byte_level)), false)
            }
            Some(Exact { way: json::Way::Pieces(merges), model_reason, .. }) => {
                let pieces = Pieces::new(merges, &vocabulary, &model_reason, &mut decisions)?;
                (Algorithm::Pieces(Box::new(pieces)), false)
            }
            None if is_byte_level => {
                let (rule, decision) = rules::choose(metadata, vocabulary.len())?;
                decisions.push(decision);
                let reason = "tokenizer.ggml.model is \"gpt2\"";
                let byte_level = ByteLevel::new(metadata, &vocabulary, rule, reason, &mut decisions)?;
                (Algorithm::ByteLevel(Box::new(byte_level)), rule.adds_bos)
            }
            None => {
                // Where the keys are missing, SentencePiece's own places for these tokens hold.
                bos = bos.or_else(|| (vocabulary.text(1) == Some("<s>")).then_some(1));
                eos = eos.or_else(|| (vocabulary.text(2) == Some("</s>")).then_some(2));
                (Algorithm::SentencePiece(SentencePiece::new(metadata, &vocabulary, &mut decisions)?), true)
            }
        };
        let late = SpecialTokens::new(&vocabulary, |id, text| is_late(id).then(|| algorithm.normalized(text)))?;
        if cfg!(not(feature = "text")) && !matches!(algorithm, Algorithm::SentencePiece(_)) {
            let why = "this vocabulary has merges, and the library was built without the feature `text`";
            decisions.push(Decision::new("text", "ids become text, but no text becomes ids", why));
        }
        let adds_bos = decide_bos(metadata, bos, adds_bos_by_default, bos_reason, &mut decisions)?;
        let bytes = vocabulary.iter().map(|(_, text, kind)| token_bytes(text, kind, is_byte_level)).collect();
        Ok((Self { vocabulary, bytes, special, late, algorithm, bos, eos, adds_bos, ends }, decisions))
    }

    /// The ids of a text. Special tokens spelled in it are recognised, so it must be trusted: a template, or text whose
    /// author may end turns. BOS is not added.
    ///
    /// # Errors
    /// [`Error::Model`] if the vocabulary has no token for a part of the text; [`Error::Input`] if the text cannot be
    /// cut into words (a run of about a million spaces); [`Error::Unsupported`] if the vocabulary has merges and the
    /// library was built without the feature `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_fragments(text, true, None)
    }

    /// The ids of a text that is only text: control tokens spelled in it do not come out as such. User-defined tokens,
    /// which carry text rather than command, are still recognised.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_fragments(text, false, None)
    }

    /// The ids of a whole prompt: as [`encode`](Self::encode), after BOS if the model wants one and the text does not
    /// begin with it already.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.after_bos(self.encode(text)?))
    }

    /// The ids after BOS, if the model wants one and they do not begin with it already.
    fn after_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.bos.filter(|bos| self.adds_bos && ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        ids
    }

    /// The text of ids, as the inverse of [`encode`](Self::encode): control and unknown tokens and ids out of range are
    /// left out, invalid UTF-8 becomes U+FFFD, and the space that SentencePiece puts before a text is removed. For text
    /// that continues another, feed [`token_bytes`](Self::token_bytes) to a [`TextStream`].
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id)).copied().collect();
        let added_space = match &self.algorithm {
            Algorithm::ByteLevel(_) => false,
            Algorithm::SentencePiece(pieces) => pieces.adds_space(),
            Algorithm::Pieces(pieces) => pieces.adds_space(),
        };
        let text = bytes.strip_prefix(b" ").filter(|_| added_space).unwrap_or(&bytes);
        String::from_utf8_lossy(text).into_owned()
    }

    /// The bytes that a token stands for: none for control and unknown tokens and ids out of
    /// range.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// A token as the vocabulary spells it.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocabulary.text(id)
    }

    /// The number of tokens.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The number of tokens but for the last ones that only fill the rows of an embedding, and mean nothing.
    pub(crate) fn used_size(&self) -> usize {
        self.vocabulary.used()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text. Generation stops at any of [`end_of_generation`](Self::end_of_generation).
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether [`encode_prompt`](Self::encode_prompt) puts BOS first.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Whether the token ends a turn or a text.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// The tokens that end a turn or a text, sorted: those that the file's keys name, and those that are spelled like
    /// the end tokens of known families.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.ends
    }

    /// `mark` is what [`guarded`](Self::guarded) put in: it is left out where text becomes ids.
    fn encode_fragments(&self, text: &str, with_control: bool, mark: Option<char>) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        let (mut is_first, mut at_start) = (true, true);
        for fragment in self.special.split(text, with_control) {
            match fragment {
                Fragment::Text(stretch) => {
                    let unmarked = mark.filter(|mark| stretch.contains(*mark)).map(|mark| stretch.replace(mark, ""));
                    let (stretch, is_guarded) = (unmarked.as_deref().unwrap_or(stretch), unmarked.is_some());
                    match &self.algorithm {
                        _ if !self.late.is_empty() => {
                            self.encode_normalized(stretch, with_control && !is_guarded, is_first, &mut ids)?;
                        }
                        Algorithm::ByteLevel(words) => {
                            words.encode(stretch, &mut ids, |id| self.token_bytes(id).len())?;
                        }
                        Algorithm::SentencePiece(pieces) => pieces.encode(stretch, at_start, &mut ids)?,
                        Algorithm::Pieces(pieces) => pieces.encode(stretch, is_first, &mut ids)?,
                    }
                }
                Fragment::UserDefined(id) => {
                    // They are words of the text, so the space that SentencePiece puts before a text stands before them too.
                    if let Algorithm::SentencePiece(pieces) = &self.algorithm {
                        pieces.encode("", at_start, &mut ids)?;
                    }
                    ids.push(id);
                }
                Fragment::Control(id) => ids.push(id),
            }
            (is_first, at_start) = (false, matches!(fragment, Fragment::Control(_)));
        }
        Ok(ids)
    }

    /// Appends the ids of a stretch in which special tokens are looked for once it is normalised. What is put before a text is
    /// part of that: a token that begins a word is looked for with its space, and none is put behind one.
    fn encode_normalized(&self, stretch: &str, with_control: bool, is_first: bool, ids: &mut Vec<u32>) -> Result<()> {
        let (text, is_spelled) = match &self.algorithm {
            Algorithm::ByteLevel(words) => (words.normalized(stretch)?, true),
            Algorithm::SentencePiece(_) => (stretch.into(), true),
            Algorithm::Pieces(pieces) => pieces.normalized(stretch),
        };
        let mut is_first = is_first;
        for fragment in self.late.split(&text, with_control) {
            match (fragment, &self.algorithm) {
                (Fragment::UserDefined(id) | Fragment::Control(id), _) => ids.push(id),
                (Fragment::Text(text), Algorithm::ByteLevel(words)) => {
                    words.encode(text, ids, |id| self.token_bytes(id).len())?;
                }
                (Fragment::Text(text), Algorithm::SentencePiece(pieces)) => pieces.encode(text, is_first, ids)?,
                (Fragment::Text(text), Algorithm::Pieces(pieces)) if is_spelled => pieces.encode_spelled(text, ids)?,
                (Fragment::Text(text), Algorithm::Pieces(pieces)) => pieces.encode(text, is_first, ids)?,
            }
            is_first = false;
        }
        Ok(())
    }
}

fn token_bytes(text: &str, kind: Kind, is_byte_level: bool) -> Box<[u8]> {
    let bytes = match kind {
        Kind::Control | Kind::Unknown => Vec::new(),
        // Files spell the tokens that were added to a byte-level vocabulary as plain text.
        Kind::UserDefined if is_byte_level => text.as_bytes().to_vec(),
        Kind::Normal | Kind::Unused | Kind::Byte if is_byte_level => byte_level::bytes(text),
        Kind::Byte => vocabulary::byte_spelled(text).into_iter().collect(),
        Kind::Normal | Kind::Unused | Kind::UserDefined => sentencepiece::spell(text).into_bytes(),
    };
    bytes.into_boxed_slice()
}

fn decide_bos(
    metadata: &Metadata,
    bos: Option<u32>,
    default: bool,
    reason: Option<String>,
    decisions: &mut Vec<Decision>,
) -> Result<bool> {
    const KEY: &str = "tokenizer.ggml.add_bos_token";
    let declared = metadata.boolean(KEY)?;
    let wanted = declared.unwrap_or(default);
    let source = match (reason, declared) {
        (Some(reason), _) => reason,
        (None, Some(_)) => format!("{KEY} says so"),
        (None, None) => "usual for this tokenizer".to_owned(),
    };
    let decision = match (wanted, bos) {
        (true, Some(id)) => Decision::new("BOS", format!("token {id} begins a prompt"), source),
        (true, None) => Decision::new("BOS", "not added", "the file names no BOS token").warned(),
        (false, _) => Decision::new("BOS", "not added", source),
    };
    decisions.push(decision);
    Ok(wanted && bos.is_some())
}
