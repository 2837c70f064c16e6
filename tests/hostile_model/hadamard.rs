//! Weights in a rotated basis, attacked: whatever is missing, contradicts itself, or is more than this version knows, is refused by its key.

use crate::Fate;
use crate::edit::parts;
use crate::gguf_writer::{GgufWriter, array, string};

/// 128 and 256 columns, and 768 between recurrent layers and their output; blocks of 64, explicit signs, a head of its own.
const FIRST: &str = "qwen35-hadamard-v1/pq2_0.gguf";
/// A tied head, blocks of 256.
const SECOND: &str = "qwen35-hadamard-v2/ptq1_0.gguf";
const F32: u32 = 0;
const BOOL: u32 = 7;
const ARRAY: u32 = 9;

fn key(name: &str) -> String {
    format!("prism.hadamard.{name}")
}

fn changed(file: &str, change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(file)).fate()
}

fn integers(values: &[i32]) -> Vec<u8> {
    array(5, values.len() as u64, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

fn names(texts: &[String]) -> Vec<u8> {
    array(8, texts.len() as u64, texts.iter().flat_map(string).collect::<Vec<u8>>())
}

/// The names of a list of a file.
fn listed(file: &str, list: &str) -> Vec<String> {
    let gguf = sterna::format::gguf::Gguf::parse(crate::edit::golden(file).into()).unwrap();
    let list = gguf.metadata().array(&key(list)).unwrap().unwrap();
    list.strings().unwrap().map(str::to_owned).collect()
}

#[test]
fn rotated_files_run_as_they_are() {
    [FIRST, SECOND].into_iter().for_each(|file| parts(file).fate().ran());
}

#[test]
fn every_key_of_a_basis_is_there_and_is_what_it_should_be() {
    let needed = [
        "block_size",
        "transform",
        "axis",
        "sign_mode",
        "sign_widths",
        "sign_values",
        "weight_names",
        "inverse_weight_names",
    ];
    for name in needed.into_iter().chain(["version"]) {
        changed(FIRST, |f| f.unset(&key(name))).refused(&[&key(name), "missing"]);
        changed(FIRST, |f| f.set_f32(&key(name), 1.5)).refused(&[&key(name)]);
        changed(FIRST, |f| f.set(&key(name), BOOL, [1])).refused(&[&key(name)]);
    }
    changed(FIRST, |f| f.unset(&key("gdn_v_grouped"))).ran(); // another network, which the file would be sound for
    changed(FIRST, |f| f.set_u32(&key("gdn_v_grouped"), 1)).refused(&[&key("gdn_v_grouped"), "a boolean"]);
    for (name, known) in [
        ("transform", "normalized-sylvester-walsh-hadamard"),
        ("axis", "input-last-dimension"),
        ("sign_mode", "explicit and identity"),
    ] {
        changed(FIRST, |f| f.set_text(&key(name), "x\x1b[2J")).refused(&[&key(name), "x\\u{1b}[2J", known]);
    }
    changed(FIRST, |f| f.set_u32(&key("future"), 1)).refused(&[&key("future"), "does not know"]);
    for version in [0, 3, u32::MAX] {
        changed(FIRST, |f| f.set_u32(&key("version"), version)).refused(&[&key("version"), &version.to_string()]);
    }
}

#[test]
fn versions_tell_whether_the_head_is_tied() {
    let tied = key("tied_output");
    changed(FIRST, |f| f.set(&tied, BOOL, [1])).refused(&[&tied, "true", "version\" is 1"]);
    changed(FIRST, |f| f.set(&tied, BOOL, [0])).ran();
    changed(FIRST, |f| f.set_u32(&key("version"), 2)).refused(&[&tied, "missing", "version\" is 2"]);
    changed(FIRST, |f| f.set_u32(&key("version"), 2).set(&tied, BOOL, [1])).refused(&["output.weight", "version 2"]);
    changed(SECOND, |f| f.unset(&tied)).refused(&[&tied, "missing"]);
    changed(SECOND, |f| f.set(&tied, BOOL, [0])).refused(&[&tied, "false"]);
    changed(SECOND, |f| f.set_u32(&key("version"), 1)).refused(&[&tied, "version\" is 1"]);
    let untied = changed(SECOND, |f| f.set_u32(&key("version"), 1).unset(&tied));
    untied.refused(&["token_embd.weight", "output.weight", "version 2"]);
    changed(SECOND, |f| f.add("output.weight", &[256, 512], F32, vec![1; 256 * 512 * 4]))
        .refused(&["version 2", "output.weight"]);
    let mut headless = parts(FIRST);
    headless.tensors.retain(|tensor| tensor.name != b"output.weight");
    headless.fate().refused(&["output.weight"]);
    let without_head: Vec<String> =
        listed(FIRST, "weight_names").into_iter().filter(|name| name != "output.weight").collect();
    headless.set(&key("weight_names"), ARRAY, names(&without_head));
    headless.fate().refused(&["token_embd.weight", "output.weight", "version 2"]);
    // A head, or an embedding, as it was trained.
    changed(FIRST, |f| f.set(&key("weight_names"), ARRAY, names(&without_head))).ran();
    changed(FIRST, |f| f.set(&key("inverse_weight_names"), ARRAY, names(&[]))).ran();
    changed(SECOND, |f| f.set(&key("inverse_weight_names"), ARRAY, names(&[])))
        .refused(&["the embedding", "version 2"]);
}

#[test]
fn lists_name_linear_layers_and_all_of_them() {
    let all = listed(FIRST, "weight_names");
    let with = |list: &str, names_of: Vec<String>| changed(FIRST, |f| f.set(&key(list), ARRAY, names(&names_of)));
    for (place, name) in all.iter().enumerate().filter(|(_, name)| *name != "output.weight") {
        let mut some = all.clone();
        some.remove(place);
        with("weight_names", some).refused(&[&key("weight_names"), "does not name", name]);
    }
    for (name, why) in [
        ("blk.0.ssm_alpha.weight", "linear layers in a rotated basis"),
        ("blk.0.attn_norm.weight", "linear layers in a rotated basis"),
        ("token_embd.weight", "linear layers in a rotated basis"),
        ("blk.7.attn_q.weight", "no tensor of this network"),
        ("blk.0.attn_q.weight", "no tensor of this network"),
        ("blk.0.ffn_up", "no tensor of this network"),
        ("", "no tensor of this network"),
        ("output.weight", "twice"),
    ] {
        let more = [&all[..], &[name.to_owned()]].concat();
        with("weight_names", more).refused(&[&key("weight_names"), why]);
    }
    for name in ["output.weight", "blk.0.ffn_up.weight"] {
        with("inverse_weight_names", vec![name.into()]).refused(&[&key("inverse_weight_names"), name, "the embedding"]);
    }
    changed(FIRST, |f| f.set(&key("weight_names"), ARRAY, integers(&[1, 2]))).refused(&[&key("weight_names"), "names"]);
}

#[test]
fn blocks_are_powers_of_two_that_divide_every_width() {
    let block = key("block_size");
    for lie in [0, 3, 96, 4096, u32::MAX] {
        changed(FIRST, |f| f.set_u32(&block, lie)).refused(&[&block, &lie.to_string(), "powers of two"]);
    }
    changed(FIRST, |f| f.set_u32(&block, 256)).refused(&[&block, "256", "divide the 128 columns"]);
    for other in [1, 2, 8, 32, 128] {
        changed(FIRST, |f| f.set_u32(&block, other)).ran();
    }
}

#[test]
fn signs_are_one_for_each_column_of_each_width() {
    let (mode, widths, values) = (key("sign_mode"), key("sign_widths"), key("sign_values"));
    changed(FIRST, |f| f.set_text(&mode, "identity")).refused(&[&mode, "identity", "signs"]);
    changed(FIRST, |f| f.set_text(&mode, "identity").unset(&widths)).refused(&[&mode, "identity"]);
    changed(FIRST, |f| f.set_text(&mode, "identity").unset(&widths).unset(&values)).ran();
    let all = vec![1; 128 + 256 + 768];
    changed(FIRST, |f| f.set(&values, ARRAY, integers(&all))).ran();
    for lie in [0, 2, -2, i32::MIN] {
        let mut some = all.clone();
        some[700] = lie;
        changed(FIRST, |f| f.set(&values, ARRAY, integers(&some))).refused(&[&values, "1 and -1"]);
    }
    changed(FIRST, |f| f.set(&values, ARRAY, integers(&all[1..]))).refused(&[&values, "1151", "1152"]);
    changed(FIRST, |f| f.set(&values, ARRAY, array(6, 0, []))).refused(&[&values, "0 signs"]);
    let floats = array(6, 1152, vec![0; 1152 * 4]);
    changed(FIRST, |f| f.set(&values, ARRAY, floats)).refused(&[&values, "1 and -1"]);
    for lie in [&[][..], &[0, 1152], &[-128, 1280], &[i32::MIN, i32::MAX]] {
        changed(FIRST, |f| f.set(&widths, ARRAY, integers(lie))).refused(&[&widths, "widths"]);
    }
    changed(FIRST, |f| f.set(&widths, ARRAY, integers(&[128, 128, 896]))).refused(&[&widths, "twice"]);
    changed(FIRST, |f| f.set(&widths, ARRAY, integers(&[128, 256, 767]))).refused(&[&values, "1152", "1151"]);
    // Of 64, which no tensor has, in the place of one that some have.
    for missing in [128, 256, 768] {
        let others: Vec<i32> = [128, 256, 768].map(|width| if width == missing { 64 } else { width }).to_vec();
        let signs = vec![1; others.iter().sum::<i32>() as usize];
        changed(FIRST, |f| f.set(&widths, ARRAY, integers(&others)).set(&values, ARRAY, integers(&signs)))
            .refused(&[&widths, &format!("has no {missing}")]);
    }
    let more = vec![1; 128 + 256 + 768 + 64];
    changed(FIRST, |f| f.set(&widths, ARRAY, integers(&[128, 256, 768, 64])).set(&values, ARRAY, integers(&more)))
        .ran();
}

#[test]
fn a_network_of_recurrent_layers_alone_has_no_basis_of_its_heads() {
    let mut file = parts(FIRST);
    file.tensors.retain(|tensor| !tensor.name.starts_with(b"blk.1."));
    let left: Vec<String> =
        listed(FIRST, "weight_names").into_iter().filter(|name| !name.starts_with("blk.1.")).collect();
    for (size, value) in [
        ("block_count", 1),
        ("attention.head_count", 1),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 34),
        ("attention.value_length", 34),
    ] {
        file.set_u32(&format!("qwen35.{size}"), value);
    }
    file.set("qwen35.attention.recurrent_layers", ARRAY, array(BOOL, 1, [1]));
    // 34 columns are no whole blocks of 64, and no input of any layer.
    file.set(&key("weight_names"), ARRAY, names(&left)).fate().ran();
}
