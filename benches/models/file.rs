//! A file of the size and the shape of the published 2B model, written from the synthetic one, to be opened: 1.2 GB of
//! I2_S trits and an f16 embedding, with a vocabulary of as many tokens and merges.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use sterna::format::{Scales, Values, Weights};
use sterna::generate::{GenerateOptions, SessionOptions};
use sterna::model::{Config, Part, Role, SyntheticShape};
use sterna::{Device, Model, Session};
use tempfile::TempPath;

use crate::gguf_writer::{GgufWriter, array, string};

/// Type ids of GGUF keys and tensors.
const U32: u32 = 4;
const FLOAT: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32_TENSOR: u32 = 0;
const F16_TENSOR: u32 = 1;
const I2_S_TENSOR: u32 = 36;
/// Tensors begin at multiples of this.
const ALIGNMENT: usize = 32;

/// Writes the file, and prints how long it takes to open it and to make a first token with it.
pub fn measure_opening() -> anyhow::Result<()> {
    // Removed however this ends; what a kill leaves, the next run writes over.
    let path = TempPath::try_from_path(Path::new(env!("CARGO_TARGET_TMPDIR")).join("synthetic-2b-i2_s.gguf"))?;
    let bytes = write(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let [opened, loaded, first] = open(&path)?;
    println!(
        "\nA file of {:.2} GB opens in {opened:.0} ms, its session is made in {loaded:.0} ms more, and its first token \
         in {first:.0} ms (pages of the file in memory).",
        bytes as f64 / 1e9
    );
    Ok(())
}

fn open(path: &Path) -> anyhow::Result<[f64; 3]> {
    let mut start = Instant::now();
    let mut lap = || std::mem::replace(&mut start, Instant::now()).elapsed().as_secs_f64() * 1e3;
    let model = Model::open(path)?;
    let opened = lap();
    let mut session =
        Session::new(&model, &Device::cpu(), &SessionOptions { context: Some(64), ..Default::default() })?;
    let loaded = lap();
    session.generate_ids(&[1], &GenerateOptions { max_tokens: 1, ..GenerateOptions::greedy() })?.next();
    Ok([opened, loaded, lap()])
}

fn write(path: &Path) -> anyhow::Result<usize> {
    let model = Model::synthetic(SyntheticShape::Bitnet2B, 1);
    let config = model.config();
    let layers = (0..config.layers).flat_map(|layer| Part::ALL.iter().map(move |&(part, _)| Role::Layer(layer, part)));
    let roles: Vec<Role> = [Role::Embedding, Role::OutputNorm].into_iter().chain(layers).collect();

    // First the directory, with the places that the data will have; then the data, one tensor in memory at a time.
    let mut writer = keys(config);
    let mut end = 0;
    for &role in &roles {
        let (rows, cols) = role.shape(config);
        let (type_id, bytes) = match role {
            _ if role.is_linear() => (I2_S_TENSOR, rows * cols / 4 + 32),
            Role::Embedding => (F16_TENSOR, rows * cols * 2),
            _ => (F32_TENSOR, rows * cols * 4),
        };
        let shape = if rows == 1 { vec![cols as u64] } else { vec![cols as u64, rows as u64] };
        writer = writer.tensor(&role.gguf_name(), &shape, type_id, []);
        let last = writer.tensors.last_mut().context("it was just added")?;
        last.offset = Some(end as u64);
        end += bytes.next_multiple_of(ALIGNMENT);
    }
    let head = writer.bytes();
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&head)?;
    for role in roles {
        let written = match model.weights(role)?.context("the model has it")? {
            Weights::Ternary(w) => {
                let &Scales::Tensor(scale) = w.scales() else { anyhow::bail!("synthetic weights have one scale") };
                file.write_all(w.codes())?;
                file.write_all(&scale.to_le_bytes().repeat(8))?;
                w.codes().len() + 32
            }
            Weights::Dense(w) => {
                let (Values::F32(bytes) | Values::F16(bytes)) = w.values() else {
                    anyhow::bail!("an unexpected format")
                };
                file.write_all(bytes)?;
                bytes.len()
            }
        };
        file.write_all(&vec![0; written.next_multiple_of(ALIGNMENT) - written])?;
    }
    file.flush()?;
    Ok(head.len() + end)
}

fn keys(config: &Config) -> GgufWriter {
    let (tokens, merges) = vocabulary(config.vocabulary);
    let strings =
        |texts: &[String]| array(STRING, texts.len() as u64, texts.iter().flat_map(string).collect::<Vec<_>>());
    let mut writer = GgufWriter::new()
        .pair("general.architecture", STRING, string(&config.architecture))
        .pair("tokenizer.ggml.model", STRING, string("gpt2"))
        .pair("tokenizer.ggml.pre", STRING, string("llama-bpe"))
        .pair("tokenizer.ggml.tokens", ARRAY, strings(&tokens))
        .pair("tokenizer.ggml.merges", ARRAY, strings(&merges));
    for (key, value) in [
        ("block_count", config.layers),
        ("embedding_length", config.width),
        ("feed_forward_length", config.ffn_width),
        ("context_length", config.context),
        ("attention.head_count", config.heads.heads),
        ("attention.head_count_kv", config.heads.kv_heads),
    ] {
        writer = writer.pair(&format!("{}.{key}", config.architecture), U32, (value as u32).to_le_bytes());
    }
    for (key, value) in [("attention.layer_norm_rms_epsilon", config.norm_epsilon), ("rope.freq_base", 500_000.0)] {
        writer = writer.pair(&format!("{}.{key}", config.architecture), FLOAT, value.to_le_bytes());
    }
    writer
}

/// Texts of one, two and three letters; each longer one is the merge of a shorter one and a letter.
fn vocabulary(count: usize) -> (Vec<String>, Vec<String>) {
    let letters: Vec<String> = ('A'..='Z').chain('a'..='z').chain('0'..='9').map(String::from).collect();
    let mut tokens = letters.clone();
    let mut merges = Vec::new();
    for place in 0.. {
        for letter in &letters {
            if tokens.len() == count {
                return (tokens, merges);
            }
            merges.push(format!("{} {letter}", tokens[place]));
            tokens.push(format!("{}{letter}", tokens[place]));
        }
    }
    unreachable!("texts grow without end")
}
