//! Models in several files.

use std::collections::BTreeMap;

use serde_json::json;
use sterna::model::Model;

use crate::directory::{Directory, file, tensors};
use crate::golden::check;

/// The index and two shards in place of the one file.
pub fn cut(directory: &Directory) {
    let all = tensors(&directory.bytes("model.safetensors"));
    directory.remove("model.safetensors");
    let name = |number| format!("model-0000{number}-of-00002.safetensors");
    let place = |at: usize| 1 + at % 2;
    let map: BTreeMap<&String, String> = all.keys().enumerate().map(|(at, tensor)| (tensor, name(place(at)))).collect();
    for number in [1, 2] {
        let part = all.clone().into_iter().enumerate().filter(|(at, _)| place(*at) == number).map(|(_, t)| t).collect();
        directory.write(&name(number), &file(&part));
    }
    directory.write_json("model.safetensors.index.json", &json!({"metadata": {"total_size": 1}, "weight_map": map}));
}

#[test]
fn a_model_in_shards_gives_the_same_logits() {
    let directory = Directory::golden("bitnet-256");
    cut(&directory);
    check(&Model::open(&directory.path).unwrap(), "bitnet-256");
    check(&Model::open(directory.path.join("model-00002-of-00002.safetensors")).unwrap(), "bitnet-256");
}
