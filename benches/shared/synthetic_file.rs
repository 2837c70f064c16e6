//! A file of the size of a published model, written from the synthetic one of its shape: I2_S trits and an f16 embedding, with a
//! vocabulary of as many tokens, which encodes every text.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use sterna::Model;
use sterna::format::{Scales, Values, Weights};
use sterna::model::{Config, Part, Role, SyntheticShape};

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

/// Writes the file, and tells its bytes.
pub fn write(path: &Path, shape: SyntheticShape) -> anyhow::Result<usize> {
    let model = Model::synthetic(shape, 1);
    let config = model.config();
    let layers = (0..config.layers).flat_map(|layer| {
        let parts = Part::ALL.iter().filter(move |(part, _)| part.is_in(config, layer));
        parts.map(move |&(part, _)| Role::Layer(layer, part))
    });
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

/// Texts of one, two and three bytes, in the letters that byte-level vocabularies write for bytes; each longer one is the merge of a
/// shorter one and a letter.
fn vocabulary(count: usize) -> (Vec<String>, Vec<String>) {
    let written = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let shown = (0..=u8::MAX).filter(|&byte| written(byte)).map(char::from);
    let others = (0..=u8::MAX).filter(|&byte| !written(byte)).count() as u32;
    let letters: Vec<String> =
        shown.chain((0..others).filter_map(|place| char::from_u32(256 + place))).map(String::from).collect();
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
