//! The golden models of the tests, made small: one layer, and 128 tokens.

use std::path::{Path, PathBuf};

use crate::gguf::{File, array, string, value};
use crate::tiny;
use crate::words::{self, TOKENS, TOKENS_BEFORE};

/// One file of each encoding, and of most families.
const FILES: [&str; 18] = [
    "bitnet-128-silu/i2_s.gguf",
    "bitnet-128-online/f16.gguf",
    "bitnet-128-online/i2_s.gguf",
    "bitnet-256/tq1_0.gguf",
    "bitnet-256/tq2_0.gguf",
    "bitnet-384/i2_s.gguf",
    "embedding-gemma3/i2_s.gguf",
    "embedding-qwen3/i2_s.gguf",
    "hunyuan-256/stq1_0_id42.gguf",
    "llama-256/tq2_0.gguf",
    "minicpm-256/tq2_0.gguf",
    "qwen3-256/ptq1_0.gguf",
    "qwen3-256/q2_0_g128.gguf",
    "qwen3-yarn/pq2_0.gguf",
    "qwen3-yarn/q2_0_g64.gguf",
    "qwen35-128-hf/ptq1_0.gguf",
    "qwen35-128/q2_0_g128.gguf",
    "trilm-128/f16.gguf",
];

/// Where the golden models are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden")
}

/// All golden GGUF files, made small.
pub fn files() -> Vec<File> {
    let read = |name: &&str| std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    FILES.iter().map(|name| cut(File::parse(&read(name)))).collect()
}

fn cut(mut file: File) -> File {
    let architecture = file.architecture();
    file.set(&format!("{architecture}.block_count"), value::U32, 1u32.to_le_bytes());
    file.set(&format!("{architecture}.vocab_size"), value::U32, (TOKENS as u32).to_le_bytes());
    file.tensors.retain(|tensor| !tensor.name.starts_with(b"blk.") || tensor.name.starts_with(b"blk.0."));
    let tables: [&[u8]; 2] = [b"token_embd.weight", b"output.weight"];
    for tensor in file.tensors.iter_mut().filter(|tensor| tables.contains(&&*tensor.name)) {
        tensor.shape[1] = TOKENS as u64;
        // Rows are whole blocks, and less than a byte a row is padding.
        tensor.data.truncate(tensor.data.len() / TOKENS_BEFORE * TOKENS);
    }
    match ["bitnet", "qwen3"].contains(&&*architecture) {
        true => cut_tokenizer(&mut file),
        false => replace_tokenizer(&mut file),
    }
    file
}

/// Puts a tokenizer in the place that is built faster.
fn replace_tokenizer(file: &mut File) {
    file.pairs.retain(|pair| !pair.key.starts_with(b"tokenizer."));
    tiny::write_sentencepiece(file, TOKENS);
}

fn cut_tokenizer(file: &mut File) {
    let strings = |key: &str| texts(&file.get(key).expect("golden files have tokenizers").value);
    let tokens = strings("tokenizer.ggml.tokens");
    let merges = strings("tokenizer.ggml.merges");
    let pairs: Vec<_> = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(one, other)| (one.to_owned(), other.to_owned())).expect("two parts"))
        .collect();
    let types = file.get("tokenizer.ggml.token_type").expect("types").value[12..].to_vec();
    let (kept, kept_merges) = words::cut(&tokens, &pairs);
    let list = |texts: Vec<&String>| {
        array(value::STRING, texts.len(), texts.iter().flat_map(|text| string(text.as_bytes())).collect::<Vec<_>>())
    };
    let new_tokens = list(kept.iter().map(|&id| &tokens[id]).collect());
    let new_merges = list(kept_merges.iter().map(|&index| &merges[index]).collect());
    let new_types = array(value::I32, TOKENS, kept.iter().flat_map(|&id| types[4 * id..][..4].to_vec()));
    file.set("tokenizer.ggml.tokens", value::ARRAY, new_tokens);
    file.set("tokenizer.ggml.merges", value::ARRAY, new_merges);
    file.set("tokenizer.ggml.token_type", value::ARRAY, new_types);
    for pair in file.pairs.iter_mut().filter(|pair| pair.key.ends_with(b"_token_id")) {
        let old = u32::from_le_bytes(pair.value[..].try_into().expect("a u32"));
        pair.value = (words::new_id(old.into()) as u32).to_le_bytes().to_vec();
    }
}

/// The elements of an array of strings.
pub fn texts(value: &[u8]) -> Vec<String> {
    let mut rest = &value[12..];
    let mut texts = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let (text, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).expect("UTF-8"));
        rest = after;
    }
    texts
}
