//! Prism's pack of rotated weights for MLX: what its files say of themselves must not contradict itself.

use serde_json::{Value as Json, json};
use sterna::model::Model;

use crate::data;
use crate::directory::Directory;
use crate::golden::{check, open};

const PACK: &str = "qwen35-hadamard-v1-mlx";

fn pack() -> Directory {
    let directory = Directory::golden(PACK);
    directory.write("hadamard.json", &std::fs::read(data(PACK).join("hadamard.json")).unwrap());
    directory
}

/// The pack with one field of its config changed.
fn with(field: &str, value: Json) -> Directory {
    let directory = pack();
    directory.config(|config| config[field] = value);
    directory
}

/// The pack with one of the keys of its basis changed; null leaves it out.
fn keyed(key: &str, value: Json) -> Directory {
    let directory = pack();
    let mut keys: Json = serde_json::from_slice(&directory.bytes("hadamard.json")).unwrap();
    keys[format!("prism.hadamard.{key}")] = value;
    directory.write_json("hadamard.json", &keys);
    directory
}

#[track_caller]
fn refused(directory: &Directory, says: &[&str]) {
    let error = Model::open(&directory.path).expect_err("it is refused").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
    assert!(error.len() < 1500 && !error.contains(char::is_control), "{error:?}");
}

#[test]
fn a_pack_tells_its_basis() {
    let model = open(&pack().path);
    let told = model.decisions().iter().find(|decision| decision.subject == "basis").unwrap().to_string();
    assert!(told.contains("blocks of 64 columns") && told.contains("value heads grouped"), "{told}");
    check(&open(&with("modules", Json::Null).path), "qwen35-hadamard-v1");
}

#[test]
fn what_a_pack_is_it_says() {
    refused(&with("hadamard_config", Json::Null), &["\"hadamard_config\" is missing"]);
    refused(&with("hadamard_config", json!("../hadamard.json")), &["hadamard_config", "../hadamard.json"]);
    refused(&with("base_model_type", json!("llama")), &["base_model_type", "llama", "qwen3_5"]);
    refused(&with("model_type", json!("qwen3_5")), &["model_type", "prism_hadamard_qwen35"]);
    refused(&with("gdn_activation_layout", json!("tiled")), &["gdn_activation_layout", "tiled", "grouped"]);
    refused(&with("gdn_activation_layout", Json::Null), &["gdn_activation_layout", "missing"]);
    refused(&with("schema_version", json!(3)), &["schema_version", "3"]);
    refused(&with("schema_version", Json::Null), &["schema_version", "missing"]);
    let directory = pack();
    directory.remove("hadamard.json");
    refused(&directory, &["hadamard.json"]);
    let directory = pack();
    directory.write("hadamard.json", b"[1, 2");
    refused(&directory, &["hadamard.json"]);
    // Signs that no basis asks for.
    let directory = pack();
    directory.config(|config| {
        config["model_type"] = json!("qwen3_5");
        config.as_object_mut().unwrap().remove("hadamard_config");
    });
    refused(&directory, &[".signs", "no place"]);
}

#[test]
fn keys_of_a_pack_are_those_of_a_file() {
    for key in ["version", "block_size", "transform", "axis", "sign_mode", "sign_widths", "sign_values", "weight_names"]
    {
        refused(&keyed(key, Json::Null), &[&format!("prism.hadamard.{key}"), "missing"]);
        refused(&keyed(key, json!({"a": 1})), &[&format!("prism.hadamard.{key}")]);
    }
    refused(&keyed("block_size", json!(128)), &["modules", "in blocks of 64"]);
    refused(&keyed("gdn_v_grouped", json!(false)), &["gdn_activation_layout", "gdn_v_grouped"]);
    refused(&keyed("sign_values", json!([1.5, 1])), &["sign_values"]);
    refused(&keyed("weight_names", json!(["language_model.model.norm.weight"])), &["weight_names", "norm.weight"]);
    refused(&keyed("weight_names", json!(["blk.0.attn_q.weight"])), &["blk.0.attn_q.weight", "no tensor"]);
    refused(&keyed("version", json!(2)), &["tied_output"]);
}

#[test]
fn modules_and_signs_are_those_of_the_keys() {
    let directory = pack();
    directory.config(|config| drop(config["modules"].as_array_mut().unwrap().pop()));
    refused(&directory, &["modules", "hadamard.json", "mlp.down_proj"]);
    let directory = pack();
    directory.config(|config| {
        let more = json!({"path": "model.layers.0.linear_attn.in_proj_a", "block": 64, "embedding": false});
        config["modules"].as_array_mut().unwrap().push(more);
    });
    refused(&directory, &["modules", "in_proj_a"]);
    refused(&with("modules", json!([{"path": 1}])), &["modules", "a path and a block"]);
    let name = "language_model.model.layers.1.mlp.down_proj.signs";
    let directory = pack();
    directory.tensors(|tensors| {
        let signs = &mut tensors.get_mut(name).unwrap().bytes;
        signs[3] ^= 0x80; // of the first
    });
    refused(&directory, &[name, "256 signs"]);
    let directory = pack();
    directory.tensors(|tensors| drop(tensors.remove(name)));
    refused(&directory, &[name, "missing"]);
}
