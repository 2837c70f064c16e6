//! What only models with recurrent layers have, attacked: the sizes of their heads, which layers they are, blocks that draft, and
//! floats that no norm takes.

use crate::edit::parts;
use crate::gguf_writer::{GgufWriter, array};
use crate::{FAMILIES, Fate};

/// Two layers, the first of them recurrent: 2 key heads and 6 value heads of 128 features, a convolution of 4 rows.
const QWEN: &str = FAMILIES[4];
const F32: u32 = 0;
const BOOL: u32 = 7;
const ARRAY: u32 = 9;

fn key(name: &str) -> String {
    format!("qwen35.{name}")
}

fn changed(change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(QWEN)).fate()
}

fn listed(kinds: &[u8]) -> Vec<u8> {
    array(BOOL, kinds.len() as u64, kinds)
}

#[test]
fn sizes_of_recurrent_heads_are_possible() {
    let sizes = ["ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"];
    for name in sizes.into_iter().chain(["rope.dimension_count"]) {
        let key = key(name);
        changed(|f| f.unset(&key)).refused(&[&key, "missing"]);
        changed(|f| f.set_u32(&key, 0)).refused(&[&key, "is 0"]);
        changed(|f| f.set_u32(&key, u32::MAX)).refused(&[&key, "is 4294967295"]);
        changed(|f| f.set_text(&key, "4")).refused(&[&key, "\"4\""]);
        changed(|f| f.set_f32(&key, 4.0)).refused(&[&key]);
    }
    let refused = |name: &str, size: u32, says: &[&str]| changed(|f| f.set_u32(&key(name), size)).refused(says);
    refused(
        "ssm.group_count",
        4,
        &["6 value heads", &key("ssm.time_step_rank"), "4 key heads", &key("ssm.group_count")],
    );
    refused("ssm.time_step_rank", 5, &["5 value heads", "2 key heads"]);
    refused("ssm.time_step_rank", 4, &[&key("ssm.inner_size"), "768", "4 value heads"]);
    refused("ssm.inner_size", 767, &[&key("ssm.inner_size"), "767", "6 value heads"]);
    refused("ssm.state_size", 126, &["126 features", &key("ssm.state_size"), "a multiple of 4"]);
    refused("ssm.state_size", 1 << 20, &["1048576 features", "at most 256"]);
    refused("ssm.conv_kernel", 1, &["a convolution of 1 rows", &key("ssm.conv_kernel")]);
    refused("ssm.conv_kernel", 17, &["a convolution of 17 rows", "2 to 16"]);
    refused("ssm.conv_kernel", 5, &["blk.0.ssm_conv1d.weight", "[5, 1280]"]);
    changed(|f| f.set_u32(&key("ssm.group_count"), 1 << 24).set_u32(&key("ssm.time_step_rank"), 1 << 24))
        .refused(&["16777216 value heads", "larger than any model"]);
    changed(|f| f.set_u32(&key("ssm.group_count"), 3)).refused(&["blk.0.attn_qkv.weight", "[128, 1536]"]);
    refused("rope.dimension_count", 15, &[&key("rope.dimension_count"), "15", "even"]);
    refused("rope.dimension_count", 66, &[&key("rope.dimension_count"), "66"]);
}

#[test]
fn recurrent_layers_are_those_of_the_list_or_of_the_interval() {
    let list = key("attention.recurrent_layers");
    let interval = key("full_attention_interval");
    // The list wins.
    for other in [1, 2, 3, 64] {
        changed(|f| f.set_u32(&interval, other).set(&list, ARRAY, listed(&[1, 0]))).ran();
    }
    changed(|f| f.unset(&interval)).refused(&["\"blk.1.attn_qkv.weight\" is missing"]); // of four layers, the last attends
    changed(|f| f.set_u32(&interval, 1)).refused(&["\"blk.0.attn_q.weight\" is missing"]);
    changed(|f| f.set_u32(&interval, 0)).refused(&[&interval, "is 0"]);
    changed(|f| f.set(&list, ARRAY, listed(&[0, 0]))).refused(&["\"blk.0.attn_q.weight\" is missing"]);
    changed(|f| f.set(&list, ARRAY, listed(&[1, 1]))).refused(&["\"blk.1.attn_qkv.weight\" is missing"]);
    for length in [0, 1, 3, 1000] {
        let lie = listed(&vec![1; length]);
        changed(|f| f.set(&list, ARRAY, lie)).refused(&[&list, &format!("{length} of 2 blocks")]);
    }
    changed(|f| f.set(&list, BOOL, [1])).refused(&[&list, "an array"]);
    changed(|f| f.set(&list, ARRAY, array(6, 2, [0; 8]))).refused(&[&list, "true or false"]);
}

#[test]
fn sections_of_rotations_are_counts() {
    let sections = key("rope.dimension_sections");
    let counts = |counts: &[i32]| {
        array(5, counts.len() as u64, counts.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
    };
    for some in [&[11, 11, 10, 0][..], &[1, 1, 1], &[0, 0, 0]] {
        changed(|f| f.set(&sections, ARRAY, counts(some))).ran();
    }
    changed(|f| f.unset(&sections)).ran();
    for lie in [&[][..], &[4, 4], &[1, 2, 3, 4, 5], &[4, -1, 4, 0]] {
        changed(|f| f.set(&sections, ARRAY, counts(lie))).refused(&[&sections, "three or four counts"]);
    }
    changed(|f| f.set_u32(&sections, 4)).refused(&[&sections, "an array"]);
}

#[test]
fn blocks_that_draft_are_left_out() {
    let (blocks, drafters) = (key("block_count"), key("nextn_predict_layers"));
    let with_drafter = |f: &mut GgufWriter| {
        f.set_u32(&blocks, 3).set_u32(&drafters, 1);
        f.add("blk.2.nextn.eh_proj.weight", &[8], F32, [0; 32]);
        f.add("blk.2.attn_norm.weight", &[128], F32, vec![0; 512]);
    };
    let mut file = parts(QWEN);
    with_drafter(&mut file);
    file.fate().ran();
    file.set(&key("attention.recurrent_layers"), ARRAY, listed(&[1, 0, 0])).fate().ran();
    file.set(&key("attention.recurrent_layers"), ARRAY, listed(&[1, 0])).fate().refused(&["2 of 3 blocks"]);
    let mut beyond = parts(QWEN);
    with_drafter(&mut beyond);
    beyond.add("blk.3.nextn.eh_proj.weight", &[8], F32, [0; 32]).fate().refused(&["blk.3.nextn", "no place"]);
    changed(|f| f.add("blk.2.nextn.eh_proj.weight", &[8], F32, [0; 32])).refused(&["blk.2.nextn", "no place"]);
    changed(|f| f.set_u32(&drafters, 0)).ran();
    for many in [2, 3, u32::MAX] {
        changed(|f| f.set_u32(&drafters, many)).refused(&[&drafters, &many.to_string(), "2 blocks"]);
    }
    changed(|f| f.set_text(&drafters, "1")).refused(&[&drafters, "\"1\""]);
}

#[test]
fn every_tensor_of_a_recurrent_layer_is_there_under_its_name() {
    let endings = [
        "attn_qkv.weight",
        "attn_gate.weight",
        "ssm_alpha.weight",
        "ssm_beta.weight",
        "ssm_conv1d.weight",
        "ssm_dt.bias",
        "ssm_a",
        "ssm_norm.weight",
        "ssm_out.weight",
        "post_attention_norm.weight",
    ];
    for ending in endings {
        let name = format!("blk.0.{ending}");
        // A file whose type numbers mean one thing alone, whichever tensor is gone.
        let mut without = parts("qwen35-128/q2_0_g128.gguf");
        without.tensors.retain(|tensor| tensor.name != name.as_bytes());
        without.fate().refused(&[&format!("\"{name}\" is missing")]);
    }
    for (name, other) in [("blk.0.ssm_a", "blk.0.ssm_a.weight"), ("blk.0.ssm_dt.bias", "blk.0.ssm_dt.weight")] {
        changed(|f| {
            f.named(name).name = other.into();
            f
        })
        .refused(&[&format!("\"{name}\" is missing")]);
    }
    for extra in ["blk.0.ffn_norm.weight", "blk.0.attn_q_norm.weight", "blk.1.ssm_norm.weight", "blk.0.ssm_in.weight"] {
        changed(|f| f.add(extra, &[128], F32, vec![0; 512])).refused(&[extra, "no place"]);
    }
}

#[test]
fn floats_of_a_recurrent_layer_are_finite_and_memories_fade() {
    let with = |name: &str, value: f32| {
        changed(|f| {
            f.named(name).data[4..8].copy_from_slice(&value.to_le_bytes());
            f
        })
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for name in ["blk.0.ssm_a", "blk.0.ssm_dt.bias", "blk.0.ssm_conv1d.weight"] {
            with(name, value).refused(&[name, "the value 1 is"]);
        }
        with("blk.0.ssm_norm.weight", value).refused(&["blk.0.ssm_norm.weight", "the gain 1 is"]);
        // Matrices are read when they are loaded.
        let brain = ((value.to_bits() >> 16) as u16).to_le_bytes();
        for name in ["blk.0.ssm_alpha.weight", "blk.0.ssm_beta.weight"] {
            changed(|f| {
                f.named(name).data[2..4].copy_from_slice(&brain);
                f
            })
            .failed(&[name, "the value 1 is"]);
        }
    }
    with("blk.0.ssm_a", 0.5).refused(&["blk.0.ssm_a", "the rate 0.5", "not above 0"]);
    with("blk.0.ssm_a", -0.0).ran();
    with("blk.0.ssm_a", f32::MIN).ran();
    changed(|f| {
        let tensor = f.named("blk.0.ssm_alpha.weight");
        (tensor.type_id, tensor.data) = (142, vec![0; 6 * 34]);
        f
    })
    .refused(&["blk.0.ssm_alpha.weight", "ternary"]);
}
