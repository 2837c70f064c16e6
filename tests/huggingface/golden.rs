//! Every golden checkpoint, opened as a directory, gives the logits and the greedy ids of the reference.

use half::{bf16, f16};
use sterna::backend::{CachePrecision, Numerics};
use sterna::cpu::KernelSet;
use sterna::format::{Scales, Weights};
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::{Model, OpenOptions, Part, Role};

use crate::cpu::cpu;
use crate::data;
use crate::directory::Directory;
use crate::reference_values::Golden;

/// Logits against the largest: f32 arithmetic in another order (tests/data/golden/README.md).
const LOGITS: f32 = 1e-4;

/// A directory, and the one with its reference values.
const MODELS: [(&str, &str); 12] = [
    ("bitnet-256", "bitnet-256"),
    ("bitnet-384", "bitnet-384"),
    ("bitnet-128-online", "bitnet-128-online"),
    ("bitnet-128-silu", "bitnet-128-silu"),
    ("llama-256", "llama-256"),
    ("qwen3-256", "qwen3-256"),
    ("qwen3-256-mlx", "qwen3-256"),
    ("qwen3-yarn", "qwen3-yarn"),
    ("trilm-128", "trilm-128"),
    ("qwen35-128-hf", "qwen35-128-hf"),
    ("qwen35-128-hf-mlx", "qwen35-128-hf"),
    ("qwen35-hadamard-v1-mlx", "qwen35-hadamard-v1"),
];

pub fn session(model: &Model) -> Session {
    let options = SessionOptions { cache: CachePrecision::F32, ..SessionOptions::default() };
    Session::with_backend(model, cpu(KernelSet::best(), 2), &options).unwrap()
}

/// Activations in floats where the model was trained so, as the reference computes.
pub fn open(path: &std::path::Path) -> Model {
    let model = Model::open(path).unwrap();
    match model.config().numerics {
        Numerics::Int8Rows => model,
        _ => {
            let options = OpenOptions { numerics: Some(Numerics::Float), ..OpenOptions::default() };
            Model::open_with(path, &options).unwrap()
        }
    }
}

/// The largest difference of the logits, relative to the largest; greedy ids are equal.
pub fn check(model: &Model, reference: &str) {
    let golden = Golden::read(&format!("golden/{reference}/golden.safetensors"));
    let input = golden.values::<u32>("input_ids");
    let mut found = Vec::new();
    session(model).evaluate(&input, &mut |_, row| found.extend_from_slice(row)).unwrap();
    let wanted = golden.values::<f32>("logits");
    let largest = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(found.len() == wanted.len() && found.iter().all(|v| v.is_finite()));
    let error = found.iter().zip(&wanted).fold(0f32, |m, (f, w)| m.max((f - w).abs())) / largest;
    assert!(error <= LOGITS, "{reference}: logits differ by {error:e}");

    let options = GenerateOptions { max_tokens: 32, ignore_end: true, ..GenerateOptions::greedy() };
    let ids: Result<Vec<u32>, _> = session(model).generate_ids(&input, &options).unwrap().collect();
    assert_eq!(ids.unwrap(), golden.values::<u32>("greedy"), "{reference}");
}

fn decision(model: &Model, subject: &str) -> String {
    model.decisions().iter().find(|decision| decision.subject == subject).unwrap().to_string()
}

#[test]
fn logits_and_greedy_ids_equal_the_reference() {
    for (directory, reference) in MODELS {
        check(&open(&data(directory)), reference);
    }
}

#[test]
fn weights_equal_those_of_the_gguf_file() {
    for (name, file) in [("bitnet-256", "i2_s"), ("bitnet-384", "i2_s"), ("bitnet-128-online", "i2_s")] {
        let ours = Model::open(data(name)).unwrap();
        let gguf = Model::open(data(name).join(format!("{file}.gguf"))).unwrap();
        for layer in 0..2 {
            for (part, _) in Part::ALL.iter().filter(|(part, _)| part.is_linear() && part.is_in(ours.config(), layer)) {
                let role = Role::Layer(layer, *part);
                let (Some(Weights::Ternary(a)), Some(Weights::Ternary(b))) =
                    (ours.weights(role).unwrap(), gguf.weights(role).unwrap())
                else {
                    panic!("{name}: {role:?} is not ternary")
                };
                assert_eq!(a.codes(), b.codes(), "{name}: {role:?}");
                assert!(matches!((a.scales(), b.scales()), (Scales::Tensor(a), Scales::Tensor(b)) if a == b));
            }
        }
    }
}

#[test]
fn a_weight_file_stands_for_its_directory() {
    check(&open(&data("llama-256/model.safetensors")), "llama-256");
}

#[test]
fn what_was_decided_is_told() {
    let packed = Model::open(data("bitnet-256")).unwrap();
    assert!(decision(&packed, "linear layers").contains("multiplied by weight_scale"));
    assert!(decision(&packed, "linear layers").contains("autobitlinear"));
    assert!(decision(&packed, "head").contains("tied to the embedding (config.json"));
    assert!(decision(&packed, "numerics").contains("one scale for each token"));
    assert!(decision(&packed, "tokenizer").contains("no tokenizer.json"));
    assert!(packed.tokenizer().unwrap_err().to_string().contains("token ids"));
    let divided = Model::open(data("llama-256")).unwrap();
    assert!(decision(&divided, "linear layers").contains("divided by weight_scale (the linear class is bitlinear)"));
    assert!(decision(&divided, "head").contains("its own matrix"));
    let latent = Model::open(data("bitnet-128-online")).unwrap();
    assert!(decision(&latent, "linear layers").contains("mean of their magnitudes"));
    let hidden = Model::open(data("qwen3-256")).unwrap();
    assert!(decision(&hidden, "linear layers").contains("ternary already"));
    assert!(decision(&hidden, "ternary weights").contains("one scale for 128 columns, exact"));
    assert!(matches!(hidden.weights(Role::Embedding).unwrap(), Some(Weights::Ternary(_))));
    assert!(decision(&hidden, "embedding").contains("trits and scales, if all rows are like the first 16"));
    assert!(packed.decisions().iter().all(|decision| decision.subject != "embedding"), "BitNet's are floats");
    let floats = Model::open(data("trilm-128")).unwrap();
    assert!(decision(&floats, "embedding").contains("floats (the first 16 rows of \"model.embed_tokens.weight\""));
    assert!(decision(&floats, "head values").contains("floats (the first 16 rows of \"lm_head.weight\""));
    let words = Model::open(data("qwen3-256-mlx")).unwrap();
    assert!(decision(&words, "linear layers").contains("MLX"));
    assert!(decision(&words, "numerics").contains("no int8 activations"));
}

#[test]
fn the_tokenizer_and_the_chat_template_come_with_the_directory() {
    let directory = Directory::golden("bitnet-128-silu");
    directory.write("tokenizer_config.json", br#"{"chat_template": "{{ messages }}"}"#);
    let model = Model::open(&directory.path).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (Some(509), Some(510), true));
    assert_eq!(model.chat_template(), Some("{{ messages }}"));
    assert_eq!(Model::open(data("bitnet-128-silu")).unwrap().chat_template(), None);
    let text: String = session(&model)
        .generate("Once upon a time", &GenerateOptions { max_tokens: 4, ..GenerateOptions::greedy() })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(!text.is_empty());
}

/// 1bitLLM's own code names its norms otherwise, calls itself llama, and always rounds latent weights.
#[test]
fn a_1bitllm_checkpoint_is_a_bitnet_model() {
    let directory = Directory::golden("bitnet-128-online");
    directory.config(|config| {
        config["architectures"] = serde_json::json!(["BitnetForCausalLM"]);
        config["model_type"] = "llama".into();
        config.as_object_mut().unwrap().remove("quantization_config");
    });
    directory.tensors(|tensors| {
        for layer in 0..2 {
            for (new, old) in
                [("self_attn.attn_sub_norm", "self_attn.inner_attn_ln"), ("mlp.ffn_sub_norm", "mlp.ffn_layernorm")]
            {
                let name = |name: &str| format!("model.layers.{layer}.{name}.weight");
                let tensor = tensors.remove(&name(new)).unwrap();
                tensors.insert(name(old), tensor);
            }
        }
    });
    check(&Model::open(&directory.path).unwrap(), "bitnet-128-online");
}

/// Falcon-E's `bfloat16` revision and TriLM hold trits times their scale as floats.
#[test]
fn floats_that_are_ternary_are_found_and_others_are_refused_by_name() {
    let golden = Model::open(data("llama-256")).unwrap();
    let directory = Directory::golden("llama-256");
    directory.config(|config| {
        config.as_object_mut().unwrap().remove("quantization_config");
    });
    directory.tensors(|tensors| {
        for (role, name) in linear_layers() {
            let Some(Weights::Ternary(weights)) = golden.weights(role).unwrap() else { panic!("not ternary") };
            let values = (0..weights.rows())
                .flat_map(|row| weights.row_trits(row).map(move |trit| (row, trit)).collect::<Vec<_>>())
                .flat_map(|(row, trit)| (f32::from(trit) * weights.scale(row, 0)).to_le_bytes())
                .collect();
            tensors.remove(&format!("{name}.weight_scale")).unwrap();
            let tensor = tensors.get_mut(&format!("{name}.weight")).unwrap();
            tensor.dtype = safetensors::Dtype::F32;
            tensor.shape = vec![weights.rows(), weights.cols()];
            tensor.bytes = values;
        }
    });
    let options = OpenOptions { numerics: Some(Numerics::Int8Rows), ..OpenOptions::default() };
    check(&Model::open_with(&directory.path, &options).unwrap(), "llama-256");

    directory.tensors(|tensors| {
        let tensor = tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap();
        tensor.bytes[..4].copy_from_slice(&0.123f32.to_le_bytes());
    });
    let error = Model::open(&directory.path).unwrap().weights(Role::Layer(1, Part::Up)).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight") && error.contains("not ternary"), "{error}");
}

fn linear_layers() -> Vec<(Role, String)> {
    const NAMES: [(Part, &str); 7] = [
        (Part::Query, "self_attn.q_proj"),
        (Part::Key, "self_attn.k_proj"),
        (Part::Value, "self_attn.v_proj"),
        (Part::AttentionOutput, "self_attn.o_proj"),
        (Part::Gate, "mlp.gate_proj"),
        (Part::Up, "mlp.up_proj"),
        (Part::Down, "mlp.down_proj"),
    ];
    let layer =
        |layer| NAMES.map(|(part, name)| (Role::Layer(layer, part), format!("model.layers.{layer}.{name}"))).to_vec();
    (0..2).flat_map(layer).collect()
}

/// A scale that is stored in another format, or as a scalar, is the same scale.
#[test]
fn scales_may_be_of_any_float_format() {
    let directory = Directory::golden("bitnet-256");
    directory.tensors(|tensors| {
        for (which, (_, name)) in linear_layers().into_iter().enumerate() {
            let tensor = tensors.get_mut(&format!("{name}.weight_scale")).unwrap();
            let value = bf16::from_le_bytes([tensor.bytes[0], tensor.bytes[1]]).to_f32();
            if which % 2 == 0 && f16::from_f32(value).to_f32() == value {
                tensor.dtype = safetensors::Dtype::F16;
                tensor.bytes = f16::from_f32(value).to_le_bytes().to_vec();
            } else {
                tensor.dtype = safetensors::Dtype::F32;
                tensor.bytes = value.to_le_bytes().to_vec();
                tensor.shape = Vec::new();
            }
        }
    });
    check(&Model::open(&directory.path).unwrap(), "bitnet-256");
}

/// The first rows are trits, and a later one is not: what is told holds all the same.
#[test]
fn an_embedding_that_is_ternary_only_at_its_beginning_stays_floats() {
    let directory = Directory::golden("qwen3-256");
    directory.tensors(|tensors| {
        let bytes = &mut tensors.get_mut("model.embed_tokens.weight").unwrap().bytes;
        let (first, other) = (bytes.len() - 512, f16::from_f32(0.123).to_le_bytes()); // a value of the last row
        bytes[first..first + 2].copy_from_slice(&other);
        bytes[first + 2..first + 4].copy_from_slice(&f16::from_f32(0.456).to_le_bytes());
    });
    let model = Model::open(&directory.path).unwrap();
    assert!(decision(&model, "embedding").contains("else floats"));
    assert!(matches!(model.weights(Role::Embedding).unwrap(), Some(Weights::Dense(_))));
}

/// Every tensor in groups of 64 is the same model, and so is one whose embedding has 4 bits.
#[test]
fn mlx_checkpoints_in_other_groups_or_with_wider_embeddings_are_the_same_model() {
    let halved = Directory::golden("qwen3-256-mlx");
    halved.tensors(|tensors| {
        for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.ends_with(".scales") || name.ends_with(".biases"))
        {
            tensor.bytes = tensor.bytes.chunks_exact(2).flat_map(|value| [value, value].concat()).collect();
            tensor.shape[1] *= 2;
        }
    });
    check(&open(&halved.path), "qwen3-256");
    halved.tensors(|tensors| {
        for ending in ["scales", "biases"] {
            let tensor = tensors.get_mut(&format!("model.layers.1.mlp.up_proj.{ending}")).unwrap();
            tensor.bytes[1] ^= 0b100; // a power of two in both
        }
    });
    let error = Model::open(&halved.path).unwrap().weights(Role::Layer(1, Part::Up)).unwrap_err().to_string();
    assert!(error.contains("model.layers.1.mlp.up_proj.weight") && error.contains("groups of 64 columns"), "{error}");

    let wide = Directory::golden("qwen3-256-mlx");
    wide.tensors(|tensors| {
        let tensor = tensors.get_mut("model.embed_tokens.weight").unwrap();
        tensor.shape[1] *= 2;
        let wider = |byte: &u8| [byte & 3 | (byte >> 2 & 3) << 4, byte >> 4 & 3 | byte >> 6 << 4];
        tensor.bytes = tensor.bytes.iter().flat_map(wider).collect();
    });
    let model = open(&wide.path);
    assert!(matches!(model.weights(Role::Embedding).unwrap(), Some(Weights::Dense(_))));
    check(&model, "qwen3-256");
}
