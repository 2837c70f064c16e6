//! What only mixtures of experts have, attacked: how many there are, how they are clamped, which layers have windows, and tensors of three axes.

use crate::edit::parts;
use crate::gguf_writer::{GgufWriter, array};
use crate::{FAMILIES, Fate};

/// Three layers, the first two of them with windows of 8; 8 experts of 256 features, 3 used.
const MAPLE: &str = FAMILIES[5];
const F32: u32 = 0;
const BOOL: u32 = 7;
const ARRAY: u32 = 9;

fn key(name: &str) -> String {
    format!("maple.{name}")
}

fn changed(change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(MAPLE)).fate()
}

fn floats(values: &[f32]) -> Vec<u8> {
    array(6, values.len() as u64, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

#[test]
fn numbers_of_experts_are_possible() {
    for name in ["expert_count", "expert_used_count", "expert_feed_forward_length"] {
        let key = key(name);
        changed(|f| f.unset(&key)).refused(&[&key, "missing"]);
        changed(|f| f.set_u32(&key, 0)).refused(&[&key, "is 0"]);
        changed(|f| f.set_u32(&key, u32::MAX)).refused(&[&key, "4294967295"]);
        changed(|f| f.set_text(&key, "8")).refused(&[&key, "\"8\""]);
        changed(|f| f.set_f32(&key, 8.0)).refused(&[&key]);
    }
    let (count, used) = (key("expert_count"), key("expert_used_count"));
    changed(|f| f.set_u32(&count, 1025)).refused(&[&count, "1025", "the most is 1024"]);
    changed(|f| f.set_u32(&count, 7)).refused(&["blk.0.", "[256, 8]", "[256, 7]"]);
    changed(|f| f.set_u32(&used, 9)).refused(&[&used, "9", "8 experts"]);
    (1..=8).for_each(|some| changed(|f| f.set_u32(&used, some)).ran());
    let width = key("expert_feed_forward_length");
    changed(|f| f.set_u32(&width, 128)).refused(&["_exps.weight", "[256, 256, 8]", "[256, 128, 8]"]);
    let list = |sizes: [u32; 3]| array(4, 3, sizes.iter().flat_map(|size| size.to_le_bytes()).collect::<Vec<u8>>());
    changed(|f| f.set(&width, ARRAY, list([256; 3]))).ran();
    changed(|f| f.set(&width, ARRAY, list([256, 256, 128]))).refused(&[&width, "differs from layer to layer"]);
    changed(|f| f.set_u32(&key("feed_forward_length"), 4096)).ran(); // nothing is as wide
}

#[test]
fn other_mixtures_are_refused() {
    for (name, lies, neutral) in [
        ("expert_shared_count", &[1, 2][..], &[0][..]),
        ("leading_dense_block_count", &[1, 3], &[0]),
        ("expert_group_count", &[2], &[0, 1]),
        ("expert_gating_func", &[2], &[0, 1]),
    ] {
        lies.iter().for_each(|lie| changed(|f| f.set_u32(&key(name), *lie)).refused(&[&key(name), &lie.to_string()]));
        neutral.iter().for_each(|value| changed(|f| f.set_u32(&key(name), *value)).ran());
    }
    changed(|f| f.set(&key("expert_weights_norm"), BOOL, [0])).refused(&[&key("expert_weights_norm"), "false"]);
    changed(|f| f.set(&key("expert_weights_norm"), BOOL, [1])).ran();
    changed(|f| f.set_f32(&key("expert_weights_scale"), 2.5)).refused(&[&key("expert_weights_scale"), "2.5"]);
    changed(|f| f.set_u32("llama.expert_count", 8)).ran(); // another architecture's
}

#[test]
fn clamps_are_positive_and_one_for_each_layer() {
    let clamp = key("swiglu_clamp_exp");
    changed(|f| f.unset(&clamp)).ran(); // 7, as files of the first converter have it
    changed(|f| f.set_f32(&clamp, 7.0)).ran();
    changed(|f| f.set(&clamp, ARRAY, floats(&[7.0, 1.0, 1e30]))).ran();
    for lie in [0.0, -7.0, f32::NAN, f32::INFINITY] {
        changed(|f| f.set_f32(&clamp, lie)).refused(&[&clamp, "positive and finite"]);
        changed(|f| f.set(&clamp, ARRAY, floats(&[7.0, lie, 7.0]))).refused(&[&clamp, "positive and finite"]);
    }
    changed(|f| f.set(&clamp, ARRAY, floats(&[7.0; 2]))).refused(&[&clamp, "2 of 3 layers"]);
    changed(|f| f.set_text(&clamp, "7")).refused(&[&clamp, "\"7\""]);
    changed(|f| f.set_f32(&key("swiglu_clamp_shexp"), 7.0)).refused(&[&key("swiglu_clamp_shexp")]);
}

#[test]
fn windows_are_listed_layer_by_layer() {
    let (window, pattern) = (key("attention.sliding_window"), key("attention.sliding_window_pattern"));
    let kinds = |kinds: &[u8]| array(BOOL, kinds.len() as u64, kinds);
    for name in [&window, &pattern] {
        changed(|f| f.unset(name)).refused(&[name, "missing"]);
    }
    changed(|f| f.set_u32(&window, 0)).refused(&[&window, "is 0"]);
    changed(|f| f.set_u32(&window, 1)).ran();
    changed(|f| f.set_u32(&pattern, 4)).refused(&[&pattern, "an array"]);
    changed(|f| f.set(&pattern, ARRAY, array(4, 3, [0; 12]))).refused(&[&pattern, "true or false"]);
    for some in [[0, 0, 0], [1, 1, 1], [0, 1, 0]] {
        changed(|f| f.set(&pattern, ARRAY, kinds(&some))).ran();
    }
    for length in [0, 2, 4] {
        let lie = kinds(&vec![1; length]);
        changed(|f| f.set(&pattern, ARRAY, lie)).refused(&[&pattern, &format!("{length} of 3 layers")]);
    }
    changed(|f| f.set_f32(&key("rope.freq_base_swa"), 5e5)).ran();
    changed(|f| f.set_f32(&key("rope.freq_base_swa"), f32::NAN)).refused(&[&key("rope.freq_base_swa"), "finite"]);
}

#[test]
fn tensors_of_experts_have_three_axes() {
    let shaped = |name: &str, shape: &[u64]| {
        changed(|f| {
            f.named(name).shape = shape.to_vec();
            f
        })
    };
    for name in ["blk.0.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"] {
        for shape in [&[256, 2048][..], &[256, 8, 256], &[256, 256, 4, 2], &[256 * 256 * 8]] {
            shaped(name, shape).refused(&[name, "[256, 256, 8]"]);
        }
        let mut without = parts(MAPLE);
        without.tensors.retain(|tensor| tensor.name != name.as_bytes());
        without.fate().refused(&[&format!("\"{name}\" is missing")]);
    }
    shaped("blk.0.attn_q.weight", &[256, 32, 8]).refused(&["blk.0.attn_q.weight", "[256, 256]"]);
    shaped("blk.0.ffn_gate_inp.weight", &[8, 256]).refused(&["blk.0.ffn_gate_inp.weight", "[256, 8]"]);
    for name in ["output.weight", "blk.1.ffn_gate_inp.weight", "blk.2.attn_k_norm.weight"] {
        let mut without = parts(MAPLE);
        without.tensors.retain(|tensor| tensor.name != name.as_bytes());
        without.fate().refused(&[&format!("\"{name}\" is missing")]);
    }
    for extra in
        ["blk.0.ffn_gate.weight", "blk.0.ffn_gate_shexp.weight", "blk.0.exp_probs_b.bias", "blk.0.ffn_gate_inp.bias"]
    {
        changed(|f| f.add(extra, &[256], F32, vec![0; 1024])).refused(&[extra, "no place"]);
    }
    for lie in [f32::NAN, f32::INFINITY] {
        changed(|f| {
            f.named("blk.1.ffn_gate_inp.weight").data[..4].copy_from_slice(&lie.to_le_bytes());
            f
        })
        .failed(&["blk.1.ffn_gate_inp.weight", "the value 0 is"]);
    }
}
