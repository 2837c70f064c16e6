//! Keys of the config that are missing, impossible or of another type.

use sterna::backend::Numerics;
use sterna::format::gguf::Gguf;
use sterna::model::{Config, Model};

use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::{GgufWriter, array, string};
use crate::{FAMILIES, FILES, Fate};

/// Values of all types: (type id, encoded value).
fn lies() -> Vec<(u32, Vec<u8>)> {
    let unsigned = [0, 1, 2, 3, 1 << 12, (1 << 12) + 1, 1 << 14, 1 << 24, (1 << 24) + 1, 1 << 31, u32::MAX];
    let mut lies: Vec<(u32, Vec<u8>)> = unsigned.iter().map(|n| (4, n.to_le_bytes().to_vec())).collect();
    lies.extend([-1, i32::MIN, i32::MAX].map(|n: i32| (5, n.to_le_bytes().to_vec())));
    lies.extend([1 << 32, 1 << 63, u64::MAX].map(|n: u64| (10, n.to_le_bytes().to_vec())));
    let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.0, 1.0, 1e-45, f32::MAX, 0.999];
    lies.extend(floats.map(|x| (6, x.to_le_bytes().to_vec())));
    let doubles = [f64::NAN, 5e-324, 1e-300, 1.0 - f64::EPSILON, 1.0 + f64::EPSILON, f64::MAX];
    lies.extend(doubles.map(|x| (12, x.to_le_bytes().to_vec())));
    lies.extend([(7, vec![1]), (8, string("many")), (0, vec![255]), (1, vec![255])]);
    let numbers = |n: &[u32]| array(4, n.len() as u64, n.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>());
    lies.extend([&[][..], &[2, 2], &[2, 3], &[0, 0], &[u32::MAX]].map(|n| (9, numbers(n))));
    lies.extend([(9, array(5, 1, [255; 4])), (9, array(6, 1, [0; 4])), (9, array(8, 1, string("many")))]);
    lies
}

/// Keys that are read as sizes or numbers, whether or not the golden files have them.
const KEYS: [&str; 13] = [
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.type",
];

/// Keys that only some families read, in files of those families.
const FAMILY_KEYS: [(&str, &[&str]); 4] = [
    (
        FAMILIES[0],
        &[
            "rope.scaling.factor",
            "rope.scaling.original_context_length",
            "rope.scaling.yarn_beta_fast",
            "rope.scaling.yarn_beta_slow",
            "rope.scaling.attn_factor",
        ],
    ),
    (
        FAMILIES[1],
        &[
            "rope.scaling.original_context_length",
            "rope.scaling.attn_factor",
            "embedding_scale",
            "residual_scale",
            "logit_scale",
        ],
    ),
    (FAMILIES[2], &["rope.scale_linear", "rope.scaling.type"]),
    (
        FAMILIES[3],
        &["attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa", "pooling_type"],
    ),
];

fn architecture(file: &GgufWriter) -> String {
    let key = "general.architecture";
    let value = &file.pairs.iter().find(|pair| pair.0 == key.as_bytes()).expect("a golden file has it").2;
    String::from_utf8(value[8..].to_vec()).expect("an architecture is ASCII")
}

#[test]
fn every_key_of_the_config_that_lies_is_named_or_gives_a_legal_model() {
    for file in FILES {
        lies_are_named_or_legal(file, &KEYS);
    }
}

#[test]
fn every_key_of_a_family_that_lies_is_named_or_gives_a_legal_model() {
    for (file, keys) in FAMILY_KEYS {
        lies_are_named_or_legal(file, keys);
    }
}

fn lies_are_named_or_legal(file: &str, keys: &[&str]) {
    let mut attacked = parts(file);
    let architecture = architecture(&attacked);
    for key in keys {
        let key = format!("{architecture}.{key}");
        let original = attacked.pairs.iter().find(|pair| pair.0 == key.as_bytes()).cloned();
        for (type_id, value) in lies() {
            let fate = attacked.set(&key, type_id, value.clone()).fate();
            match fate.text() {
                None => {}
                Some(text) => {
                    // Itself, or the key or tensor that it contradicts.
                    let named = text.contains(&format!("\"{architecture}.")) || text.contains(".weight\"");
                    assert!(named, "{file}: {key} of type {type_id}, {value:?}: {text}");
                    assert!(matches!(fate, Fate::Refused(_)), "{file}: {key} of type {type_id}, {value:?}: {text}");
                }
            }
        }
        attacked.unset(&key);
        attacked.pairs.extend(original);
    }
    attacked.fate().ran();
}

/// The golden bitnet with one change.
fn bitnet(change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(FILES[0])).fate()
}

#[test]
fn impossible_values_are_told_with_their_limits() {
    let u32s = |key: &str, value: u32| bitnet(|f| f.set_u32(&format!("bitnet.{key}"), value));
    u32s("block_count", 0).refused(&["\"bitnet.block_count\" is 0", "1 to"]);
    u32s("block_count", 4097).refused(&["\"bitnet.block_count\" is 4097", "1 to 4096"]);
    u32s("block_count", 4096).refused(&["\"blk.2.attn_norm.weight\" is missing"]);
    u32s("block_count", 1).refused(&["\"blk.1.attn_q.weight\"", "no place", "1 layers"]);
    u32s("embedding_length", 256).refused(&["\"token_embd.weight\" is [128, 512]", "[256, 512]"]);
    u32s("embedding_length", u32::MAX).refused(&["\"bitnet.embedding_length\" is 4294967295", "16777216"]);
    u32s("feed_forward_length", 385).refused(&["\"blk.0.ffn_gate.weight\" is [128, 384]", "[128, 385]"]);
    u32s("attention.head_count", 3).refused(&["3 query heads", "2 key heads", "\"bitnet.attention.head_count_kv\""]);
    u32s("attention.head_count", 256).refused(&[
        "heads of 0",
        "\"bitnet.attention.key_length\"",
        "/ \"bitnet.attention.head_count\" 256",
    ]);
    u32s("attention.key_length", 16_384).refused(&["\"blk.0.attn_q.weight\"", "[128, 32768]"]);
    u32s("attention.key_length", 16_386).refused(&["\"bitnet.attention.key_length\"", "16386", "at most 16384"]);
    u32s("attention.key_length", 63).refused(&["\"bitnet.attention.key_length\"", "63", "even"]);
    u32s("attention.value_length", 32).refused(&["\"bitnet.attention.value_length\"", "64", "32", "equal"]);
    u32s("rope.dimension_count", 66).refused(&["\"bitnet.rope.dimension_count\" is 66", "64"]);
    u32s("rope.dimension_count", 63).refused(&["\"bitnet.rope.dimension_count\" is 63", "even"]);
    u32s("context_length", 0).refused(&["\"bitnet.context_length\" is 0"]);
    u32s("context_length", 1).ran();
    u32s("context_length", 1 << 24).ran();
    u32s("vocab_size", u32::MAX).ran(); // the embedding says how many rows it has, so nobody asks
    let f32s = |key: &str, value: f32| bitnet(|f| f.set_f32(&format!("bitnet.{key}"), value));
    f32s("rope.freq_base", f32::NAN).refused(&["\"bitnet.rope.freq_base\" is NaN"]);
    f32s("rope.freq_base", f32::INFINITY).refused(&["\"bitnet.rope.freq_base\" is inf"]);
    f32s("rope.freq_base", f32::MAX).ran();
    f32s("attention.layer_norm_rms_epsilon", f32::NAN).refused(&["layer_norm_rms_epsilon\" is NaN", "between 0 and 1"]);
    f32s("attention.layer_norm_rms_epsilon", 1e-45).ran();
    f32s("rope.scaling.factor", 0.0).refused(&["\"bitnet.rope.scaling.factor\" is the factor 0;", "1000000"]);
    f32s("rope.scaling.factor", 1e-30).refused(&["\"bitnet.rope.scaling.factor\""]);
    bitnet(|f| f.set("bitnet.attention.layer_norm_rms_epsilon", 12, 1e-300_f64.to_le_bytes()))
        .refused(&["layer_norm_rms_epsilon\" is 0.000", "between 0 and 1"]);
    bitnet(|f| f.set_text("bitnet.rope.scaling.type", "ntk"))
        .refused(&["\"bitnet.rope.scaling.type\" is \"ntk\"", "none, linear, yarn and longrope"]);
    bitnet(|f| f.set_text("bitnet.block_count", "two")).refused(&["\"bitnet.block_count\"", "integer", "\"two\""]);
    bitnet(|f| f.set("bitnet.block_count", 9, array(8, 1, string("two"))))
        .refused(&["\"bitnet.block_count\" must hold sizes", "\"two\""]);
    bitnet(|f| f.set("bitnet.block_count", 9, array(4, 2, [2, 0, 0, 0, 3, 0, 0, 0])))
        .refused(&["\"bitnet.block_count\" differs from layer to layer"]);
    bitnet(|f| f.set("bitnet.block_count", 9, array(4, 2, [2, 0, 0, 0, 2, 0, 0, 0]))).ran();
}

#[test]
fn every_required_key_that_is_missing_is_named() {
    let required = ["block_count", "embedding_length", "feed_forward_length", "context_length", "attention.head_count"];
    for key in required.into_iter().chain(["attention.layer_norm_rms_epsilon"]) {
        let key = format!("bitnet.{key}");
        bitnet(|f| f.unset(&key)).refused(&[&format!("\"{key}\" is missing")]);
    }
    bitnet(|f| f.unset("general.architecture")).refused(&["\"general.architecture\" is missing"]);
    for key in ["attention.head_count_kv", "rope.dimension_count", "rope.freq_base", "vocab_size"] {
        bitnet(|f| f.unset(&format!("bitnet.{key}"))).ran();
    }
}

#[test]
fn an_unknown_architecture_is_told_before_its_tensors_are_missed() {
    let known = "bitnet-b1.58, bitnet-25, bitnet, llama, qwen3, qwen35, maple, minicpm, hunyuan-dense, gemma3";
    bitnet(|f| f.set_text("general.architecture", "clip")).refused(&["\"clip\"", known]);
    bitnet(|f| {
        f.tensors.retain(|tensor| tensor.name != b"token_embd.weight");
        f.set_text("general.architecture", "clip")
    })
    .refused(&["\"clip\"", known]);
    bitnet(|f| f.set_u32("general.architecture", 7)).refused(&["\"general.architecture\"", "a string", "7"]);
    let endless = "\x1b[2J".repeat(100_000);
    bitnet(|f| f.set_text("general.architecture", &endless)).refused(&["\\u{1b}[2J", known]);
    bitnet(|f| f.set_text("bitnet.rope.scaling.type", &endless)).refused(&["\\u{1b}[2J", "none, linear"]);
    bitnet(|f| f.set_text("tokenizer.ggml.model", &endless)).refused(&["\\u{1b}[2J", "gpt2, llama"]);
    bitnet(|f| f.set_text("tokenizer.ggml.pre", &endless)).refused(&["\\u{1b}[2J", "llama-bpe"]);
}

#[test]
fn files_that_are_sound_but_another_kind_of_model_are_refused() {
    bitnet(|f| f.set("split.count", 2, 3_u16.to_le_bytes())).refused(&["one of 3 files", "merge"]);
    let other = |name: &str| bitnet(|f| f.set_text("general.architecture", name));
    other("hy_v4").refused(&["\"hy_v4\"", "Hy4", "this version runs"]);
    other("qwen2").refused(&["\"qwen2\"", "a norm before each projection", "this version runs"]);
    other("parakeet").refused(&["\"parakeet\"", "speech"]);
}

#[test]
fn a_llama_with_a_vocabulary_of_trilm_runs_as_it_was_trained() {
    let mut trilm = parts(FILES[1]);
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = trilm.named(name);
        tensor.shape[1] = 50_432;
        tensor.data.resize(50_432 * 256 * 2, 0);
    }
    trilm.fate().ran();
    let file = TemporaryFile::new(&trilm.bytes());
    let model = Model::open(&file.path).unwrap();
    assert_eq!(model.config().numerics, Numerics::Int8Groups);
    let told = model.decisions().iter().any(|decision| decision.to_string().contains("TriLM"));
    assert!(told, "{:?}", model.decisions());
}

#[test]
fn a_scaling_factor_counts_without_its_type_and_not_against_it() {
    let first_frequency = |change: fn(&mut GgufWriter) -> &mut GgufWriter| {
        let file = TemporaryFile::new(&change(parts(FILES[0]).set_f32("bitnet.rope.scaling.factor", 4.0)).bytes());
        Model::open(&file.path).unwrap().config().rope.frequencies[0]
    };
    assert_eq!(first_frequency(|f| f), 0.25);
    assert_eq!(first_frequency(|f| f.set_text("bitnet.rope.scaling.type", "linear")), 0.25);
    assert_eq!(first_frequency(|f| f.set_text("bitnet.rope.scaling.type", "none")), 1.0);
}

#[test]
fn sizes_that_no_tensor_vouches_for_are_bounded_too() {
    let bytes = parts(FILES[0]).bytes();
    let gguf = Gguf::parse(bytes.into()).unwrap();
    let config = |vocabulary| Config::from_gguf(&gguf, vocabulary);
    assert!(config(1 << 24).is_ok());
    for vocabulary in [0, (1 << 24) + 1, usize::MAX] {
        let error = config(vocabulary).unwrap_err().to_string();
        assert!(error.contains(&format!("a vocabulary of {vocabulary};")), "{error}");
    }
    // The largest sizes that keys may claim: their product does not wrap.
    let mut largest = parts(FILES[0]);
    for key in ["embedding_length", "feed_forward_length"] {
        largest.set_u32(&format!("bitnet.{key}"), 1 << 24);
    }
    for key in ["attention.head_count", "attention.head_count_kv"] {
        largest.set_u32(&format!("bitnet.{key}"), 1 << 10);
    }
    largest.set_u32("bitnet.attention.key_length", 1 << 14).set_u32("bitnet.block_count", 1 << 12);
    let gguf = Gguf::parse(largest.bytes().into()).unwrap();
    let (config, _) = Config::from_gguf(&gguf, 1 << 24).unwrap();
    assert_eq!(config.ternary_weights(), 7 << 60);
}
