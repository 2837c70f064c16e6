//! How much memory opening a directory takes. Weights are mapped; what is allocated is what the JSON files say, and one
//! small layer that is looked into. No number in a file is believed before the bytes behind it were counted.

use std::collections::BTreeMap;

use safetensors::tensor::Dtype;
use serde_json::{Value as Json, json};
use sterna::model::Model;

use crate::counting_allocator::peak_bytes;
use crate::directory::{Directory, Tensor, file, raw};

/// What opening may hold for a directory with the golden files' 512 tokens, whatever its numbers claim.
const SMALL_MODEL_BYTES: usize = 1 << 20;

/// What each byte of a file may hold beside, and how much of the file is read at all. Measured: 95 for a config of small
/// objects, each a tree of its own; 25 for a header in which one tensor has millions of axes, which are values before they
/// are numbers; 12 for an index of empty names; 10 for ids that end a text, a list that grows twofold.
const CONFIG: Bound = Bound { name: "config.json", bytes_for_a_byte: 100, accepted: 1 << 18 };
const HEADER: Bound = Bound { name: "model.safetensors", bytes_for_a_byte: 26, accepted: 4 << 20 };
const INDEX: Bound = Bound { name: "model.safetensors.index.json", bytes_for_a_byte: 14, accepted: 16 << 20 };
const TOKENIZER: Bound = Bound { name: "tokenizer.json", bytes_for_a_byte: 16, accepted: 64 << 20 };
const TOKENIZER_CONFIG: Bound = Bound { name: "tokenizer_config.json", bytes_for_a_byte: 12, accepted: 16 << 20 };
const GENERATION_CONFIG: Bound = Bound { name: "generation_config.json", bytes_for_a_byte: 12, accepted: 16 << 20 };

#[derive(Clone, Copy)]
struct Bound {
    name: &'static str,
    bytes_for_a_byte: usize,
    accepted: usize,
}

impl Bound {
    /// Opens a golden directory with this file in place of its own.
    #[track_caller]
    fn holds(self, text: &str) {
        let bytes = if self.name == HEADER.name { raw(text) } else { text.as_bytes().to_vec() };
        assert!(bytes.len() <= self.accepted + 8, "{}: the test is meant for files that are read", self.name);
        let directory = Directory::golden("bitnet-128-silu");
        if self.name == INDEX.name {
            directory.remove("model.safetensors");
        }
        directory.write(self.name, &bytes);
        let (model, peak) = peak_bytes(|| Model::open(&directory.path));
        let (limit, shown) = (SMALL_MODEL_BYTES + self.bytes_for_a_byte * bytes.len(), model.map(|_| ()));
        assert!(peak < limit, "{}: {peak} bytes for {} to {shown:.200?}", self.name, bytes.len());
    }

    /// A file of more bytes than are accepted is not read.
    #[track_caller]
    fn refuses_more(self) {
        let directory = Directory::golden("bitnet-128-silu");
        if self.name == INDEX.name {
            directory.remove("model.safetensors");
        }
        let text = " ".repeat(self.accepted + 1);
        directory.write(self.name, &if self.name == HEADER.name { raw(&text) } else { text.into_bytes() });
        let (model, peak) = peak_bytes(|| Model::open(&directory.path));
        let error = model.expect_err("it is too long").to_string();
        assert!(error.contains(&format!("at most {} are accepted", self.accepted)), "{error}");
        assert!(peak < SMALL_MODEL_BYTES, "{}: {peak} bytes", self.name);
    }
}

/// `count` elements between an opening and an ending.
fn list(opening: &str, count: usize, element: impl Fn(usize) -> String, ending: &str) -> String {
    let elements: Vec<String> = (0..count).map(element).collect();
    format!("{opening}{}{ending}", elements.join(","))
}

fn same(text: &str) -> impl Fn(usize) -> String {
    move |_| text.into()
}

#[test]
fn opening_a_small_directory_holds_a_constant() {
    for name in ["bitnet-256", "bitnet-128-silu", "embedding-gemma3", "qwen3-256", "qwen3-256-mlx"] {
        let directory = Directory::golden(name);
        let (model, peak) = peak_bytes(|| Model::open(&directory.path));
        assert!(model.is_ok() && peak < SMALL_MODEL_BYTES, "{name}: {peak} bytes");
    }
}

#[test]
fn a_config_holds_a_constant_for_each_of_its_bytes() {
    CONFIG.holds(&list("{\"a\":[", 100_000, same("0"), "]}"));
    CONFIG.holds(&list("{\"a\":[", 80_000, same("{}"), "]}"));
    CONFIG.holds(&list("{\"a\":[", 60_000, same("[0]"), "]}"));
    CONFIG.holds(&list("{\"a\":[", 35_000, same("{\"\":0}"), "]}"));
    CONFIG.holds(&list("{", 20_000, |i| format!("\"{i:x}\":0"), "}"));
    // A list that is asked for.
    let golden: Json = serde_json::from_slice(&Directory::golden("bitnet-128-silu").bytes("config.json")).unwrap();
    for field in ["layer_types", "architectures", "eos_token_id"] {
        let mut config = golden.clone();
        config[field] = json!(vec![0; 100_000]);
        CONFIG.holds(&config.to_string());
    }
    CONFIG.refuses_more();
}

#[test]
fn a_header_or_an_index_holds_a_constant_for_each_of_its_bytes() {
    let empty = |i: usize| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    HEADER.holds(&list("{", 70_000, empty, "}"));
    HEADER.holds(&list("{\"__metadata__\":{", 300_000, |i| format!("\"{i:x}\":\"\""), "}}"));
    HEADER.holds(&list("{\"a\":{\"dtype\":\"U8\",\"shape\":[", 2_000_000, same("0"), "],\"data_offsets\":[0,0]}}"));
    HEADER.holds(&list("{\"a\":[", 2_000_000, same("0"), "]}"));
    HEADER.refuses_more();
    INDEX.holds(&list("{\"weight_map\":{", 100_000, |i| format!("\"{i:x}\":\"a.safetensors\""), "}}"));
    INDEX.holds(&list("{\"weight_map\":{", 100_000, |i| format!("\"{i:x}\":\"{i:x}.safetensors\""), "}}"));
    INDEX.holds(&list("{\"weight_map\":{", 100_000, |i| format!("\"{i:x}\":\"\""), "}}"));
    INDEX.holds(&list("{\"weight_map\":{},\"metadata\":[", 1_000_000, same("0"), "]}"));
    INDEX.refuses_more();
}

#[test]
fn a_tokenizer_and_what_lies_beside_it_hold_a_constant_for_each_of_their_bytes() {
    let golden: Json = serde_json::from_slice(&Directory::golden("bitnet-128-silu").bytes("tokenizer.json")).unwrap();
    let changed = |change: &dyn Fn(&mut Json)| {
        let mut tokenizer = golden.clone();
        change(&mut tokenizer);
        TOKENIZER.holds(&tokenizer.to_string());
    };
    changed(&|t| t["model"]["vocab"] = (0..200_000).map(|i| (format!("{i:x}"), json!(i))).collect());
    changed(&|t| t["model"]["vocab"] = vec![0; 1_000_000].into());
    let merge = golden["model"]["merges"][0].clone();
    changed(&|t| t["model"]["merges"] = vec![merge.clone(); 200_000].into());
    changed(&|t| t["model"]["merges"] = vec![json!(["", ""]); 200_000].into());
    changed(&|t| t["model"]["merges"] = vec![json!(0); 1_000_000].into());
    changed(&|t| t["added_tokens"] = vec![json!({"id": 0, "content": ""}); 100_000].into());
    changed(&|t| t["pre_tokenizer"] = vec![json!({}); 100_000].into());
    changed(&|t| t["post_processor"] = vec![json!({}); 100_000].into());
    TOKENIZER.refuses_more();

    TOKENIZER_CONFIG.holds(&list("{\"bos_token\":[", 1_000_000, same("0"), "]}"));
    TOKENIZER_CONFIG.holds(&list("{\"bos_token\":{\"content\":[", 1_000_000, same("0"), "]}}"));
    TOKENIZER_CONFIG.holds(&list("{\"chat_template\":[", 500_000, same("{}"), "]}"));
    TOKENIZER_CONFIG.holds(&list("{\"chat_template\":[", 50_000, same("{\"name\":\"\",\"template\":\"\"}"), "]}"));
    TOKENIZER_CONFIG.holds(&list("{\"x\":[", 1_000_000, same("0"), "]}"));
    TOKENIZER_CONFIG.refuses_more();
    GENERATION_CONFIG.holds(&list("{\"eos_token_id\":[", 1_000_000, same("0"), "]}"));
    GENERATION_CONFIG.holds(&list("{\"eos_token_id\":[", 500_000, same("[]"), "]}"));
    GENERATION_CONFIG.refuses_more();
}

/// A model of two features, whose rows are padded to 128 where they are looked into: for 4 bytes in the file 32 of trits,
/// and beside them a list of what was found in each row.
#[test]
fn a_layer_that_is_looked_into_holds_a_constant_for_each_of_its_bytes() {
    const BYTES_FOR_A_BYTE: usize = 48; // measured: 46
    const ROWS: usize = 1 << 14;
    let mut tensors = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| {
        let bytes = half::f16::ONE.to_le_bytes().repeat(shape.iter().product());
        tensors.insert(format!("model.{name}.weight"), Tensor { dtype: Dtype::F16, shape: shape.to_vec(), bytes });
    };
    add("embed_tokens", &[ROWS, 2]);
    add("norm", &[2]);
    for (name, shape) in [
        ("input_layernorm", &[2][..]),
        ("post_attention_layernorm", &[2]),
        ("self_attn.q_proj", &[ROWS, 2]),
        ("self_attn.k_proj", &[ROWS, 2]),
        ("self_attn.v_proj", &[ROWS, 2]),
        ("self_attn.o_proj", &[2, ROWS]),
        ("mlp.gate_proj", &[1, 2]),
        ("mlp.up_proj", &[1, 2]),
        ("mlp.down_proj", &[2, 1]),
    ] {
        add(&format!("layers.0.{name}"), shape);
    }
    let directory = Directory::new();
    directory.write("model.safetensors", &file(&tensors));
    let config = json!({
        "model_type": "llama", "hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": ROWS / 2, "head_dim": 2,
        "vocab_size": ROWS, "intermediate_size": 1, "max_position_embeddings": 1, "rms_norm_eps": 1e-5,
    });
    directory.write_json("config.json", &config);
    let (model, peak) = peak_bytes(|| Model::open(&directory.path));
    assert!(model.is_ok(), "{model:?}");
    assert!(peak < SMALL_MODEL_BYTES + BYTES_FOR_A_BYTE * ROWS * 4, "{peak} bytes");
}
