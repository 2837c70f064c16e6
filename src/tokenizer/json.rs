//! The tokenizer of a directory in Hugging Face form: `tokenizer.json`, and the files beside it that name the tokens which
//! begin and end a text. All of it is brought into the keys of a GGUF file, which is the form that the rest of the
//! library builds tokenizers from; what those keys cannot say goes beside them as [`Exact`].
//!
//! A tokenizer.json is a list of steps. Only steps whose ids this library can make are accepted: a step that was passed
//! over would give fluent text from wrong tokens.

mod beside;
mod steps;
mod vocabulary;

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::pieces::Merges;
use super::rules::{Rule, with_pattern};
use crate::error::{Error, Result};
use crate::format::file::read_short;
use crate::format::gguf::{Array, Metadata, Value, quoted, within};

use beside::Beside;
pub(crate) use beside::chat_template;
use steps::{Cutting, Template};
use vocabulary::{Added, Bpe};

/// The file that the tokenizer is in.
pub(super) const FILE: &str = "tokenizer.json";

/// The longest accepted tokenizer.json, in bytes; the largest published ones have half as many.
const MAX_BYTES: usize = 64 << 20;

/// What a tokenizer.json says and a GGUF file has no keys for.
pub(super) struct Exact {
    pub(super) way: Way,
    /// Special tokens that are looked for after the others, in the text as it was normalised; sorted.
    pub(super) late: Vec<u32>,
    /// Tokens that end a generation, beside those that keys name.
    pub(super) ends: Vec<u32>,
    /// Why this kind of tokenizer, and why a beginning or none.
    pub(super) model_reason: String,
    pub(super) bos_reason: String,
}

/// How text becomes tokens.
pub(super) enum Way {
    /// Byte-level BPE on words.
    Words(Rule),
    /// SentencePiece's vocabulary with merges.
    Pieces(Merges),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Box<RawValue>>,
    pre_tokenizer: Option<Box<RawValue>>,
    post_processor: Option<Box<RawValue>>,
    model: Box<RawValue>,
}

/// Reads the files of a directory.
pub(super) fn read(directory: &Path) -> Result<(Metadata, Exact)> {
    let path = directory.join(FILE);
    let bytes = read_short(&path, MAX_BYTES)?;
    let in_file = |error| within(path.display(), error);
    let file = serde_json::from_slice(&bytes).map_err(|error| in_file(damaged(&error)))?;
    let beside = Beside::read(directory)?;
    describe(file, &beside).map_err(in_file)
}

/// The error for JSON of another form; its text may quote the file.
fn damaged(error: &serde_json::Error) -> Error {
    Error::Malformed(format!("not as expected: {}", quoted(&error.to_string())))
}

fn describe(file: File, beside: &Beside) -> Result<(Metadata, Exact)> {
    let cutting = steps::cutting(file.normalizer.as_deref(), file.pre_tokenizer.as_deref())?;
    let template = steps::template(file.post_processor.as_deref())?;
    let bpe = Bpe::parse(&file.model)?;
    let tokens = vocabulary::tokens(&bpe, &file.added_tokens, matches!(cutting, Cutting::Pieces { .. }))?;

    let (bos, adds_bos, bos_reason) = beginning(&template, beside, |text| tokens.id(text));
    let mut ends = Vec::new();
    for &id in &beside.ends {
        ends.push(tokens.checked(id)?);
    }
    let eos = beside.eos_text.as_deref().and_then(|text| tokens.id(text)).or(ends.first().copied());
    ends.extend(eos);

    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut pairs = vec![
        (key("model"), Value::String(if matches!(cutting, Cutting::Pieces { .. }) { "llama" } else { "gpt2" }.into())),
        (key("tokens"), Value::Array(Array::of_strings(&tokens.texts))),
        (key("token_type"), Value::Array(Array::of_integers(&tokens.types))),
        (key("add_bos_token"), Value::Bool(adds_bos)),
    ];
    if let Some(bos) = bos {
        pairs.push((key("bos_token_id"), Value::Unsigned(tokens.checked(bos)?.into())));
    }
    if let Some(eos) = eos {
        pairs.push((key("eos_token_id"), Value::Unsigned(eos.into())));
    }
    // GGUF has places for three tokens that end a generation.
    for (name, end) in ["eot_token_id", "eom_token_id"].iter().zip(others(&ends, eos)) {
        pairs.push((key(name), Value::Unsigned(end.into())));
    }
    let (way, model_reason) = match cutting {
        Cutting::Words { pattern, composes } => {
            let rule = with_pattern(pattern.as_deref(), bpe.ignore_merges.unwrap_or(false), composes)?;
            let merges = bpe.merges.iter().map(|merge| format!("{} {}", merge.0, merge.1));
            pairs.push((key("pre"), Value::String(rule.name().into())));
            pairs.push((key("merges"), Value::Array(Array::of_strings(merges))));
            (Way::Words(rule), format!("{FILE} cuts words as {} does", rule.name()))
        }
        Cutting::Pieces { space, splits, normalizes } => {
            pairs.push((key("scores"), Value::Array(Array::of_floats(&vocabulary::scores(&bpe, &tokens)))));
            pairs.push((key("add_space_prefix"), Value::Bool(space != super::pieces::Space::Never)));
            let merges = Merges {
                merges: bpe.merges.into_iter().map(|merge| (merge.0, merge.1)).collect(),
                unknown: bpe.unk_token,
                fuses_unknown: bpe.fuse_unk.unwrap_or(false),
                falls_back_to_bytes: bpe.byte_fallback.unwrap_or(false),
                ignores_merges: bpe.ignore_merges.unwrap_or(false),
                space,
                splits,
                normalizes,
            };
            (Way::Pieces(merges), format!("{FILE} spells spaces as U+2581"))
        }
    };
    Ok((Metadata::new(pairs), Exact { way, late: tokens.late, ends, model_reason, bos_reason }))
}

/// Each other token of `ends` once, in their order.
fn others(ends: &[u32], eos: Option<u32>) -> Vec<u32> {
    let mut others = Vec::new();
    for end in ends {
        if Some(*end) != eos && !others.contains(end) {
            others.push(*end);
        }
    }
    others
}

/// The token that begins a text, whether it is added, and who says so.
fn beginning(template: &Template, beside: &Beside, id: impl Fn(&str) -> Option<u32>) -> (Option<u32>, bool, String) {
    let named = beside.bos_text.as_deref().and_then(&id);
    let bos = template.first.as_deref().and_then(&id).or(named).or(beside.bos);
    let mut reason = match beside.add_bos {
        Some(_) => "tokenizer_config.json has add_bos_token".to_owned(),
        None if template.first.is_some() => format!("the template of {FILE} begins with it"),
        None => format!("the template of {FILE} adds none"),
    };
    if let Some(last) = &template.last {
        reason += &format!("; {} at the end of a text is left out, as a prompt goes on", quoted(last));
    }
    (bos, beside.add_bos.unwrap_or(template.first.is_some()), reason)
}
