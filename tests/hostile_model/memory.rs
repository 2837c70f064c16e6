//! How much memory opening takes. Mapped bytes are no allocations: they are the file itself, and the system takes them
//! back when it needs room. What is allocated is the directory, the tokenizer and a table of frequencies.

use sterna::model::Model;

use crate::FILES;
use crate::counting_allocator::peak_bytes;
use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::{GgufWriter, array, string};

/// What opening may hold for a file with the golden files' 512 tokens, whatever its numbers claim: no claim is believed
/// before the bytes behind it were counted. The largest head's frequencies (64 KiB) and the tokenizer are within it.
pub const SMALL_MODEL_BYTES: usize = 1 << 20;

/// What each byte of a tokenizer may hold beside. Measured: 14 for a million tokens of five letters, which take 13 bytes
/// in the file, and in memory a text, its bytes, an entry in each of the merger's two tables, and what those keep free;
/// 8 with four million merges, which the merger takes as pairs of strings.
const BYTES_FOR_A_TOKENIZER_BYTE: usize = 16;

#[test]
fn opening_a_small_model_holds_a_constant() {
    for file in FILES {
        let file = TemporaryFile::new(&parts(file).bytes());
        let (model, peak) = peak_bytes(|| Model::open(&file.path));
        assert!(model.is_ok() && peak < SMALL_MODEL_BYTES, "{peak} bytes");
    }
}

#[test]
fn opening_a_model_of_many_layers_holds_a_constant_for_each_tensor() {
    const LAYERS: usize = 4096;
    // Its entry, twice while the list of them grows, and its name. Measured: 220.
    const BYTES_FOR_A_TENSOR: usize = 256;
    let mut file = smallest(16, 0);
    let layer: Vec<_> = file.tensors.split_off(2);
    for number in 0..LAYERS {
        for tensor in &layer {
            let name = String::from_utf8_lossy(&tensor.name).replace("blk.0", &format!("blk.{number}"));
            file.add(&name, &tensor.shape, tensor.type_id, tensor.data.clone());
        }
    }
    file.set_u32("llama.block_count", LAYERS as u32);
    let file = TemporaryFile::new(&file.bytes());
    let (model, peak) = peak_bytes(|| Model::open(&file.path));
    assert_eq!(model.unwrap().config().layers, LAYERS);
    assert!(peak < SMALL_MODEL_BYTES + BYTES_FOR_A_TENSOR * LAYERS * layer.len(), "{peak} bytes");
}

#[test]
fn opening_the_largest_accepted_tokenizer_holds_a_constant_for_each_of_its_bytes() {
    const TOKENS: usize = 1 << 20;
    for merges in [1, 1 << 22] {
        let file = smallest(TOKENS, merges);
        let tokenizer: usize = file.pairs.iter().map(|(_, _, value)| value.len()).sum();
        let file = TemporaryFile::new(&file.bytes());
        let (model, peak) = peak_bytes(|| Model::open(&file.path));
        assert_eq!(model.unwrap().config().vocabulary, TOKENS);
        assert!(peak < SMALL_MODEL_BYTES + BYTES_FOR_A_TOKENIZER_BYTE * tokenizer, "{peak} for {tokenizer} bytes");
    }
    let (too_many, too_many_merges) = (smallest(TOKENS + 1, 0).fate(), smallest(16 + 256, (1 << 22) + 1).fate());
    too_many.refused(&["1048577 tokens", "1048576"]);
    too_many_merges.refused(&["4194305 merges", "4194304"]);
}

/// The smallest model, with that many tokens and merges, each as short as can be.
fn smallest(tokens: usize, merges: usize) -> GgufWriter {
    let spelled: Vec<String> = (0..tokens).map(spelling).collect();
    let mut file = GgufWriter::new().pair("general.architecture", 8, string("llama")).tensor(
        "token_embd.weight",
        &[2, tokens as u64],
        1,
        half::f16::ONE.to_le_bytes().repeat(2 * tokens),
    );
    for (key, size) in [
        ("block_count", 1),
        ("embedding_length", 2),
        ("feed_forward_length", 1),
        ("context_length", 1),
        ("attention.head_count", 1),
    ] {
        file.set_u32(&format!("llama.{key}"), size);
    }
    file.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    file.set_text("tokenizer.ggml.model", "gpt2").set_text("tokenizer.ggml.pre", "llama-bpe");
    let elements: Vec<u8> = spelled.iter().flat_map(string).collect();
    file.set("tokenizer.ggml.tokens", 9, array(8, tokens as u64, elements));
    file.set("tokenizer.ggml.token_type", 9, array(0, tokens as u64, vec![1; tokens]));
    // Each merge is another pair as long as there are tokens to make.
    let elements: Vec<u8> = (0..merges)
        .flat_map(|i| {
            let whole = &spelled[16 + i % (tokens - 16)];
            let middle = 1 + i / tokens % (whole.len() - 1);
            string(format!("{} {}", &whole[..middle], &whole[middle..]))
        })
        .collect();
    file.set("tokenizer.ggml.merges", 9, array(8, merges as u64, elements));
    let ones = 1_f32.to_le_bytes().repeat(2);
    file.add("output_norm.weight", &[2], 0, ones.clone());
    for (name, cols, rows) in [
        ("attn_q", 2, 2),
        ("attn_k", 2, 2),
        ("attn_v", 2, 2),
        ("attn_output", 2, 2),
        ("ffn_gate", 2, 1),
        ("ffn_up", 2, 1),
        ("ffn_down", 1, 2),
    ] {
        file.add(
            &format!("blk.0.{name}.weight"),
            &[cols, rows],
            1,
            half::f16::ONE.to_le_bytes().repeat((cols * rows) as usize),
        );
    }
    file.add("blk.0.attn_norm.weight", &[2], 0, ones.clone()).add("blk.0.ffn_norm.weight", &[2], 0, ones);
    file
}

/// Token `number`: all texts of 16 letters, the shorter first, so that both parts of a token, however it is cut, are
/// tokens too.
fn spelling(mut number: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'a' + (number % 16) as u8);
        if number < 16 {
            break;
        }
        number = number / 16 - 1;
    }
    letters.reverse();
    String::from_utf8(letters).expect("letters are ASCII")
}
