//! Models as small as their encodings allow, of random trits: some run thousands of times a second.

use sterna::format::encodings::Encoding;
use sterna::format::{Scales, Ternary, Weights};

use crate::gguf::{File, Tensor, array, string, value};

/// A type number, its encoding, and how many columns divide into its blocks.
type Type = (u32, Encoding, usize);

const F32: Type = (0, Encoding::F32, 1);
const F16: Type = (1, Encoding::F16, 1);
const Q8_0: Type = (8, Encoding::Q8_0, 32);
const Q6_K: Type = (14, Encoding::Q6K, 256);
const TQ1_0: Type = (34, Encoding::Tq1_0, 256);
const TQ2_0: Type = (35, Encoding::Tq2_0, 256);
const I2_S: Type = (36, Encoding::I2S, 128);
const Q2_0: Type = (42, Encoding::Q2_0, 64);
const IQ1_BN: Type = (134, Encoding::Iq1Bn, 64);
const IQ2_BN: Type = (135, Encoding::Iq2Bn, 64);
const IQ2_BN_R4: Type = (335, Encoding::Iq2BnR4, 64);
const PQ2_0: Type = (142, Encoding::Pq2_0, 128);
const PTQ1_0: Type = (143, Encoding::Ptq1_0, 128);

struct Plan {
    architecture: &'static str,
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    linear: Type,
    embedding: Type,
    head: Option<Type>,
    norms: &'static [Norm],
    byte_level: bool,
}

/// Tokens of a vocabulary with scores.
const PIECES: usize = 20;

#[derive(Clone, Copy, PartialEq)]
enum Norm {
    Sub,
    Heads,
}

const PLAIN: Plan = Plan {
    architecture: "llama",
    layers: 1,
    width: 4,
    heads: 2,
    kv_heads: 1,
    head_dim: 2,
    ffn: 4,
    linear: F16,
    embedding: F16,
    head: None,
    norms: &[],
    byte_level: false,
};

/// One of each kind.
pub fn files() -> Vec<File> {
    let square = Plan { width: 128, heads: 2, kv_heads: 1, head_dim: 64, ffn: 128, ..PLAIN };
    let wide = Plan { width: 256, heads: 4, kv_heads: 1, head_dim: 64, ffn: 256, ..PLAIN };
    let plans = [
        Plan { byte_level: true, ..PLAIN },
        Plan { head: Some(F32), linear: F32, ..PLAIN },
        Plan { linear: I2_S, head: Some(F16), ..square },
        Plan { architecture: "bitnet-b1.58", linear: I2_S, norms: &[Norm::Sub], ..square },
        Plan { architecture: "qwen3", linear: Q2_0, embedding: Q2_0, norms: &[Norm::Heads], ..square },
        Plan { architecture: "qwen3", linear: PTQ1_0, embedding: PTQ1_0, norms: &[Norm::Heads], ..square },
        Plan { architecture: "qwen3", linear: PQ2_0, embedding: Q8_0, norms: &[Norm::Heads], ..square },
        Plan { linear: TQ2_0, embedding: Q8_0, head: Some(Q6_K), ..wide },
        Plan { linear: TQ1_0, ..wide },
        Plan { linear: IQ1_BN, ..square },
        Plan { linear: IQ2_BN, embedding: Q8_0, ..square },
        Plan { linear: IQ2_BN_R4, architecture: "bitnet", norms: &[Norm::Sub], ..square },
        Plan {
            architecture: "bitnet",
            width: 16,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            ffn: 24,
            layers: 2,
            embedding: F32,
            norms: &[Norm::Sub],
            ..PLAIN
        },
        Plan { architecture: "minicpm", width: 64, heads: 2, head_dim: 32, ffn: 64, linear: Q2_0, ..PLAIN },
        Plan { architecture: "hunyuan-dense", width: 8, heads: 2, head_dim: 4, ffn: 8, norms: &[Norm::Heads], ..PLAIN },
    ];
    let mut random = Random(1);
    plans.iter().map(|plan| plan.file(&mut random)).collect()
}

impl Plan {
    fn file(&self, random: &mut Random) -> File {
        let mut file = File::default();
        self.write_keys(&mut file);
        let vocabulary = if self.byte_level { write_byte_level(&mut file) } else { PIECES };
        if !self.byte_level {
            write_sentencepiece(&mut file, PIECES);
        }
        self.write_tensors(&mut file, vocabulary, random);
        file
    }

    fn write_keys(&self, file: &mut File) {
        file.set("general.architecture", value::STRING, string(self.architecture.as_bytes()));
        let numbers = [
            ("block_count", self.layers),
            ("embedding_length", self.width),
            ("feed_forward_length", self.ffn),
            ("context_length", 16),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
        ];
        for (key, number) in numbers {
            file.set(&format!("{}.{key}", self.architecture), value::U32, (number as u32).to_le_bytes());
        }
        for (key, number) in [("attention.layer_norm_rms_epsilon", 1e-5f32), ("rope.freq_base", 10_000.0)] {
            file.set(&format!("{}.{key}", self.architecture), value::F32, number.to_le_bytes());
        }
        if [PQ2_0.0, PTQ1_0.0].contains(&self.linear.0) {
            file.set("prism.version", value::U32, 1u32.to_le_bytes());
        }
    }

    fn write_tensors(&self, file: &mut File, vocabulary: usize, random: &mut Random) {
        let mut add = |name: String, rows: usize, cols: usize, of: Type| {
            let of = if cols % of.2 == 0 { of } else { F16 };
            file.tensors.push(Tensor {
                name: name.into(),
                shape: vec![cols as u64, rows as u64],
                type_id: of.0,
                data: random.weights(of.1, rows, cols),
            });
        };
        add("token_embd.weight".into(), vocabulary, self.width, self.embedding);
        if let Some(head) = self.head {
            add("output.weight".into(), vocabulary, self.width, head);
        }
        let (query, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for layer in 0..self.layers {
            for (name, rows, cols) in [
                ("attn_q", query, self.width),
                ("attn_k", keys, self.width),
                ("attn_v", keys, self.width),
                ("attn_output", self.width, query),
                ("ffn_gate", self.ffn, self.width),
                ("ffn_up", self.ffn, self.width),
                ("ffn_down", self.width, self.ffn),
            ] {
                add(format!("blk.{layer}.{name}.weight"), rows, cols, self.linear);
            }
        }
        let mut norms = vec![("output_norm.weight".to_owned(), self.width)];
        for layer in 0..self.layers {
            let mut add = |name: &str, size| norms.push((format!("blk.{layer}.{name}.weight"), size));
            add("attn_norm", self.width);
            add("ffn_norm", self.width);
            if self.norms.contains(&Norm::Sub) {
                add("attn_sub_norm", query);
                add("ffn_sub_norm", self.ffn);
            }
            if self.norms.contains(&Norm::Heads) {
                add("attn_q_norm", self.head_dim);
                add("attn_k_norm", self.head_dim);
            }
        }
        for (name, size) in norms {
            let data = [1f32.to_le_bytes()].concat().repeat(size);
            file.tensors.push(Tensor { name: name.into(), shape: vec![size as u64], type_id: F32.0, data });
        }
    }
}

/// Trits under one scale, by a small generator: the same in every process.
struct Random(u64);

impl Random {
    fn weights(&mut self, encoding: Encoding, rows: usize, cols: usize) -> Vec<u8> {
        let trits: Vec<i8> = (0..rows * cols).map(|_| self.below(3) as i8 - 1).collect();
        let ternary = Ternary::pack(rows, cols, &trits, Scales::Tensor(0.125)).expect("a small matrix");
        encoding.encode(&Weights::Ternary(ternary)).expect("one scale fits everywhere")
    }

    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

fn texts(list: &[impl AsRef<str>]) -> Vec<u8> {
    array(value::STRING, list.len(), list.iter().flat_map(|text| string(text.as_ref().as_bytes())))
}

fn integers(list: &[i32]) -> Vec<u8> {
    array(value::I32, list.len(), list.iter().flat_map(|number| number.to_le_bytes()))
}

fn write_byte_level(file: &mut File) -> usize {
    let tokens = [
        "a", "b", "c", "d", "e", "h", "l", "o", "r", "t", "Ġ", "Ċ", "x", "Ã", "©", "ab", "th", "the", "Ġa", "he", "lo",
        "<|b|>", "<|e|>", "<t>",
    ];
    file.set("tokenizer.ggml.model", value::STRING, string(b"gpt2"));
    file.set("tokenizer.ggml.pre", value::STRING, string(b"llama-bpe"));
    file.set("tokenizer.ggml.tokens", value::ARRAY, texts(&tokens));
    file.set("tokenizer.ggml.token_type", value::ARRAY, integers(&[&[1; 21][..], &[3, 3, 4]].concat()));
    file.set("tokenizer.ggml.merges", value::ARRAY, texts(&["a b", "t h", "th e", "Ġ a", "h e", "l o"]));
    file.set("tokenizer.ggml.bos_token_id", value::U32, 21u32.to_le_bytes());
    file.set("tokenizer.ggml.eos_token_id", value::U32, 22u32.to_le_bytes());
    file.set("tokenizer.ggml.add_bos_token", value::BOOL, [1]);
    tokens.len()
}

/// A vocabulary with scores, of some pieces, bytes and special tokens, filled up to so many. It is built at once, where the
/// expressions of a byte-level one take a hundred times as long as a run of the network.
pub fn write_sentencepiece(file: &mut File, count: usize) {
    let known = [
        "<unk>", "<s>", "</s>", "<0x00>", "<0x0A>", "<0x20>", "<0x41>", "<0xC3>", "<0xA9>", "<0xFF>", "<t>", "▁", "a",
        "b", "c", "▁a", "ab", "▁ab", "x",
    ];
    let types = [&[2, 3, 3][..], &[6; 7], &[4]].concat();
    let filling = (known.len()..count).map(|id| format!("x{id}"));
    let tokens: Vec<String> = known.map(str::to_owned).into_iter().chain(filling).collect();
    let types: Vec<i32> = types.into_iter().chain(std::iter::repeat(1)).take(tokens.len()).collect();
    let scores = (0..tokens.len()).flat_map(|id| (-(id as f32)).to_le_bytes());
    file.set("tokenizer.ggml.model", value::STRING, string(b"llama"));
    file.set("tokenizer.ggml.tokens", value::ARRAY, texts(&tokens));
    file.set("tokenizer.ggml.scores", value::ARRAY, array(value::F32, tokens.len(), scores));
    file.set("tokenizer.ggml.token_type", value::ARRAY, integers(&types));
    file.set("tokenizer.ggml.bos_token_id", value::U32, 1u32.to_le_bytes());
    file.set("tokenizer.ggml.eos_token_id", value::U32, 2u32.to_le_bytes());
}
