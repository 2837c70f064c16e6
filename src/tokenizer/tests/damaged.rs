//! Files whose keys are missing, lie or do not fit together give errors that name the key, never a panic.

use super::*;

fn assert_names(keys: Keys, parts: &[&str]) {
    let message = keys.error().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message:?} names {parts:?}");
}

#[test]
fn missing_keys_are_named() {
    for key in ["model", "tokens", "merges"] {
        assert_names(golden().without(key), &[&full(key)]);
    }
    let spm = Keys(Vec::new()).set("model", text("llama")).set("tokens", strings(&["<unk>"]));
    assert_names(spm, &["tokenizer.ggml.scores"]);
}

#[test]
fn unknown_kinds_of_tokenizer_are_named_with_the_known() {
    assert!(matches!(golden().set("model", text("gemma4")).error(), Error::Unsupported(_)));
    assert_names(golden().set("model", text("gemma4")), &["gemma4", "gpt2, llama"]);
    assert!(matches!(golden().set("pre", text("tekken")).error(), Error::Unsupported(_)));
    assert_names(golden().set("pre", text("tekken")), &["tekken", "llama-bpe", "qwen35"]);
}

#[test]
fn arrays_of_another_length_or_type_are_named() {
    assert_names(golden().set("token_type", integers(&[1; 511])), &["token_type", "511", "512"]);
    assert_names(golden().set("token_type", integers(&[9; 512])), &["token 0", "9"]);
    assert_names(golden().set("token_type", strings(&["x"; 512])), &["token_type", "string"]);
    assert_names(golden().set("tokens", integers(&[1; 512])), &["tokens", "i32"]);
    assert_names(golden().set("merges", integers(&[1])), &["merges", "i32"]);
    assert_names(golden().set("tokens", strings::<&str>(&[])), &["tokens is empty"]);
    let spm = golden().set("model", text("llama"));
    assert_names(spm.clone().set("scores", floats(&[0.0; 3])), &["scores", "3", "512"]);
    assert_names(spm.clone().set("scores", floats(&[f32::NAN; 512])), &["scores", "token 0"]);
    assert_names(spm.set("scores", strings(&["x"; 512])), &["scores"]);
}

#[test]
fn too_many_and_too_long_tokens_are_refused() {
    assert_names(golden().set("tokens", strings(&vec![""; (1 << 20) + 1])), &["1048577"]);
    assert_names(golden().set("tokens", strings(&["a".repeat(20_000)])), &["token 0", "20000"]);
}

#[test]
fn ids_out_of_range_are_named() {
    for key in ["bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"] {
        assert_names(golden().set(key, Value::Unsigned(512)), &[key, "512"]);
        assert_names(golden().set(key, Value::Signed(-1)), &[key]);
    }
}

#[test]
fn broken_merges_are_named_by_their_index() {
    for merge in ["", " ", "ab", "a ", " b", "a  b", "a b c"] {
        assert_names(golden().set("merges", strings(&["h e", merge])), &["merge 1"]);
    }
    assert_names(golden().set("merges", strings(&["日 a"])), &["merge 0", "日"]);
    // The result is longer than any token, on which the merger's own builder would panic.
    let keys = golden().set("tokens", strings(&["a", "b"])).set("token_type", integers(&[1, 1]));
    let keys = keys.without("bos_token_id").without("eos_token_id");
    assert_names(keys.set("merges", strings(&["a b"])), &["merge 0", "ab"]);
}

#[test]
fn repeated_and_circular_merges_build() {
    let keys = golden().set("merges", strings(&["h e", "h e", "Ġ t", "h e"]));
    assert_eq!(keys.build().encode("he").unwrap().len(), 1);
}

#[test]
fn text_that_the_vocabulary_cannot_spell_is_an_error() {
    let keys = golden().set("tokens", strings(&["a", "b"])).set("token_type", integers(&[1, 1]));
    let keys = keys.without("bos_token_id").without("eos_token_id").set("merges", strings::<&str>(&[]));
    let tokenizer = keys.build();
    assert_eq!(tokenizer.encode("ab").unwrap(), [0, 1]);
    assert!(tokenizer.encode("abc").unwrap_err().to_string().contains("abc"));
}

#[test]
fn long_inputs_are_encoded_or_refused_whole() {
    let tokenizer = golden().build();
    for part in ["a", "日", "!", "\n", "ab ", "7", "<|eot_id|", " \n"] {
        let long = part.repeat(300_000 / part.len());
        assert_eq!(tokenizer.decode(&tokenizer.encode(&long).unwrap()), long);
    }
    // The regular expression engine gives up; the text is not cut in some other way instead.
    assert!(matches!(tokenizer.encode(&(" ".repeat(3_000_000) + "x")), Err(Error::Input(_))));
}
