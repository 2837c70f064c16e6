//! A GGUF file taken apart into keys and tensors, so that a recipe can change one and write a file that is sound otherwise. The
//! reader is for files that are sound; it shares nothing with the crate's.

use std::sync::LazyLock;

use sterna::Model;

use crate::input::FLOATS;
use crate::{Input, golden, tiny};

/// Value types of keys.
pub mod value {
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
}

/// Every type number that some program writes, and some that none does.
const TENSOR_TYPES: [u32; 34] = [
    0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 24, 30, 34, 35, 36, 38, 39, 40, 41, 42, 43, 45, 46, 134, 135, 136, 142,
    143, 197, 335, 9999,
];

/// Keys that some file has, for files that have them not.
const MORE_KEYS: [&str; 34] = [
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.scale",
    "attention.causal",
    "attention.clamp_kqv",
    "attention.key_length",
    "attention.value_length",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "swiglu_clamp_exp",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "pooling_type",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.dimension_count",
    "use_parallel_residual",
    "vocab_size",
    "tensor_data_layout",
    "context_length",
    "attention.recurrent_layers",
    "full_attention_interval",
    "nextn_predict_layers",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
];

/// The keys, in their order, and the tensors, with the bytes up to the next one.
#[derive(Clone, Default)]
pub struct File {
    pub pairs: Vec<Pair>,
    pub tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub struct Pair {
    pub key: Vec<u8>,
    pub type_id: u32,
    pub value: Vec<u8>,
}

#[derive(Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    pub shape: Vec<u64>, // the innermost axis first, as in the file
    pub type_id: u32,
    pub data: Vec<u8>,
}

fn width(type_id: u32) -> usize {
    match type_id {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => panic!("a value of type {type_id}"),
    }
}

const ALIGNMENT: usize = 32;

// ---- Reading ----

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) -> &[u8] {
        self.at += bytes;
        &self.bytes[self.at - bytes..self.at]
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.skip(4).try_into().expect("four bytes"))
    }

    fn long(&mut self) -> usize {
        u64::from_le_bytes(self.skip(8).try_into().expect("eight bytes")) as usize
    }

    fn string(&mut self) -> Vec<u8> {
        let length = self.long();
        self.skip(length).to_vec()
    }

    fn skip_value(&mut self, type_id: u32) {
        match type_id {
            value::STRING => drop(self.string()),
            value::ARRAY => {
                let (element, count) = (self.word(), self.long());
                (0..count).for_each(|_| self.skip_value(element));
            }
            number => {
                self.skip(width(number));
            }
        }
    }
}

impl File {
    /// Takes a sound file apart.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut reader = Reader { bytes, at: 8 };
        let (tensors, pairs) = (reader.long(), reader.long());
        let mut file = Self::default();
        for _ in 0..pairs {
            let (key, type_id) = (reader.string(), reader.word());
            let start = reader.at;
            reader.skip_value(type_id);
            file.pairs.push(Pair { key, type_id, value: bytes[start..reader.at].to_vec() });
        }
        let mut offsets = Vec::new();
        for _ in 0..tensors {
            let name = reader.string();
            let shape = (0..reader.word()).map(|_| reader.long() as u64).collect();
            let type_id = reader.word();
            offsets.push(reader.long());
            file.tensors.push(Tensor { name, shape, type_id, data: Vec::new() });
        }
        let data = &bytes[reader.at.next_multiple_of(ALIGNMENT)..];
        for (tensor, &offset) in file.tensors.iter_mut().zip(&offsets) {
            let end = offsets.iter().copied().filter(|&next| next > offset).min().unwrap_or(data.len());
            tensor.data = data[offset..end].to_vec();
        }
        file
    }

    /// The file, sound but for what keys and tensors say.
    pub fn bytes(&self) -> Vec<u8> {
        let long = |number: usize| (number as u64).to_le_bytes();
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(long(self.tensors.len()));
        out.extend(long(self.pairs.len()));
        for Pair { key, type_id, value } in &self.pairs {
            out.extend(long(key.len()));
            out.extend(key);
            out.extend(type_id.to_le_bytes());
            out.extend(value);
        }
        let mut offset = 0;
        for Tensor { name, shape, type_id, data } in &self.tensors {
            out.extend(long(name.len()));
            out.extend(name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|axis| out.extend(axis.to_le_bytes()));
            out.extend(type_id.to_le_bytes());
            out.extend(long(offset));
            offset += data.len().next_multiple_of(ALIGNMENT);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        for Tensor { data, .. } in &self.tensors {
            out.extend(data);
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        }
        out
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.key == key.as_bytes())
    }

    /// Replaces a key's value, or adds the key.
    pub fn set(&mut self, key: &str, type_id: u32, value: impl Into<Vec<u8>>) {
        let pair = Pair { key: key.into(), type_id, value: value.into() };
        match self.pairs.iter_mut().find(|other| other.key == pair.key) {
            Some(place) => *place = pair,
            None => self.pairs.push(pair),
        }
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> String {
        let value = &self.get("general.architecture").expect("templates have it").value;
        String::from_utf8_lossy(&value[8..]).into_owned()
    }
}

/// A string as a value.
pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array as a value.
pub fn array(type_id: u32, count: usize, elements: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut value = type_id.to_le_bytes().to_vec();
    value.extend((count as u64).to_le_bytes());
    value.extend(elements);
    value
}

// ---- Recipes ----

/// Small sound files, those first whose tokenizers are built fast: short recipes begin with the first.
pub static TEMPLATES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let mut templates: Vec<File> = tiny::files().into_iter().chain(golden::files()).collect();
    for (index, template) in templates.iter().enumerate() {
        let model = Model::from_bytes(template.bytes());
        model.unwrap_or_else(|error| panic!("template {index} is not sound: {error}"));
    }
    templates.sort_by_key(|template| template.get("tokenizer.ggml.merges").is_some());
    templates
});

/// One of the templates, with a few changes of keys and tensors, and perhaps some of bytes.
pub fn cook(input: &mut Input) -> Vec<u8> {
    let mut file = TEMPLATES[input.below(TEMPLATES.len())].clone();
    for _ in 0..input.below(6) {
        file.change(input);
    }
    let mut bytes = file.bytes();
    if input.chance(4) {
        for _ in 0..1 + input.below(3) {
            // The first kilobytes are the keys and the directory.
            let reach = if input.chance(2) { bytes.len() } else { bytes.len().min(4096) };
            let place = input.word() as usize % reach;
            bytes[place] = input.byte();
        }
        if input.chance(4) {
            bytes.truncate(input.word() as usize % (bytes.len() + 1));
        }
    }
    bytes
}

impl File {
    fn change(&mut self, input: &mut Input) {
        if self.pairs.is_empty() || self.tensors.is_empty() {
            return;
        }
        match input.below(18) {
            kind @ 0..=6 => self.change_key(kind, input),
            7 => {
                let key = format!("{}.{}", self.architecture_or_nothing(), input.one_of(&MORE_KEYS));
                let (type_id, value) = match input.below(3) {
                    0 => (value::U32, (input.lie() as u32).to_le_bytes().to_vec()),
                    1 => (value::F32, input.float().to_le_bytes().to_vec()),
                    _ => (value::BOOL, vec![input.byte() & 1]),
                };
                self.set(&key, type_id, value);
            }
            8 => {
                let (from, to) = (input.one_of(ARCHITECTURES), self.architecture_or_nothing());
                self.rename(&to, from);
            }
            kind => self.change_tensor(kind, input),
        }
    }

    /// Changes a value (kinds 0 to 3) or its type, leaves a key out, or says one twice.
    pub fn change_key(&mut self, kind: usize, input: &mut Input) {
        if self.pairs.is_empty() {
            return;
        }
        let pair = input.below(self.pairs.len());
        match kind {
            0..=3 => self.pairs[pair].change(input),
            4 => {
                let type_id = input.one_of(&[0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12]);
                let value = input.lie().to_le_bytes()[..width(type_id)].to_vec();
                self.pairs[pair] = Pair { key: self.pairs[pair].key.clone(), type_id, value };
            }
            5 => drop(self.pairs.remove(pair)),
            _ => self.pairs[pair].key = self.pairs[input.below(self.pairs.len())].key.clone(),
        }
    }

    fn change_tensor(&mut self, kind: usize, input: &mut Input) {
        let place = input.below(self.tensors.len());
        let other = self.tensors[input.below(self.tensors.len())].clone();
        let tensor = &mut self.tensors[place];
        match kind {
            9 => {
                let axis = input.below(tensor.shape.len().max(1));
                let lie = input.lie();
                if let Some(size) = tensor.shape.get_mut(axis) {
                    *size = lie;
                }
            }
            10 => tensor.type_id = input.one_of(&TENSOR_TYPES),
            11 => {
                let start = input.word() as usize % tensor.data.len().max(1);
                let end = (start + 1 + input.below(256)).min(tensor.data.len());
                let byte = input.byte();
                if start < end {
                    tensor.data[start..end].fill(byte);
                }
            }
            12 => {
                let byte = input.byte();
                tensor.data.fill(byte);
            }
            13 => {
                let float = FLOATS[input.below(FLOATS.len())].to_le_bytes();
                let start = usize::from(input.short()) * 4 % tensor.data.len().max(1) / 4 * 4;
                if let Some(bytes) = tensor.data.get_mut(start..start + 4) {
                    bytes.copy_from_slice(&float);
                }
            }
            14 => drop(self.tensors.remove(place)),
            15 => {
                let change = usize::from(input.short());
                let length = tensor.data.len();
                let length = if change % 2 == 0 { length.saturating_sub(change / 2) } else { length + change / 2 };
                tensor.data.resize(length, 0);
            }
            16 => {
                let name = std::mem::take(&mut tensor.name);
                *tensor = Tensor { name, ..other };
            }
            _ => {
                let length = input.below(48);
                let name = input.take(length).to_vec();
                self.tensors.push(Tensor { name, ..other });
            }
        }
    }

    fn architecture_or_nothing(&self) -> String {
        self.get("general.architecture")
            .filter(|pair| pair.type_id == value::STRING)
            .and_then(|pair| String::from_utf8(pair.value[8..].to_vec()).ok())
            .unwrap_or_default()
    }

    /// The same network under another family's name, in its keys too.
    pub fn rename(&mut self, from: &str, to: &str) {
        let prefix = format!("{from}.");
        for pair in &mut self.pairs {
            if let Some(rest) = pair.key.strip_prefix(prefix.as_bytes()) {
                pair.key = [to.as_bytes(), b".", rest].concat();
            }
        }
        self.set("general.architecture", value::STRING, string(to.as_bytes()));
    }
}

/// Names of architectures, also those that share a network.
pub const ARCHITECTURES: &[&str] = &[
    "llama",
    "bitnet",
    "bitnet-b1.58",
    "bitnet-25",
    "qwen3",
    "qwen2",
    "qwen35",
    "gemma3",
    "minicpm",
    "hunyuan-dense",
    "maple",
    "gpt2",
    "gemma-embedding",
];

impl Pair {
    fn change(&mut self, input: &mut Input) {
        match self.type_id {
            value::STRING => {
                let length = input.below(64);
                self.value = string(input.take(length));
            }
            value::ARRAY => self.change_element(input),
            value::F32 => self.value = input.float().to_le_bytes().to_vec(),
            number => self.value = input.lie().to_le_bytes()[..width(number)].to_vec(),
        }
    }

    fn change_element(&mut self, input: &mut Input) {
        let type_id = u32::from_le_bytes(self.value[..4].try_into().expect("four bytes"));
        let elements = &mut self.value[12..];
        if elements.is_empty() {
            return;
        }
        let place = usize::from(input.short());
        match type_id {
            // A byte of a text, or of a length.
            value::STRING => elements[place % elements.len()] = input.byte(),
            number => {
                let width = width(number);
                let start = place * width % elements.len();
                let bits = if number == value::F32 { input.float().to_bits().into() } else { input.lie() };
                elements[start..start + width].copy_from_slice(&bits.to_le_bytes()[..width]);
            }
        }
    }
}
