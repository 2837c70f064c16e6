//! Directories in Hugging Face form: the golden ones made small, and changes of their JSON and of their tensors.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use crate::words::{self, TOKENS, TOKENS_BEFORE};
use crate::{Input, golden};

/// Those of the golden directories that are small.
const FOLDERS: [&str; 8] = [
    "bitnet-128-silu",
    "bitnet-128-online",
    "embedding-qwen3",
    "embedding-gemma3",
    "qwen3-yarn",
    "qwen3-256-mlx",
    "trilm-128",
    "llama-256",
];

/// What a number, a name or a list may be replaced by.
const VALUES: [&str; 32] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "64",
    "127",
    "128",
    "255",
    "256",
    "65536",
    "16777216",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "-9223372036854775808",
    "0.0",
    "1.5",
    "-0.0",
    "1e-45",
    "1e-308",
    "1e38",
    "1e308",
    "1e400",
    "null",
    "true",
    "false",
    "\"x\"",
    "[]",
    "{}",
];

/// Fields that some config.json has, for those that have them not.
const FIELDS: [&str; 28] = [
    "\"hidden_act\":\"relu2\"",
    "\"hidden_activation\":\"gelu_pytorch_tanh\"",
    "\"attention_bias\":true",
    "\"mlp_bias\":true",
    "\"head_dim\":32",
    "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0,\"original_max_position_embeddings\":64}",
    "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":4.0}",
    "\"rope_scaling\":{\"type\":\"dynamic\",\"alpha\":1000.0}",
    "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0}",
    "\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1.0],\"long_factor\":[1e38]}",
    "\"sliding_window\":4",
    "\"use_sliding_window\":true",
    "\"layer_types\":[\"full_attention\"]",
    "\"layer_types\":[\"sliding_attention\",\"x\"]",
    "\"tie_word_embeddings\":false",
    "\"tie_word_embeddings\":true",
    "\"num_key_value_heads\":3",
    "\"model_type\":\"llama\"",
    "\"model_type\":\"qwen3\"",
    "\"model_type\":\"bitnet\"",
    "\"model_type\":\"gemma3_text\"",
    "\"model_type\":\"minicpm\"",
    "\"architectures\":[\"BitNetForCausalLM\"]",
    "\"quantization_config\":{\"quant_method\":\"bitnet\",\"quantization_mode\":\"online\"}",
    "\"quantization\":{\"group_size\":64,\"bits\":2}",
    "\"quantization\":{\"group_size\":128,\"bits\":4}",
    "\"torch_dtype\":\"float32\"",
    "\"logits_scaling\":8.0",
];

/// Names and contents of the files of a directory.
#[derive(Clone)]
pub struct Directory {
    pub files: Vec<(String, Vec<u8>)>,
}

/// Small sound directories. Few have a tokenizer, as building one takes long; one is of pieces, and built at once.
static TEMPLATES: LazyLock<Vec<Directory>> = LazyLock::new(|| {
    let mut templates: Vec<Directory> = FOLDERS.iter().map(|folder| Directory::golden(folder)).collect();
    let mut tokenizer = read_json(&golden::folder().join("tokenizer.json"));
    words::cut_json(&mut tokenizer);
    for tokenizer in [words::pieces(TOKENS), tokenizer] {
        let mut with = templates[0].clone();
        with.files.push(("tokenizer.json".into(), tokenizer.to_string().into()));
        let beside = json!({"add_bos_token": true, "bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|end_of_text|>"}});
        with.files.push(("tokenizer_config.json".into(), beside.to_string().into()));
        with.files.push(("generation_config.json".into(), json!({"eos_token_id": [126, 127]}).to_string().into()));
        templates.push(with);
    }
    templates
});

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_json(path: &Path) -> Json {
    serde_json::from_slice(&read(path)).expect("JSON")
}

impl Directory {
    /// A golden directory with one layer and few tokens.
    fn golden(folder: &str) -> Self {
        let folder = golden::folder().join(folder);
        let mut config = read_json(&folder.join("config.json"));
        config["num_hidden_layers"] = 1.into();
        config["vocab_size"] = TOKENS.into();
        let mut files = vec![("config.json".to_owned(), config.to_string().into_bytes())];
        let mut names: Vec<_> = std::fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name.starts_with("model"))
            .collect();
        names.sort();
        for name in names {
            let bytes = read(&folder.join(&name));
            let is_index = name.ends_with(".json");
            files.push((name, if is_index { bytes } else { cut(&bytes) }));
        }
        Self { files }
    }

    /// Writes the files, and nothing else, into a folder.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        for entry in std::fs::read_dir(folder).expect("a folder") {
            std::fs::remove_file(entry.expect("an entry").path()).expect("a file of ours");
        }
        for (name, bytes) in &self.files {
            std::fs::write(folder.join(name), bytes).expect("room");
        }
    }

    /// One of the templates, with a few changes.
    pub fn cook(input: &mut Input) -> Self {
        let mut directory = TEMPLATES[input.below(TEMPLATES.len())].clone();
        for _ in 0..input.below(6) {
            directory.change(input);
        }
        directory
    }

    fn change(&mut self, input: &mut Input) {
        if self.files.is_empty() {
            return;
        }
        // The first is the config.
        let place = if input.chance(2) { 0 } else { input.below(self.files.len()) };
        if input.chance(32) {
            drop(self.files.remove(place));
            return;
        }
        let (name, bytes) = &mut self.files[place];
        match name.ends_with(".json") {
            true => change_json(bytes, input),
            false => change_tensors(bytes, input),
        }
    }
}

/// Leaves the first layer, and the first rows of embedding and head, of a file of safetensors.
fn cut(bytes: &[u8]) -> Vec<u8> {
    let (header, data) = split(bytes).expect("golden files are sound");
    let header: Json = serde_json::from_slice(header).expect("JSON");
    let (mut kept, mut out) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in header.as_object().expect("tensors by name") {
        let layer = name.split("layers.").nth(1).and_then(|rest| rest.split('.').next());
        if name == "__metadata__" || layer.is_some_and(|layer| layer != "0") {
            continue;
        }
        let mut tensor = tensor.clone();
        let place = |at: usize| tensor["data_offsets"][at].as_u64().expect("an offset") as usize;
        let mut part = &data[place(0)..place(1)];
        if tensor["shape"][0] == TOKENS_BEFORE && (name.contains("embed_tokens") || name.contains("lm_head")) {
            part = &part[..part.len() / TOKENS_BEFORE * TOKENS];
            tensor["shape"][0] = TOKENS.into();
        }
        tensor["data_offsets"] = json!([out.len(), out.len() + part.len()]);
        out.extend(part);
        kept.insert(name.clone(), tensor);
    }
    join(Json::Object(kept).to_string().as_bytes(), &out)
}

/// The header and the data, if the header has the length that is said.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(u64::from_le_bytes(*length) as usize)
}

fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

// ---- Changes ----

fn change_tensors(bytes: &mut Vec<u8>, input: &mut Input) {
    match (input.below(6), split(bytes)) {
        (0..=2, Some((header, data))) => {
            let mut header = header.to_vec();
            let data = data.to_vec();
            change_json(&mut header, input);
            *bytes = join(&header, &data);
        }
        (3, Some((header, _))) => {
            // A float, or two halves, of the data.
            let start = 8 + header.len();
            let length = bytes.len() - start;
            let place = start + input.word() as usize % length.max(1) / 4 * 4;
            let float = input.float().to_le_bytes();
            if let Some(four) = bytes.get_mut(place..place + 4) {
                four.copy_from_slice(&float);
            }
        }
        (4, _) => {
            let place = input.word() as usize % bytes.len().max(1);
            let byte = input.byte();
            if let Some(place) = bytes.get_mut(place) {
                *place = byte;
            }
        }
        _ => bytes.truncate(input.word() as usize % (bytes.len() + 1)),
    }
}

/// Changes a text of JSON so that it mostly stays JSON.
pub fn change_json(text: &mut Vec<u8>, input: &mut Input) {
    if text.is_empty() {
        return;
    }
    let place = |input: &mut Input| input.word() as usize % text.len();
    match input.below(8) {
        0..=3 => {
            let numbers = values(text);
            if numbers.is_empty() {
                return;
            }
            let (start, end) = numbers[input.below(numbers.len())];
            text.splice(start..end, input.one_of(&VALUES).bytes());
        }
        4 => {
            if let Some(start) = text.iter().position(|&byte| byte == b'{') {
                text.splice(start + 1..start + 1, [input.one_of(&FIELDS).as_bytes(), b","].concat());
            }
        }
        5 => {
            let start = place(input);
            text[start] = input.byte();
        }
        6 => {
            let start = place(input);
            let end = (start + input.below(256)).min(text.len());
            text.drain(start..end);
        }
        _ => {
            let start = place(input);
            let length = input.below(16);
            text.splice(start..start, input.take(length).to_vec());
        }
    }
}

/// Where numbers, texts and names of values are: everything behind a colon, a comma or an opening bracket.
fn values(text: &[u8]) -> Vec<(usize, usize)> {
    let is_mark = |byte: u8| matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}');
    let (mut found, mut start) = (Vec::new(), 0);
    for (place, &byte) in text.iter().enumerate().filter(|(_, byte)| is_mark(**byte)) {
        // What a colon follows is a name.
        if byte != b':' && start < place {
            found.push((start, place));
        }
        start = place + 1;
    }
    found
}
