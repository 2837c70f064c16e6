//! Tokenizers that do not fit together or do not fit their model. The rules of each kind of vocabulary are attacked in
//! the tokenizer's own tests; here they meet a whole file.

use sterna::model::Model;

use crate::counting_allocator::peak_bytes;
use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::{GgufWriter, array, string};
use crate::{FILES, Fate};

fn strings<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    array(8, texts.len() as u64, texts.flat_map(string).collect::<Vec<u8>>())
}

fn changed(change: impl for<'a> FnOnce(&'a mut GgufWriter) -> &'a mut GgufWriter) -> Fate {
    change(&mut parts(FILES[0])).fate()
}

#[test]
fn a_tokenizer_that_is_missing_or_does_not_fit_is_refused_by_its_key() {
    for key in ["tokens", "merges", "model", "pre"] {
        let key = format!("tokenizer.ggml.{key}");
        let fate = changed(|f| f.unset(&key));
        match &*key {
            "tokenizer.ggml.pre" => fate.ran(), // the architecture tells
            _ => fate.refused(&[&key]),
        }
        if key != "tokenizer.ggml.pre" {
            changed(|f| f.set_u32(&key, 1)).refused(&[&key, "1"]);
        }
    }
    let merges = |texts: &[&str]| changed(|f| f.set("tokenizer.ggml.merges", 9, strings(texts.iter().copied())));
    merges(&["h e", "日 a"]).refused(&["merge 1", "日"]);
    merges(&["h e", &"日 ".repeat(100_000)]).refused(&["merge 1", "日"]);
    merges(&["h e", &format!("{} a", "\x1b".repeat(100_000))]).refused(&["merge 1", "\\u{1b}"]);
    for key in ["bos", "eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        changed(|f| f.set_u32(&key, 512)).refused(&[&key, "512"]);
        changed(|f| f.set_u32(&key, u32::MAX)).refused(&[&key, "4294967295"]);
        changed(|f| f.set(&key, 5, [255; 4])).refused(&[&key, "-1"]);
    }
}

#[test]
fn more_tokens_than_embedding_rows_are_refused_and_fewer_are_not() {
    let rows = |rows: u64| {
        changed(|f| {
            let embedding = f.named("token_embd.weight");
            embedding.shape[1] = rows;
            embedding.data.resize(rows as usize * 256, 0);
            f
        })
    };
    rows(511).refused(&["512 tokens", "\"token_embd.weight\" has 511 rows"]);
    rows(1).refused(&["512 tokens", "1 rows"]);
    rows(513).ran();
}

#[test]
fn a_vocabulary_that_repeats_its_end_is_told_in_one_line() {
    const MANY: usize = 1 << 14;
    let mut file = parts(FILES[0]);
    let embedding = file.named("token_embd.weight");
    embedding.shape[1] = MANY as u64;
    embedding.data.resize(MANY * 256, 0);
    file.set("tokenizer.ggml.tokens", 9, strings(vec!["</s>"; MANY].into_iter()));
    file.set("tokenizer.ggml.token_type", 9, array(4, MANY as u64, [1, 0, 0, 0].repeat(MANY)));
    file.set("tokenizer.ggml.merges", 9, strings([].into_iter()));
    let file = TemporaryFile::new(&file.bytes());
    let (model, peak) = peak_bytes(|| Model::open(&file.path));
    let model = model.unwrap();
    let lines: Vec<String> = model.decisions().iter().map(ToString::to_string).collect();
    let told: Vec<&String> = lines.iter().filter(|line| line.contains("</s>")).collect();
    assert!(told.len() == 1 && told[0].contains("16384 times"), "{told:?}");
    assert!(peak < 4 << 20, "{peak} bytes");
    assert_eq!(model.tokenizer().unwrap().end_of_generation().len(), MANY);
}
