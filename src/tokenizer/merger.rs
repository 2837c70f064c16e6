//! All that is the `tokenizers` crate's: merging characters to tokens as the models' authors do it, ties included, the
//! regular expressions that cut words, and composed characters. It comes with the feature `text`. In a build without it,
//! vocabularies are read as ever, so that ids become text and their end is known; whoever would make ids of text with
//! merges gets an error that names the feature.

use crate::error::{Error, Result};

/// How merging treats what is no token.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "text"), expect(dead_code, reason = "nothing is merged"))]
pub(super) struct Settings {
    /// The token of unknown characters; none to leave them out.
    pub(super) unknown: Option<String>,
    pub(super) fuses_unknown: bool,
    pub(super) falls_back_to_bytes: bool,
    /// A word that is a token is that token, whatever the merges would make of it.
    pub(super) ignores_merges: bool,
}

#[cfg(feature = "text")]
pub(super) use with_text::{Ids, Merger, Words};
#[cfg(not(feature = "text"))]
pub(super) use without_text::{Ids, Merger, Words};

#[cfg(feature = "text")]
mod with_text {
    use tokenizers::models::bpe::BPE;
    use tokenizers::tokenizer::{Model, NormalizedString};
    use tokenizers::utils::SysRegex;

    use super::{Error, Result, Settings};
    use crate::format::gguf::quoted;

    /// Tokens by their texts.
    pub(in crate::tokenizer) use tokenizers::models::bpe::Vocab as Ids;

    #[derive(Debug)]
    pub(in crate::tokenizer) struct Merger(BPE);

    impl Merger {
        pub(in crate::tokenizer) fn new(ids: Ids, merges: Vec<(String, String)>, settings: Settings) -> Result<Self> {
            let mut builder = BPE::builder()
                .vocab_and_merges(ids, merges)
                .fuse_unk(settings.fuses_unknown)
                .byte_fallback(settings.falls_back_to_bytes)
                .ignore_merges(settings.ignores_merges)
                // The cache is per thread and would outlive the tokenizer.
                .cache_capacity(0);
            if let Some(unknown) = settings.unknown {
                builder = builder.unk_token(unknown);
            }
            let built = builder.build();
            built.map(Self).map_err(|error| Error::Model(format!("the merges do not fit the vocabulary: {error}")))
        }

        /// Appends the ids of a word. Returns how many of its bytes they cover: characters that are no token are left out.
        pub(in crate::tokenizer) fn merge(&self, word: &str, ids: &mut Vec<u32>) -> Result<usize> {
            let merged = self.0.tokenize(word);
            let tokens = merged.map_err(|error| Error::Model(format!("merging {}: {error}", quoted(word))))?;
            ids.extend(tokens.iter().map(|token| token.id));
            Ok(tokens.iter().map(|token| token.offsets.1 - token.offsets.0).sum())
        }
    }

    #[derive(Debug)]
    pub(in crate::tokenizer) struct Words(SysRegex);

    impl Words {
        pub(in crate::tokenizer) fn new(pattern: &str) -> Result<Self> {
            SysRegex::new(pattern).map(Self).map_err(|error| Error::Model(format!("pre-tokenizer: {error}")))
        }

        /// Where the expression matches, in bytes, until the text ends or the engine gives up.
        pub(in crate::tokenizer) fn cut(&self, text: &str) -> Result<impl Iterator<Item = (usize, usize)>> {
            Ok(self.0.find_iter(text))
        }

        /// The text in normalisation form C, in which the expressions of some families are meant.
        pub(in crate::tokenizer) fn composed(&self, text: &str) -> Result<String> {
            let mut composed = NormalizedString::from(text);
            composed.nfc();
            Ok(composed.get().to_owned())
        }
    }
}

#[cfg(not(feature = "text"))]
mod without_text {
    use std::collections::HashMap;

    use super::{Error, Result, Settings};

    /// Tokens by their texts.
    pub(in crate::tokenizer) type Ids = HashMap<String, u32>;

    /// Why text is refused, and what to do.
    fn refusal() -> Error {
        let text = "this tokenizer makes ids of text in builds with the feature `text` of sterna only, and this build has it \
                    not: give the model ids instead, or switch the feature on";
        Error::Unsupported(text.into())
    }

    #[derive(Debug)]
    pub(in crate::tokenizer) struct Merger;

    impl Merger {
        pub(in crate::tokenizer) fn new(_: Ids, _: Vec<(String, String)>, _: Settings) -> Result<Self> {
            Ok(Self)
        }

        pub(in crate::tokenizer) fn merge(&self, _: &str, _: &mut Vec<u32>) -> Result<usize> {
            Err(refusal())
        }
    }

    #[derive(Debug)]
    pub(in crate::tokenizer) struct Words;

    impl Words {
        pub(in crate::tokenizer) fn new(_: &str) -> Result<Self> {
            Ok(Self)
        }

        pub(in crate::tokenizer) fn cut(&self, _: &str) -> Result<impl Iterator<Item = (usize, usize)>> {
            Err::<std::iter::Empty<_>, _>(refusal())
        }

        pub(in crate::tokenizer) fn composed(&self, _: &str) -> Result<String> {
            Err(refusal())
        }
    }
}
