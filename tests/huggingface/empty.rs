//! Bytes of a directory that are there and mean nothing are refused or told, as those of a GGUF file are.

use std::ops::ControlFlow;

use sterna::format::Counts;
use sterna::model::{Examined, Model, Part, Role};

use crate::directory::Directory;

const GATE: &str = "model.layers.0.mlp.gate_proj";

fn told(model: &Model) -> String {
    let about = |subject: &str| matches!(subject, "weights" | "zero bytes");
    model.decisions().iter().filter(|decision| about(decision.subject)).map(ToString::to_string).collect()
}

fn gate(model: &Model) -> Examined {
    let examined = model.examine(Role::Layer(0, Part::Gate), &mut |_| ControlFlow::Continue(()));
    examined.unwrap().expect("nobody stopped it")
}

/// A golden directory with the bytes of one tensor replaced.
fn filled(name: &str, tensor: &str, byte: u8) -> Directory {
    let directory = Directory::golden(name);
    directory.tensors(|tensors| tensors.get_mut(tensor).unwrap_or_else(|| panic!("no {tensor}")).bytes.fill(byte));
    directory
}

#[test]
fn golden_directories_are_sound_to_the_last_value() {
    for name in ["bitnet-256", "bitnet-128-online", "llama-256", "qwen3-256", "qwen3-256-mlx", "embedding-gemma3"] {
        let model = Model::open(&Directory::golden(name).path).unwrap();
        assert_eq!(told(&model), "", "{name}");
        model.check(&mut |_, _| {}).unwrap();
        for role in model.roles() {
            let examined = model.examine(role, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
            assert!(examined.refusal.is_none() && examined.suspicion.is_none(), "{name}: {examined:?}");
        }
    }
}

#[test]
fn a_matrix_without_weights_is_named_in_every_form() {
    let weight = format!("{GATE}.weight");
    for (name, tensor, byte) in [
        ("bitnet-256", &weight, 0x55), // packed trits
        ("qwen3-256", &weight, 0),     // floats
        ("qwen3-256-mlx", &weight, 0x55),
    ] {
        let model = Model::open(&filled(name, tensor, byte).path).unwrap();
        let told = told(&model);
        assert!(told.contains("1 matrix is all zero") && told.contains(GATE), "{name}: {told:?}");
        assert_eq!(gate(&model).suspicion.as_deref(), Some("all weights are zero"), "{name}");
    }
    // Scales of 0, which MLX keeps in a tensor of their own, and with them the biases.
    let directory = filled("qwen3-256-mlx", &format!("{GATE}.scales"), 0);
    directory.tensors(|tensors| tensors.get_mut(&format!("{GATE}.biases")).unwrap().bytes.fill(0));
    let model = Model::open(&directory.path).unwrap();
    assert!(told(&model).contains(GATE) && gate(&model).contents.is_zero(), "{:?}", told(&model));
}

#[test]
fn a_part_that_was_never_written_is_told() {
    let directory = Directory::golden("bitnet-256");
    directory.tensors(|tensors| {
        let bytes = &mut tensors.get_mut(&format!("{GATE}.weight")).unwrap().bytes;
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
    });
    let model = Model::open(&directory.path).unwrap();
    assert!(told(&model).contains("zero bytes") && told(&model).contains(GATE), "{:?}", told(&model));
    assert!(gate(&model).suspicion.is_some_and(|why| why.contains("rows hold one value")));
}

#[test]
fn norms_and_embeddings_of_zeros_are_refused() {
    for (name, tensor) in [
        ("bitnet-256", "model.norm.weight"),
        ("bitnet-256", "model.embed_tokens.weight"),
        ("llama-256", "lm_head.weight"),
        ("bitnet-256", "model.layers.1.mlp.ffn_sub_norm.weight"),
    ] {
        let error = Model::open(&filled(name, tensor, 0).path).expect_err("it is refused").to_string();
        assert!(error.contains(tensor) && error.contains("this cannot be a model"), "{error}");
    }
}

/// Gemma's checkpoints hold gains less one: zeros are ones.
#[test]
fn gains_less_one_may_be_zero() {
    let prefix = ["model.", ""];
    let directory = Directory::golden("embedding-gemma3");
    let mut changed = 0;
    directory.tensors(|tensors| {
        for prefix in prefix {
            if let Some(norm) = tensors.get_mut(&format!("{prefix}layers.0.input_layernorm.weight")) {
                norm.bytes.fill(0);
                changed += 1;
            }
        }
    });
    assert_eq!(changed, 1);
    let model = Model::open(&directory.path).unwrap();
    assert_eq!(told(&model), "");
}

#[test]
fn values_that_are_no_numbers_are_found() {
    let directory = Directory::golden("llama-256");
    directory.tensors(|tensors| {
        let embedding = &mut tensors.get_mut("model.embed_tokens.weight").unwrap().bytes;
        embedding[4096..4098].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    });
    let model = Model::open(&directory.path).unwrap();
    let examined = model.examine(Role::Embedding, &mut |_| ControlFlow::Continue(())).unwrap().unwrap();
    assert!(matches!(examined.contents.values, Counts::Floats { not_finite: 1, .. }), "{examined:?}");
    assert!(examined.refusal.unwrap().to_string().contains("model.embed_tokens.weight"));
}
