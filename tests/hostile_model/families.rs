//! What only some families have, attacked: stretched rotations, factors around the layers, windows, norms of single
//! projections, and vectors instead of tokens.

use sterna::Error;

use crate::edit::{TemporaryFile, golden, parts};
use crate::gguf_writer::GgufWriter;
use crate::{FAMILIES, Fate};

const YARN: &str = FAMILIES[0];
const LONG: &str = FAMILIES[1];
const HUNYUAN: &str = FAMILIES[2];
const GEMMA: &str = FAMILIES[3];
const F32: u32 = 0;

/// A file of a family with one change.
fn changed(file: &str, change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(file)).fate()
}

#[test]
fn families_run_as_they_are() {
    FAMILIES.into_iter().for_each(|file| parts(file).fate().ran());
}

#[test]
fn yarn_needs_possible_numbers() {
    let key = |key: &str| format!("qwen3.rope.scaling.{key}");
    for factor in [0.0, -4.0, f32::NAN, f32::INFINITY, 1e30, 1e-30] {
        for name in ["factor", "yarn_beta_fast", "yarn_beta_slow", "attn_factor"] {
            let key = key(name);
            changed(YARN, |f| f.set_f32(&key, factor)).refused(&[&key, "0.000001 to 1000000"]);
        }
    }
    let original = key("original_context_length");
    changed(YARN, |f| f.set_u32(&original, 0)).refused(&[&original, "is 0"]);
    changed(YARN, |f| f.set_u32(&original, u32::MAX)).refused(&[&original, "is 4294967295"]);
    changed(YARN, |f| f.unset(&original)).refused(&["YaRN", &original, "missing"]);
    changed(YARN, |f| f.unset(&key("factor"))).refused(&["YaRN", &key("factor"), "missing"]);
    // Betas that leave all pairs, or stretch all, and in the wrong order: finite rotations all the same.
    for (fast, slow) in [(1e-5, 1e5), (1e5, 1e5), (1e-5, 1e-5), (1e5, 1e-5)] {
        changed(YARN, |f| f.set_f32(&key("yarn_beta_fast"), fast).set_f32(&key("yarn_beta_slow"), slow)).ran();
    }
    for (context, theta) in [(1, 1.000_000_1), (1, f32::MAX), (1 << 24, 1.000_000_1), (1 << 24, f32::MAX)] {
        changed(YARN, |f| f.set_u32(&original, context).set_f32("qwen3.rope.freq_base", theta)).ran();
    }
}

#[test]
fn rotary_factors_come_in_pairs_and_are_possible() {
    let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
    for name in [short, long] {
        let only = |f: &mut GgufWriter| f.tensors.retain(|tensor| tensor.name != name.as_bytes());
        changed(LONG, |f| {
            only(f);
            f
        })
        .refused(&["rotary factors", "not both"]);
        for factor in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-45, f32::MAX] {
            changed(LONG, |f| {
                f.named(name).data[124..128].copy_from_slice(&factor.to_le_bytes());
                f
            })
            .refused(&[name, "0.000001 to 1000000"]);
        }
        changed(LONG, |f| {
            f.named(name).shape = vec![31];
            f
        })
        .refused(&[name, "[31]", "[32]"]);
    }
    let original = "minicpm.rope.scaling.original_context_length";
    changed(LONG, |f| f.set_u32(original, 0)).refused(&[original, "is 0"]);
    changed(LONG, |f| f.unset(original)).ran(); // then sessions are never longer than it
}

#[test]
fn factors_around_the_layers_are_possible() {
    for key in ["minicpm.embedding_scale", "minicpm.residual_scale", "minicpm.logit_scale"] {
        for factor in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30, 1e-30] {
            changed(LONG, |f| f.set_f32(key, factor)).refused(&[key, "0.000001 to 1000000"]);
        }
        changed(LONG, |f| f.set_text(key, "12")).refused(&[key, "\"12\""]);
        changed(LONG, |f| f.unset(key)).ran();
    }
}

#[test]
fn windows_and_pooling_are_those_that_are_known() {
    let key = |key: &str| format!("gemma3.{key}");
    for name in ["attention.sliding_window", "attention.sliding_window_pattern"] {
        for size in [0, (1 << 24) + 1, u32::MAX] {
            changed(GEMMA, |f| f.set_u32(&key(name), size)).refused(&[&key(name), &size.to_string()]);
        }
        changed(GEMMA, |f| f.set_u32(&key(name), 1)).ran();
        changed(GEMMA, |f| f.set_u32(&key(name), 1 << 24)).ran();
        changed(GEMMA, |f| f.unset(&key(name))).ran();
    }
    for theta in [0.0, 1.0, f32::NAN, f32::INFINITY] {
        let name = key("rope.freq_base_swa");
        changed(GEMMA, |f| f.set_f32(&name, theta)).refused(&[&name, "larger than 1 and finite"]);
    }
    for pooling in [1, 2, 4, u32::MAX] {
        let name = key("pooling_type");
        changed(GEMMA, |f| f.set_u32(&name, pooling)).refused(&[&name, &pooling.to_string(), "the last token"]);
    }
    changed(YARN, |f| f.set_u32("qwen3.pooling_type", 1)).refused(&["\"qwen3.pooling_type\" is 1"]);
}

#[test]
fn heads_are_even() {
    for (file, name) in [(YARN, "qwen3"), (HUNYUAN, "hunyuan-dense"), (GEMMA, "gemma3"), (LONG, "minicpm")] {
        let key = format!("{name}.attention.key_length");
        changed(file, |f| f.set_u32(&key, 63)).refused(&[&key, "63", "even"]);
        changed(file, |f| f.set_u32(&key, 32)).refused(&["heads of 32 key and 64 value features"]);
    }
}

#[test]
fn rotated_weights_are_refused() {
    let key = "prism.hadamard.version";
    for file in [LONG, HUNYUAN, GEMMA, FAMILIES[5]] {
        changed(file, |f| f.set_u32(key, 1)).refused(&["Hadamard", key]);
    }
    // These may be, if the other keys are there, too.
    for file in [YARN, FAMILIES[4]] {
        changed(file, |f| f.set_u32(key, 1)).refused(&["prism.hadamard.transform", "missing"]);
        changed(file, |f| f.set_u32("prism.hadamard.block_size", 64)).refused(&["Hadamard", key, "missing"]);
    }
    changed(YARN, |f| f.set_text("prism.hadamard.\x1b[2J", "x")).refused(&["Hadamard", "\\u{1b}[2J"]);
}

#[test]
fn a_norm_of_a_single_projection_is_in_every_layer_or_in_none() {
    let without = |file: &str, name: &str| {
        changed(file, |f| {
            f.tensors.retain(|tensor| tensor.name != name.as_bytes());
            f
        })
    };
    for name in ["blk.1.attn_q_norm_in.weight", "blk.5.attn_output_norm_in.weight", "blk.2.ffn_down_norm_in.weight"] {
        without(GEMMA, name).refused(&[&format!("\"{name}\" is missing")]);
    }
    // The first of them says which kind of model it is.
    without(GEMMA, "blk.0.attn_q_norm_in.weight").refused(&["a gemma3 model without", "BitNet embedding models"]);
    let qwen = "embedding-qwen3/i2_s.gguf";
    without(qwen, "blk.1.attn_q_norm_in.weight").refused(&["\"blk.1.attn_q_norm_in.weight\" is missing"]);
    without(qwen, "blk.0.attn_q_norm_in.weight").refused(&["_norm_in.weight\"", "no place in a qwen3 model"]);
    for name in ["blk.0.attn_q_norm.weight", "blk.3.post_ffw_norm.weight", "blk.4.post_attention_norm.weight"] {
        without(GEMMA, name).refused(&[&format!("\"{name}\" is missing")]);
    }
    without(HUNYUAN, "blk.1.attn_k_norm.weight").refused(&["\"blk.1.attn_k_norm.weight\" is missing"]);
    let norm = |file: &str| {
        changed(file, |f| f.add("blk.0.post_ffw_norm.weight", &[256], F32, [0; 1024]))
            .refused(&["\"blk.0.post_ffw_norm.weight\"", "no place"]);
    };
    [YARN, LONG, HUNYUAN].into_iter().for_each(norm);
}

#[test]
fn a_file_of_a_family_cut_anywhere_is_refused_when_it_is_opened() {
    for name in FAMILIES {
        let whole = golden(name);
        let mut file = TemporaryFile::new(&whole);
        for cut in (0..whole.len()).rev().step_by(8191) {
            file.cut(cut);
            match Fate::of(&file.path) {
                Fate::Refused(Error::Malformed(_)) => {}
                // A number of several meanings, none of which fits what is left.
                Fate::Refused(Error::Unsupported(text)) if text.contains("it would take") => {}
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
        }
    }
}

/// Bytes that are overwritten at places of a fixed sequence: whatever comes of it is an error or a model that runs.
#[test]
fn a_file_of_a_family_with_damaged_bytes_does_not_panic() {
    const DAMAGES: usize = 200;
    let mut state = 0x5eed_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in FAMILIES {
        let whole = golden(name);
        let directory = whole.len() - parts(name).tensors.iter().map(|tensor| tensor.data.len()).sum::<usize>();
        let mut file = TemporaryFile::new(&whole);
        for damage in 0..DAMAGES {
            // Mostly keys and names, of which most damages are told; the rest is weights, in which all codes are legal.
            let at = draw(if damage % 4 == 0 { whole.len() } else { directory });
            let width = (1 << draw(4)).min(whole.len() - at);
            let lie: Vec<u8> = (0..width).map(|_| draw(256) as u8).collect();
            file.overwrite(at, &lie);
            Fate::of(&file.path);
            file.overwrite(at, &whole[at..at + width]);
        }
        Fate::of(&file.path).ran();
    }
}
