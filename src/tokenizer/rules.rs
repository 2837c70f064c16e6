//! How byte-level vocabularies cut text into words before merging. `tokenizer.ggml.pre` names the rule; a wrong rule
//! gives fluent text from wrong tokens, so an unknown name is an error, and a missing one is inferred only from facts
//! that fit a single family.

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Metadata, quoted};

/// One way to cut text into words, as the models' authors published it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    names: &'static [&'static str], // values of `tokenizer.ggml.pre`
    /// Each match is a word. Every character is part of some match: the last alternatives take any white space.
    pub(super) words: &'static str,
    /// A word that is a token is that token, whatever the merges would make of it.
    pub(super) ignores_merges: bool,
    /// The text is brought to normalisation form C before it is cut.
    pub(super) composes: bool,
    /// Whether BOS is added where the file does not say.
    pub(super) adds_bos: bool,
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Han and kana, which Hunyuan sets apart from other letters.
macro_rules! han_and_kana {
    () => {
        r"\u{4E00}-\u{9FA5}\u{3040}-\u{30FF}"
    };
}
/// Published as three expressions, each applied to the pieces that the former left: digits, Han and kana, and one for all
/// else, which also takes letters from marks among Han and kana. As one expression, it stops where the first two match,
/// and white space before them ends a piece. Its last alternative is what none of the three matches: control and format
/// characters that no letter follows.
const HUNYUAN_DENSE: &str = concat!(
    r"\p{N}{1,3}|[",
    han_and_kana!(),
    r"&&[\p{L}\p{M}]]+|[",
    han_and_kana!(),
    r"&&[\p{P}\p{S}]]+|[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{N}\p{P}\p{S}]?[\p{L}\p{M}--[",
    han_and_kana!(),
    r"]]+| ?[\p{P}\p{S}--[",
    han_and_kana!(),
    r"]]+[\r\n]*|\s*[\r\n]+|\s+(?![^\s\p{N}",
    han_and_kana!(),
    r"])|\s+|[^\s\p{L}\p{M}\p{N}\p{P}\p{S}]+(?![\p{L}\p{M}--[",
    han_and_kana!(),
    r"]])",
);

// Only Qwen's and GPT-NeoX's own tokenizers compose; the others share their words, but leave the text as it is.
static RULES: [Rule; 7] = [
    Rule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "falcon_e"],
        words: LLAMA3,
        ignores_merges: true,
        composes: false,
        adds_bos: true,
    },
    Rule { names: &["qwen2"], words: QWEN2, ignores_merges: false, composes: true, adds_bos: false },
    Rule { names: &["stablelm2", "hunyuan"], words: QWEN2, ignores_merges: false, composes: false, adds_bos: false },
    Rule {
        names: &["hunyuan-dense", "hy_v4"],
        words: HUNYUAN_DENSE,
        ignores_merges: false,
        composes: false,
        adds_bos: false,
    },
    Rule { names: &["qwen35"], words: QWEN35, ignores_merges: false, composes: true, adds_bos: false },
    Rule { names: &["gpt-2"], words: GPT2, ignores_merges: false, composes: false, adds_bos: false },
    Rule { names: &["olmo"], words: GPT2, ignores_merges: false, composes: true, adds_bos: false },
];

/// The rule that the file names, or the one that must be meant where it names none.
///
/// # Errors
/// [`Error::Unsupported`] if the name is unknown, or there is none and nothing tells the family.
pub(super) fn choose(metadata: &Metadata, vocabulary_size: usize) -> Result<(&'static Rule, Decision)> {
    const KEY: &str = "tokenizer.ggml.pre";
    let declared = metadata.string(KEY)?;
    match declared {
        // Converters write "default" when they do not know the tokenizer either.
        Some(name) if name != "default" => match named(name) {
            Some(rule) => Ok((rule, Decision::new("pre-tokenizer", name, format!("{KEY} says so")))),
            None => {
                let (name, known) = (quoted(name), known());
                Err(Error::Unsupported(format!("the pre-tokenizer {name} ({KEY}); known are {known}")))
            }
        },
        _ => match infer(metadata, vocabulary_size)? {
            Some((name, evidence)) => {
                let rule = named(name).expect("inferred names are in the table");
                let state = if declared.is_some() { "\"default\"" } else { "missing" };
                let reason = format!("{KEY} is {state}, but {evidence}");
                Ok((rule, Decision::new("pre-tokenizer", name, reason).warned()))
            }
            None => Err(Error::Unsupported(format!(
                "{KEY} is missing or \"default\", and {vocabulary_size} tokens are of no known family; the file's \
                 maker must set it to one of {}",
                known()
            ))),
        },
    }
}

/// The rule with this regular expression, as a tokenizer.json spells it; `None` stands for GPT-2's, which the library of
/// that file has built in. The other properties are those of the file, also where no published family combines them so.
///
/// # Errors
/// [`Error::Unsupported`] if no rule has the expression.
pub(super) fn with_pattern(pattern: Option<&str>, ignores_merges: bool, composes: bool) -> Result<Rule> {
    let words = pattern.unwrap_or(GPT2);
    let fits = |rule: &&Rule| rule.words == words;
    let same = |rule: &&Rule| rule.ignores_merges == ignores_merges && rule.composes == composes;
    match RULES.iter().filter(fits).find(same).or_else(|| RULES.iter().find(fits)) {
        Some(rule) => Ok(Rule { ignores_merges, composes, ..*rule }),
        None => Err(Error::Unsupported(format!(
            "the pre-tokenizer's pattern {}; known are those of {}",
            quoted(words),
            known()
        ))),
    }
}

impl Rule {
    /// The first name that GGUF files give the rule.
    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }
}

fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.names.contains(&name))
}

fn known() -> String {
    RULES.iter().flat_map(|rule| rule.names).copied().collect::<Vec<_>>().join(", ")
}

/// A rule's name and the evidence for it. Sizes go first: they tell more than the architecture, which a BitNet model on
/// another family's vocabulary shares.
fn infer(metadata: &Metadata, vocabulary_size: usize) -> Result<Option<(&'static str, String)>> {
    let architecture = metadata.string("general.architecture")?.unwrap_or_default();
    let name = metadata.string("general.name")?.unwrap_or_default();
    let is_falcon_e = name.to_lowercase().replace([' ', '_'], "-").contains("falcon-e");
    let bos = metadata.unsigned("tokenizer.ggml.bos_token_id")?;
    Ok(match vocabulary_size {
        128_256 if bos == Some(128_000) => {
            Some(("llama-bpe", "128256 tokens with BOS 128000 are the vocabulary of Llama 3".to_owned()))
        }
        248_320 => Some(("qwen35", "248320 tokens are the vocabulary of Qwen3.5".to_owned())),
        151_669..=151_936 => Some(("qwen2", format!("{vocabulary_size} tokens are the vocabulary of Qwen2 and Qwen3"))),
        50_304 | 50_432 | 50_688 => {
            Some(("olmo", format!("{vocabulary_size} tokens are the vocabulary of GPT-NeoX, as TriLM pads it")))
        }
        32_768 if is_falcon_e => Some(("llama-bpe", format!("{} with 32768 tokens is a Falcon-E", quoted(name)))),
        _ if architecture.starts_with("bitnet") => {
            Some(("llama-bpe", format!("published models of the architecture {architecture:?} are cut so")))
        }
        _ => None,
    })
}
