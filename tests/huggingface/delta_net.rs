//! Directories of models with recurrent layers: nested and flat configs, what is left out, and fields that are impossible.

use serde_json::{Value as Json, json};
use sterna::format::Weights;
use sterna::model::{Model, Part, Role};

use crate::data;
use crate::directory::{Directory, Tensor};
use crate::golden::{check, open};

const QWEN: &str = "qwen35-128-hf";

/// A directory with one field of the inner config changed.
fn with(field: &str, value: &Json) -> Directory {
    let directory = Directory::golden(QWEN);
    directory.config(|config| config["text_config"][field] = value.clone());
    directory
}

#[track_caller]
fn refused(directory: &Directory, says: &[&str]) {
    let error = Model::open(&directory.path).expect_err("it is refused").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
    assert!(error.len() < 1500 && !error.contains(char::is_control), "{error:?}");
}

fn floats(model: &Model, role: Role) -> Vec<f32> {
    match model.weights(role).unwrap() {
        Some(Weights::Dense(dense)) => dense.to_f32(),
        other => panic!("{role:?}: {other:?}"),
    }
}

#[test]
fn every_weight_equals_that_of_the_gguf_file() {
    let gguf = Model::open(data("qwen35-128-hf/ptq1_0.gguf")).unwrap();
    for folder in [QWEN, "qwen35-128-hf-mlx"] {
        let ours = Model::open(data(folder)).unwrap();
        assert_eq!(ours.roles(), gguf.roles());
        for role in gguf.roles() {
            match (ours.weights(role).unwrap().unwrap(), gguf.weights(role).unwrap().unwrap()) {
                (Weights::Ternary(a), Weights::Ternary(b)) => {
                    assert_eq!(a.codes(), b.codes(), "{folder}: {role:?}");
                }
                (Weights::Dense(_), Weights::Dense(_)) => {
                    let (a, b) = (floats(&ours, role), floats(&gguf, role));
                    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
                    // Gains are kept in f16 there, and rates are an exponential.
                    let differ = a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-3 * largest);
                    assert!(a.len() == b.len() && !differ, "{folder}: {role:?}");
                }
                _ => panic!("{folder}: {role:?} is of two kinds"),
            }
        }
        let role = Role::Layer(0, Part::DeltaRate);
        assert!(floats(&ours, role).iter().all(|rate| *rate < 0.0));
    }
}

/// A text-only export: a flat config, and names without the part of a larger model.
#[test]
fn a_flat_config_says_the_same() {
    let flat = Directory::golden(QWEN);
    flat.config(|config| {
        let inner = config["text_config"].clone();
        *config = inner;
    });
    flat.tensors(|tensors| {
        let names: Vec<String> = tensors.keys().cloned().collect();
        for name in names {
            let tensor = tensors.remove(&name).unwrap();
            if let Some(rest) = name.strip_prefix("model.language_model.") {
                tensors.insert(format!("model.{rest}"), tensor);
            }
        }
    });
    check(&open(&flat.path), QWEN);
}

#[test]
fn layers_are_those_of_the_list_or_of_the_interval() {
    check(&open(&with("full_attention_interval", &json!(7)).path), QWEN);
    check(&open(&with("layer_types", &Json::Null).path), QWEN);
    let both = with("layer_types", &Json::Null);
    both.config(|config| config["text_config"]["full_attention_interval"] = json!(1));
    refused(&both, &["layers.0.self_attn.q_proj.weight", "missing"]);
    refused(&with("layer_types", &json!(["linear_attention"])), &["text_config.layer_types", "1 layers", "2"]);
    refused(
        &with("layer_types", &json!(["sliding_attention", "full_attention"])),
        &["sliding_attention", "linear_attention"],
    );
    refused(&with("layer_types", &json!([1, 2])), &["text_config.layer_types"]);
    refused(&with("full_attention_interval", &json!(0)), &["text_config.full_attention_interval", "0"]);
}

#[test]
fn sizes_of_recurrent_heads_are_possible() {
    let names = [
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    ];
    for name in names {
        refused(&with(name, &Json::Null), &[name, "missing"]);
        for lie in [json!(0), json!(-1), json!(1u64 << 40), json!(1.5), json!("4")] {
            refused(&with(name, &lie), &[name]);
        }
    }
    refused(&with("linear_num_key_heads", &json!(4)), &["6 value heads", "4 key heads"]);
    refused(&with("linear_value_head_dim", &json!(64)), &["linear_value_head_dim", "64", "of one size"]);
    refused(&with("linear_conv_kernel_dim", &json!(5)), &["conv1d.weight", "[1280, 5]"]);
    refused(&with("linear_conv_kernel_dim", &json!(1)), &["a convolution of 1 rows"]);
    refused(&with("attn_output_gate", &json!(false)), &["text_config.attn_output_gate", "true"]);
}

#[test]
fn rotations_turn_a_part_of_each_head() {
    let rope = |name: &str, value: Json| {
        let directory = Directory::golden(QWEN);
        directory.config(|config| config["text_config"]["rope_parameters"][name] = value);
        directory
    };
    refused(&rope("partial_rotary_factor", Json::Null), &["partial_rotary_factor", "missing"]);
    for lie in [json!(0.0), json!(1.5), json!(0.26), json!(-0.25), json!(1e300)] {
        refused(&rope("partial_rotary_factor", lie), &["partial_rotary_factor", "an even number"]);
    }
    for lie in [json!([1]), json!([1, 2, 3, 4, 5]), json!([1, "2", 3]), json!(3)] {
        refused(&rope("mrope_section", lie), &["mrope_section"]);
    }
    let outside = rope("partial_rotary_factor", Json::Null);
    outside.config(|config| config["text_config"]["partial_rotary_factor"] = json!(0.25));
    check(&open(&outside.path), QWEN);
}

#[test]
fn other_parts_are_left_out_and_nothing_else() {
    let extra = Tensor { dtype: safetensors::tensor::Dtype::F32, shape: vec![2], bytes: vec![0; 8] };
    for name in ["model.visual.patch_embed.proj.weight", "mtp.layers.0.input_layernorm.weight"] {
        let directory = Directory::golden(QWEN);
        directory.tensors(|tensors| drop(tensors.insert(name.into(), extra.clone())));
        check(&open(&directory.path), QWEN);
    }
    for name in
        ["model.language_model.layers.0.linear_attn.extra", "visuals.weight", "model.language_model.layers.2.mtp"]
    {
        let directory = Directory::golden(QWEN);
        directory.tensors(|tensors| drop(tensors.insert(name.into(), extra.clone())));
        refused(&directory, &[name, "no place"]);
    }
    refused(&with("tie_word_embeddings", &json!(false)), &["text_config.tie_word_embeddings", "true"]);
}

/// MLX's own rule: drafters, or convolutions whose last axis is not 1, mean that gains are less one.
#[test]
fn the_axes_of_convolutions_tell_who_wrote_the_gains() {
    let directory = Directory::golden(QWEN);
    directory.tensors(|tensors| tensors.retain(|name, _| !name.starts_with("mtp.")));
    check(&open(&directory.path), QWEN);
    directory.tensors(|tensors| {
        let convolution = tensors.get_mut("model.language_model.layers.0.linear_attn.conv1d.weight").unwrap();
        convolution.shape = vec![1280, 4, 1];
    });
    let told = |model: &Model| model.decisions().iter().any(|decision| decision.subject == "norms");
    assert!(!told(&Model::open(&directory.path).unwrap()), "these would be converted ones");
    directory.tensors(|tensors| {
        let drafter = Tensor { dtype: safetensors::tensor::Dtype::F32, shape: vec![2], bytes: vec![0; 8] };
        tensors.insert("mtp.norm.weight".into(), drafter);
    });
    assert!(told(&Model::open(&directory.path).unwrap()), "MLX drops drafters");
    refused(&Directory::golden(QWEN).shaped(&[4, 1280]), &["conv1d.weight", "[1280, 4]"]);
}

/// Whoever quantises all linear layers with MLX has these in integers, too; 8 bits of them are close to what they were.
#[test]
fn matrices_of_floats_may_be_integers_of_mlx() {
    let directory = Directory::golden("qwen35-128-hf-mlx");
    directory.tensors(|tensors| {
        for name in ["in_proj_a", "in_proj_b"] {
            let stem = format!("language_model.model.layers.0.linear_attn.{name}");
            let floats: Vec<f32> = bytemuck::pod_collect_to_vec(&tensors[&format!("{stem}.weight")].bytes);
            let [mut codes, mut scales, mut biases] = [Vec::new(), Vec::new(), Vec::new()];
            for row in floats.chunks(128) {
                let least = row.iter().copied().fold(f32::INFINITY, f32::min);
                let step = (row.iter().copied().fold(f32::NEG_INFINITY, f32::max) - least) / 255.0;
                codes.extend(row.iter().map(|value| ((value - least) / step).round() as u8));
                scales.extend(step.to_le_bytes());
                biases.extend(least.to_le_bytes());
            }
            let tensor = |dtype, shape: [usize; 2], bytes| Tensor { dtype, shape: shape.into(), bytes };
            use safetensors::tensor::Dtype::{F32, U32};
            tensors.insert(format!("{stem}.weight"), tensor(U32, [6, 32], codes));
            tensors.insert(format!("{stem}.scales"), tensor(F32, [6, 1], scales));
            tensors.insert(format!("{stem}.biases"), tensor(F32, [6, 1], biases));
        }
    });
    let (ours, theirs) = (Model::open(&directory.path).unwrap(), Model::open(data("qwen35-128-hf-mlx")).unwrap());
    for part in [Part::DeltaAlpha, Part::DeltaBeta] {
        let (a, b) = (floats(&ours, Role::Layer(0, part)), floats(&theirs, Role::Layer(0, part)));
        let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(a != b && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= largest / 100.0), "{part:?}");
    }
}

impl Directory {
    /// With another shape of the convolution.
    fn shaped(self, shape: &[usize]) -> Self {
        self.tensors(|tensors| {
            let name = "model.language_model.layers.0.linear_attn.conv1d.weight";
            tensors.get_mut(name).unwrap().shape = shape.into();
        });
        self
    }
}
