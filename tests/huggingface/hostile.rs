//! Directories that lie: errors that name the file, the field or the tensor, never a panic.

use safetensors::Dtype;
use serde_json::{Value as Json, json};
use sterna::model::{Model, Role};
use sterna::{Error, Result};

use crate::directory::{Directory, Tensor, file, raw, tensors};
use crate::shards::cut;

/// Opens a directory and decodes its weights.
fn open(directory: &Directory) -> Result<()> {
    let model = Model::open(&directory.path)?;
    let parts = sterna::model::Part::ALL.iter().map(|&(part, _)| Role::Layer(0, part));
    for role in [Role::Embedding, Role::OutputNorm, Role::Head].into_iter().chain(parts) {
        model.weights(role)?;
    }
    Ok(())
}

#[track_caller]
fn refused(directory: &Directory, says: &[&str]) {
    let error = open(directory).expect_err("it is refused").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
    assert!(error.len() < 1500 && !error.contains(char::is_control), "{error:?}");
}

fn index(change: impl FnOnce(&mut Json)) -> Directory {
    let directory = Directory::golden("bitnet-128-silu");
    cut(&directory);
    let mut index: Json = serde_json::from_slice(&directory.bytes("model.safetensors.index.json")).unwrap();
    change(&mut index);
    directory.write_json("model.safetensors.index.json", &index);
    directory
}

#[test]
fn an_index_leads_nowhere_but_to_its_directory() {
    for name in [
        "../model.safetensors",
        "/etc/passwd",
        "a/../b.safetensors",
        "..",
        "",
        ".safetensors/x",
        "c:\\x.safetensors",
        "config.json",
        "sub/model.safetensors",
        "\u{1b}[2J",
    ] {
        refused(&index(|index| index["weight_map"]["model.norm.weight"] = name.into()), &["plain names"]);
    }
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    refused(&index(|index| index["weight_map"]["more"] = "model-00003-of-00003.safetensors".into()), &["00003"]);
    refused(&index(|index| index["weight_map"]["more"] = "model-00001-of-00002.safetensors".into()), &["\"more\""]);
    let first = "model-00001-of-00002.safetensors";
    refused(
        &index(|index| index["weight_map"].as_object_mut().unwrap().values_mut().for_each(|v| *v = first.into())),
        &["is not in"],
    );
    for nonsense in [json!([]), json!({"weight_map": 3}), json!({"weight_map": {"a": 1}}), json!(null)] {
        refused(&index(|index| *index = nonsense), &["index"]);
    }
    let directory = index(|_| ());
    let second = "model-00002-of-00002.safetensors";
    let mut doubled = tensors(&directory.bytes(second));
    let (name, tensor) = tensors(&directory.bytes(first)).pop_first().unwrap();
    doubled.insert(name, tensor);
    directory.write(second, &file(&doubled));
    refused(&directory, &["lies in"]);
    directory.remove(second);
    assert!(matches!(open(&directory), Err(Error::Io { .. })));
}

#[test]
fn headers_that_lie_are_refused() {
    let directory = Directory::golden("bitnet-128-silu");
    let check = |bytes: &[u8], says: &[&str]| {
        directory.write("model.safetensors", bytes);
        refused(&directory, says);
    };
    check(&[], &["0 bytes"]);
    check(&[1, 2, 3], &["3 bytes"]);
    check(&(1_u64 << 60).to_le_bytes(), &["1152921504606846976"]);
    check(&u64::MAX.to_le_bytes(), &["18446744073709551615"]);
    check(&raw(&" ".repeat(5 << 20)), &["header"]);
    for header in [
        "",
        "{",
        "[]",
        "{\"a\": 1}",
        &"[".repeat(100_000),
        "{\"a\":{\"dtype\":\"F99\",\"shape\":[],\"data_offsets\":[0,0]}}",
    ] {
        check(&raw(header), &["header"]);
    }
    let tensor = |shape: &str, from: &str, to: &str| {
        format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[{from},{to}]}}}}")
    };
    check(&raw(&tensor("4", "0", "4")), &["4 bytes"]);
    check(&raw(&tensor("4", "1", "5")), &["damaged"]);
    check(&raw(&tensor("4", "4", "0")), &["damaged"]);
    check(&raw(&tensor("18446744073709551615", "0", "18446744073709551615")), &["damaged"]);
    check(&raw(&tensor("2305843009213693951", "0", "2305843009213693951")), &["2305843009213693951"]);
    check(&raw(&tensor("4294967296,4294967296", "0", "0")), &["damaged"]);
    check(&raw(&tensor("1,1,1,1,1,1,1,1,0", "0", "0")), &["axes"]);
    let overlap = "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}";
    check(&[raw(overlap), vec![0; 6]].concat(), &["damaged"]);
    check(&raw("{}"), &["embed_tokens.weight", "missing"]);
    directory.remove("model.safetensors");
    refused(&directory, &["model.safetensors.index.json"]);
    directory.remove("config.json");
    refused(&directory, &["config.json"]);
}

#[test]
fn fields_that_are_missing_wrong_or_huge_are_named() {
    let with = |field: &str, value: Json| {
        let directory = Directory::golden("bitnet-128-silu");
        directory.config(|config| config[field] = value);
        directory
    };
    for field in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ] {
        for value in [json!(null), json!(0), json!(-1), json!(1_u64 << 60), json!(1.5), json!("7"), json!([1])] {
            refused(&with(field, value), &[field]);
        }
    }
    refused(&with("num_hidden_layers", json!(1 << 20)), &["num_hidden_layers"]);
    refused(&with("num_hidden_layers", json!(3)), &["layers.2.", "missing"]);
    refused(&with("num_hidden_layers", json!(1)), &["layers.1.", "no place"]);
    refused(&with("num_key_value_heads", json!(3)), &["num_key_value_heads"]);
    refused(&with("head_dim", json!(63)), &["head_dim"]);
    refused(&with("head_dim", json!(1 << 20)), &["head_dim"]);
    refused(&with("intermediate_size", json!(385)), &["implies"]);
    for epsilon in [json!(0), json!(1e-60), json!(2), json!("x"), json!(null)] {
        refused(&with("rms_norm_eps", epsilon), &["rms_norm_eps"]);
    }
    for theta in [json!(1), json!(-5.0), json!("x")] {
        refused(&with("rope_theta", theta), &["rope_theta"]);
    }
    refused(&with("rope_scaling", json!({"type": "ntk"})), &["ntk", "yarn"]);
    refused(&with("rope_scaling", json!({"type": "linear", "factor": 0})), &["factor"]);
    refused(&with("rope_scaling", json!({"type": "linear"})), &["factor", "missing"]);
    refused(
        &with("rope_scaling", json!({"type": "longrope", "short_factor": [1], "long_factor": [1]})),
        &["32 numbers"],
    );
    refused(
        &with("rope_scaling", json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1})),
        &["low_freq"],
    );
    refused(&with("hidden_act", json!("tanh")), &["hidden_act", "relu2"]);
    refused(&with("model_type", json!("mamba")), &["mamba", "bitnet, llama, qwen3"]);
    refused(&with("model_type", json!("qwen2")), &["\"qwen2\"", "a norm before each projection"]);
    refused(&with("model_type", json!(null)), &["model_type"]);
    refused(&with("attention_bias", json!(true)), &["attention_bias"]);
    refused(&with("use_sliding_window", json!(true)), &["use_sliding_window"]);
    refused(&with("layer_types", json!(["full_attention", "sliding_attention"])), &["layer_types", "sliding"]);
    refused(&with("partial_rotary_factor", json!(0.5)), &["partial_rotary_factor", "0.5"]);
    for (field, value) in [
        ("quant_method", json!("gptq")),
        ("linear_class", json!("other")),
        ("quantization_mode", json!("never")),
        ("use_rms_norm", json!(true)),
        ("modules_to_not_convert", json!(["lm_head", "model.layers.0.mlp.up_proj"])),
    ] {
        let directory = Directory::golden("bitnet-128-silu");
        directory.config(|config| config["quantization_config"][field] = value);
        refused(&directory, &[field]);
    }
    let directory = Directory::golden("bitnet-128-silu");
    for nonsense in ["", "[]", "{", "\u{1b}", &"[".repeat(100_000)] {
        directory.write("config.json", nonsense.as_bytes());
        refused(&directory, &["config.json"]);
    }
}

#[test]
fn tensors_that_are_missing_misshapen_or_unknown_are_named() {
    let with = |change: fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let directory = Directory::golden("bitnet-128-silu");
        directory.tensors(change);
        directory
    };
    refused(
        &with(|t| drop(t.remove("model.layers.1.self_attn.q_proj.weight"))),
        &["layers.1.self_attn.q_proj.weight", "missing"],
    );
    refused(&with(|t| drop(t.remove("model.layers.1.mlp.up_proj.weight_scale"))), &["up_proj.weight_scale", "missing"]);
    refused(&with(|t| drop(t.remove("model.layers.0.mlp.ffn_sub_norm.weight"))), &["ffn_sub_norm.weight", "missing"]);
    refused(
        &with(|t| {
            let bias = t["model.norm.weight"].clone();
            t.insert("model.layers.0.self_attn.q_proj.bias".into(), bias);
        }),
        &["q_proj.bias", "no place"],
    );
    refused(
        &with(|t| t.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().shape = vec![128, 96]),
        &["up_proj", "[96, 128]"],
    );
    refused(&with(|t| t.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().dtype = Dtype::I8), &["up_proj", "I8"]);
    refused(&with(|t| t.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().bytes.fill(255)), &["up_proj", "code 3"]);
    refused(
        &with(|t| t.get_mut("model.layers.0.mlp.up_proj.weight_scale").unwrap().bytes.fill(0)),
        &["up_proj", "weight_scale is 0"],
    );
    refused(
        &with(|t| t.get_mut("model.layers.0.mlp.up_proj.weight_scale").unwrap().bytes.fill(255)),
        &["up_proj", "weight_scale is NaN"],
    );
}
