//! The keys of the new file: those of the model's own, with what the conversion changes. Before a tensor is written, they
//! are read as any program would, and must describe the same network and the same tokenizer.

use super::{ConvertOptions, Pairs};
use crate::backend::RopePairs;
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::format::gguf::{Array, Metadata, Value};
use crate::model::{Config, Model, NUMERICS_KEY};
use crate::tokenizer::Tokenizer;

/// Token type of places in the vocabulary that no text uses (`tokenizer.ggml.token_type`).
const UNUSED: i32 = 5;

/// Texts whose ids must stay: letters with marks, digits, spaces, other scripts, punctuation, line ends, code.
const SAMPLES: [&str; 6] = [
    "Once upon a time, there wasn't a 1234567-year-old café.",
    "  two  spaces\tand a tab\n\n\nlines\r\n   ",
    "Привет, мир! 你好，世界。 こんにちは 안녕 مرحبا",
    "e\u{301} \u{1f9d1}\u{200d}\u{1f680} ½ ﬁ Ω",
    "fn main() { println!(\"{:?}\", x != y && z >= 0x1F); } // I'LL",
    "",
];

/// All keys of the file, and what is other than before.
pub(super) fn metadata(model: &Model, options: &ConvertOptions) -> Result<(Pairs, Vec<Decision>)> {
    let Ok(tokenizer) = model.tokenizer() else {
        return Err(Error::Input(
            "the model has no tokenizer, and a GGUF file must bring one: put tokenizer.json beside config.json".into(),
        ));
    };
    let mut changes = Vec::new();
    let is_dropped = |key: &str| matches!(key, "general.alignment" | "general.file_type") || key.starts_with("split.");
    let kept = model.metadata().iter().filter(|(key, _)| !is_dropped(key));
    let mut pairs: Pairs = kept.map(|(key, value)| (key.to_owned(), value.clone())).collect();
    if let Some(file_type) = options.linear.file_type() {
        set(&mut pairs, "general.file_type", Value::Unsigned(file_type));
    }
    set(&mut pairs, "general.quantization_version", Value::Unsigned(2));
    drop_drafters(&mut pairs, model.config());
    pad_vocabulary(&mut pairs, model.config().vocabulary, &mut changes);
    check_network(model.config(), &mut pairs)?;
    check_tokenizer(tokenizer, &Metadata::new(pairs.clone()), options.lossy, &mut changes)?;
    Ok((pairs, changes))
}

/// Replaces a key where it stands, or adds it.
fn set(pairs: &mut Pairs, key: &str, value: Value) {
    match pairs.iter_mut().find(|(name, _)| name == key) {
        Some((_, old)) => *old = value,
        None => pairs.push((key.into(), value)),
    }
}

/// Blocks that draft for the network are not written, so no key may speak of them.
fn drop_drafters(pairs: &mut Pairs, config: &Config) {
    let name = |key: &str| format!("{}.{key}", config.architecture);
    let drafters = name("nextn_predict_layers");
    if !pairs.iter().any(|(key, _)| *key == drafters) {
        return;
    }
    pairs.retain(|(key, _)| *key != drafters);
    set(pairs, &name("block_count"), Value::Unsigned(config.layers as u64));
    let list = name("attention.recurrent_layers");
    if let (Some(net), true) = (&config.delta_net, pairs.iter().any(|(key, _)| *key == list)) {
        set(pairs, &list, Value::Array(Array::of_truths(&net.layers)));
    }
}

/// llama.cpp wants one token for each row of the embedding.
fn pad_vocabulary(pairs: &mut Pairs, rows: usize, changes: &mut Vec<Decision>) {
    let array = |name: &str| match pairs.iter().find(|(key, _)| key == name) {
        Some((_, Value::Array(array))) => Some(array),
        _ => None,
    };
    let names = ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"];
    let [tokens, types, scores] = names.map(array);
    let Some(tokens) = tokens.filter(|tokens| tokens.len() < rows) else { return };
    let more = rows - tokens.len();
    let padding = (tokens.len()..rows).map(|id| format!("[PAD{id}]"));
    let texts = tokens.strings().into_iter().flatten().map(str::to_owned).chain(padding);
    let texts = Some(Array::of_strings(texts));
    let types = types.and_then(|types| {
        let types = types.integers()?.map(|kind| kind as i32);
        Some(Array::of_integers(&types.chain(std::iter::repeat_n(UNUSED, more)).collect::<Vec<_>>()))
    });
    let scores = scores.and_then(|scores| {
        let scores = scores.floats()?.map(|score| score as f32);
        Some(Array::of_floats(&scores.chain(std::iter::repeat_n(f32::MIN, more)).collect::<Vec<_>>()))
    });
    for (name, array) in names.iter().zip([texts, types, scores]) {
        if let Some(array) = array {
            set(pairs, name, Value::Array(array));
        }
    }
    let why = "the embedding has more rows than the tokenizer has tokens, and llama.cpp wants as many";
    changes.push(Decision::new("vocabulary", format!("{more} unused tokens were added"), why));
}

/// What is read from the keys must be the network; rotations apart, whose factors are tensors.
fn check_network(config: &Config, pairs: &mut Pairs) -> Result<()> {
    let read = |pairs: &Pairs| Config::from_keys(&Metadata::new(pairs.clone()), config.vocabulary, config.input_norms);
    let mut found = read(pairs)?.0;
    if found.numerics != config.numerics {
        set(pairs, NUMERICS_KEY, Value::String(config.numerics.name().into()));
        found = read(pairs)?.0;
    }
    found.rope = config.rope.clone();
    found.long_rope.clone_from(&config.long_rope);
    found.windows.clone_from(&config.windows);
    same_network(config, &found)
}

/// Whether two configs are of one network; names of architectures and the order of rotary pairs apart.
pub(super) fn same_network(wanted: &Config, found: &Config) -> Result<()> {
    let mut same = found.clone();
    same.architecture.clone_from(&wanted.architecture);
    same.rope.pairs = wanted.rope.pairs;
    let close =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ROTATION * a.abs());
    if close(&wanted.rope.frequencies, &same.rope.frequencies) {
        same.rope.frequencies.clone_from(&wanted.rope.frequencies);
    }
    if (wanted.rope.magnitude - same.rope.magnitude).abs() <= ROTATION {
        same.rope.magnitude = wanted.rope.magnitude;
    }
    if let (Some(a), Some(b)) = (&wanted.long_rope, &mut same.long_rope)
        && close(&a.frequencies, &b.frequencies)
    {
        b.frequencies.clone_from(&a.frequencies);
    }
    if let (Some(a), Some(b)) = (&wanted.windows, &mut same.windows)
        && close(&a.rope.frequencies, &b.rope.frequencies)
    {
        b.rope.frequencies.clone_from(&a.rope.frequencies);
    }
    if same == *wanted {
        return Ok(());
    }
    let architecture = &found.architecture;
    Err(Error::Unsupported(format!(
        "GGUF's architecture \"{architecture}\" is another network than this model's: {}",
        difference(wanted, &same)
    )))
}

/// Keys hold bases and divisors as f32.
const ROTATION: f64 = 1e-6;

/// The first field that differs, for an error.
fn difference(wanted: &Config, found: &Config) -> String {
    let (wanted, found) = (format!("{wanted:#?}"), format!("{found:#?}"));
    let mut lines = wanted.lines().zip(found.lines()).filter(|(a, b)| a != b);
    let bare = |line: &str| line.trim().trim_end_matches(',').to_owned();
    lines.next().map_or_else(String::new, |(wanted, found)| format!("{} instead of {}", bare(found), bare(wanted)))
}

fn check_tokenizer(tokenizer: &Tokenizer, metadata: &Metadata, lossy: bool, changes: &mut Vec<Decision>) -> Result<()> {
    let found = Tokenizer::from_gguf(metadata)?.0;
    for text in SAMPLES {
        let ids = |tokenizer: &Tokenizer| match tokenizer.encode_prompt(text) {
            Ok(ids) => Ok(Some(ids)),
            // Without the feature `text` nobody knows whether the ids stay.
            Err(error @ Error::Unsupported(_)) => Err(error),
            Err(_) => Ok(None),
        };
        if ids(tokenizer)? != ids(&found)? {
            let why = format!("GGUF has no keys for how this tokenizer cuts text: {text:?} would get other ids");
            if !lossy {
                return Err(Error::Unsupported(why + "; a lossy conversion puts up with it"));
            }
            changes.push(Decision::new("tokenizer", "some texts get other ids", why).warned());
            break;
        }
    }
    let lost = tokenizer.end_of_generation().iter().filter(|id| !found.end_of_generation().contains(id)).count();
    if lost > 0 {
        let why = "GGUF has keys for three tokens that end a generation";
        changes.push(Decision::new("ends", format!("{lost} tokens no longer end a generation"), why).warned());
    }
    Ok(())
}

/// Whether query and key rows must be brought from the order of halves, which the model has, to that of pairs, which
/// readers of the new file expect.
pub(super) fn permutes(model: &Model, metadata: &Pairs) -> bool {
    let config = model.config();
    let found = Config::from_keys(&Metadata::new(metadata.clone()), config.vocabulary, config.input_norms);
    config.rope.pairs == RopePairs::Half && found.is_ok_and(|(found, _)| found.rope.pairs == RopePairs::Interleaved)
}

/// Which row of a head's halves comes to each row of pairs: rows `i` and `i + dim/2` of a head become `2i` and `2i + 1`.
pub(super) fn pair_order(rows: usize, head_dim: usize) -> Vec<usize> {
    let place = |row: usize| {
        let (head, within) = (row / head_dim, row % head_dim);
        head * head_dim + within % 2 * (head_dim / 2) + within / 2
    };
    (0..rows).map(place).collect()
}
