//! Conversations as ids: special tokens where the template puts them and nowhere else, BOS once, turns that begin with the turns
//! before.

use serde_json::{Map, Value, json};
use sterna::Error;
use sterna::chat::{Chat, ChatOptions, Conversation, Message};
use sterna::model::Model;

use crate::shared;

/// A model whose vocabulary has the special tokens of ChatML and of Llama 3.
fn model() -> Model {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden/qwen3-256/tq2_0.gguf");
    Model::open(path).unwrap()
}
