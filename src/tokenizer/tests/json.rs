//! A tokenizer.json gives the ids that the `tokenizers` library gives with the same file: on all vocabularies of
//! `tests/data`, on files made here for each accepted combination of steps, on chosen and on random texts.

use serde_json::json;

use super::*;

/// Texts in which the rules differ: digits, scripts without spaces, runs of white space, emoji, special tokens.
const TRICKY: [&str; 30] = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces ",
    "\n\n\n tabs\t\t\nand\r\nlines \n",
    "1 12 123 1234 12345678901",
    "3.14159, 1,000,000; 0x1F",
    "don't DON'T we'LL I'm they'Re",
    "日本語のテキスト、中文混合。",
    "한국어 텍스트",
    "Здравствуй, мир",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 family, 🇩🇪 flag, 🙂",
    "e\u{301} and é",
    "\u{1100}\u{1161}\u{11a8} 각",
    "naïve café — “quotes” … ",
    "<|begin_of_text|>Once<|eot_id|> upon<|end_of_text|>",
    "<|eot_id|><|eot_id|>",
    " <|eot_id|> ",
    "<|eot_id",
    "<s>once</s> upon",
    "</s>",
    "\u{2581}\u{2581}spelled\u{2581}out",
    "a\u{2581} b",
    "\u{feff}mark\u{200b}zero",
    "snake_case camelCase kebab-case path/to/file.rs",
    "!!!???...;;;",
    "\u{0}\u{1}\u{7f}",
    "Once upon a time there was a little mouse who lived in a house.",
    "                                        indented",
];

/// A directory with these files that is removed when it goes out of scope.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new(files: &[(&str, &Json)]) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sterna-tokenizer-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for (name, json) in files {
            std::fs::write(path.join(name), json.to_string()).unwrap();
        }
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Ours and the library's.
fn both(file: &Json) -> (Tokenizer, tokenizers::Tokenizer) {
    let directory = Directory::new(&[("tokenizer.json", file)]);
    let ours = Tokenizer::from_directory(&directory.0).unwrap().0;
    (ours, tokenizers::Tokenizer::from_file(directory.0.join("tokenizer.json")).unwrap())
}

fn library_ids(library: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    library.encode(text, false).unwrap().get_ids().to_vec()
}

fn check_tricky(file: &Json) -> (Tokenizer, tokenizers::Tokenizer) {
    let (ours, library) = both(file);
    for text in TRICKY {
        assert_eq!(ours.encode(text).unwrap(), library_ids(&library, text), "{text:?}");
    }
    for (pair, start) in TRICKY.iter().zip(&TRICKY[1..]) {
        let text = format!("{pair}{start} {pair}");
        assert_eq!(ours.encode(&text).unwrap(), library_ids(&library, &text), "{text:?}");
    }
    assert_eq!(ours.vocabulary_size(), library.get_vocab_size(true));
    (ours, library)
}

fn error(file: &Json, beside: &[(&str, &Json)]) -> Error {
    let files: Vec<(&str, &Json)> = [("tokenizer.json", file)].into_iter().chain(beside.iter().copied()).collect();
    Tokenizer::from_directory(&Directory::new(&files).0).unwrap_err()
}

/// The shared tokenizer with other steps.
fn with(changes: impl FnOnce(&mut Json)) -> Json {
    let mut file = data("golden/tokenizer.json");
    changes(&mut file);
    file
}

#[test]
fn ids_equal_the_librarys_on_every_vocabulary_of_the_tests() {
    for path in ["golden", "tales"] {
        let (ours, _) = check_tricky(&data(&format!("{path}/tokenizer.json")));
        check_reference(&ours, &data(&format!("{path}/tokens.json")), 57);
    }
}

#[test]
fn ids_equal_the_librarys_with_other_rules_and_properties() {
    const QWEN2: &str = concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
        r"\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    check_tricky(&with(|file| {
        file["normalizer"] = json!({"type": "NFC"});
        file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(QWEN2);
        file["model"]["ignore_merges"] = json!(false);
        file["added_tokens"][2]["special"] = json!(false);
    }));
    check_tricky(&with(|file| {
        file["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    }));
    check_tricky(&with(|file| {
        let split = &mut file["pre_tokenizer"]["pretokenizers"][0];
        split["behavior"] = json!("Removed");
        split["invert"] = json!(true);
        let merges: Vec<String> = file["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|merge| format!("{} {}", text_of(&merge[0]), text_of(&merge[1])))
            .collect();
        file["model"]["merges"] = json!(merges);
    }));
}

/// SentencePiece's vocabulary of the tests, with merges as transformers makes them from scores.
fn pieces(normalizer: Json, pre_tokenizer: Json) -> Json {
    let source = data("tokenizer/sentencepiece.json");
    let list = |key: &str| source[key].as_array().unwrap().clone();
    let tokens: Vec<String> = list("tokens").iter().map(|token| text_of(token).to_owned()).collect();
    let scores: Vec<f64> = list("scores").iter().map(|score| score.as_f64().unwrap()).collect();
    let kinds: Vec<i64> = list("types").iter().map(|kind| kind.as_i64().unwrap()).collect();
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in tokens.iter().enumerate() {
        vocabulary.entry(token.clone()).or_insert(json!(id));
    }
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| kinds[*id] == 1) {
        for (middle, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(middle);
            let is_piece = |part: &str| tokens.iter().position(|t| t == part).is_some_and(|id| kinds[id] == 1);
            if is_piece(left) && is_piece(right) {
                merges.push((scores[id], left.to_owned(), right.to_owned()));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges: Vec<Json> = merges.into_iter().map(|(_, left, right)| json!([left, right])).collect();
    let added = |id: usize, special: bool| {
        json!({"id": id, "content": tokens[id], "special": special, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, true), added(1, true), added(2, true)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary,
                  "merges": merges},
    })
}

fn every_way_to_spell_spaces() -> Vec<Json> {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let mut files = vec![
        pieces(json!({"type": "Sequence", "normalizers": [prepend, replace.clone()]}), Json::Null),
        pieces(
            replace,
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
        ),
    ];
    for scheme in ["always", "first", "never"] {
        for split in [false, true] {
            let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
            files.push(pieces(Json::Null, metaspace));
        }
    }
    files
}

#[test]
fn ids_equal_the_librarys_with_sentencepieces_vocabulary() {
    for file in every_way_to_spell_spaces() {
        check_tricky(&file);
    }
    let mut file = every_way_to_spell_spaces().remove(0);
    file["model"]["byte_fallback"] = json!(false);
    check_tricky(&file);
    file["model"]["fuse_unk"] = json!(false);
    check_tricky(&file);
}

/// Tokens with `normalized` are looked for after the others, in the text as it was normalised: of overlapping ones the others win,
/// and behind a normaliser that puts a space before a text they are found with that space alone.
#[test]
fn added_tokens_that_are_normalized_are_found_where_the_library_finds_them() {
    let texts = [
        "</s>",
        "a</s>",
        "a </s>b",
        "</s></s>",
        " </s> a",
        "<s>a</s>",
        "</s> <s> </s>",
        "▁</s>",
        "x<think>y <think> z",
        "<thin</s>k>",
        "é</s>e\u{301}",
        "in in",
        " in",
    ];
    let added = |content: &str, id: usize, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": true})
    };
    for mut file in every_way_to_spell_spaces() {
        let tokens: Vec<_> = file["model"]["vocab"].as_object().unwrap().clone().into_iter().collect();
        let id = |text: &str| tokens.iter().find(|(token, _)| token == text).unwrap().1.as_u64().unwrap() as usize;
        file["added_tokens"][2]["normalized"] = json!(true);
        let list = file["added_tokens"].as_array_mut().unwrap();
        // Within the first stands the second, which is looked for before.
        list.extend([added("<think>", id("<think>"), false), added("in", id("in"), false)]);
        list[4]["normalized"] = json!(false);
        let (ours, library) = check_tricky(&file);
        for text in texts {
            assert_eq!(ours.encode(text).unwrap(), library_ids(&library, text), "{text:?} {}", file["pre_tokenizer"]);
        }
    }
    for normalizer in [Json::Null, json!({"type": "NFC"})] {
        let mut file = data("golden/tokenizer.json");
        let count = file["model"]["vocab"].as_object().unwrap().len() + 3;
        file["normalizer"] = normalizer;
        let list = file["added_tokens"].as_array_mut().unwrap();
        list.extend([
            added("xé<|eot", count, false),
            added("    ", count + 1, false),
            added("e\u{301}t", count + 2, true),
        ]);
        let (ours, library) = check_tricky(&file);
        for text in ["xé<|eot_id|>", "xe\u{301}<|eot_i", "a        b", "ét", "e\u{301}t", "cafe\u{301}t     x"] {
            assert_eq!(ours.encode(text).unwrap(), library_ids(&library, text), "{text:?} {}", file["normalizer"]);
        }
    }
}

proptest! {
    #[test]
    fn ids_of_any_text_equal_the_librarys(text in any_text(), which in 0_usize..10) {
        static TOKENIZERS: std::sync::LazyLock<Vec<(Tokenizer, tokenizers::Tokenizer)>> =
            std::sync::LazyLock::new(|| {
                let files = ["golden", "tales"].map(|path| data(&format!("{path}/tokenizer.json")));
                files.iter().chain(&every_way_to_spell_spaces()).map(both).collect()
            });
        let (ours, library) = &TOKENIZERS[which];
        prop_assert_eq!(ours.encode(&text).unwrap(), library_ids(library, &text));
    }
}

#[test]
fn the_files_beside_it_name_the_ends_and_the_beginning() {
    let file = data("golden/tokenizer.json");
    let read = |beside: &[(&str, Json)]| {
        let files: Vec<(&str, &Json)> =
            [("tokenizer.json", &file)].into_iter().chain(beside.iter().map(|(name, json)| (*name, json))).collect();
        Tokenizer::from_directory(&Directory::new(&files).0).unwrap().0
    };
    let plain = read(&[]);
    assert_eq!((plain.bos(), plain.adds_bos(), plain.eos()), (Some(509), true, None));
    let config =
        json!({"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|eot_id|>", "add_bos_token": false});
    let told =
        read(&[("tokenizer_config.json", config), ("generation_config.json", json!({"eos_token_id": [510, 7]}))]);
    assert_eq!((told.bos(), told.adds_bos(), told.eos()), (Some(509), false, Some(511)));
    assert_eq!(told.end_of_generation(), [7, 510, 511]);
    let model = read(&[("config.json", json!({"bos_token_id": 509, "eos_token_id": 510}))]);
    assert_eq!((model.bos(), model.eos()), (Some(509), Some(510)));
}

#[test]
fn steps_that_are_not_known_are_refused_by_their_text() {
    let refused = |change: fn(&mut Json), says: &str| {
        let error = error(&with(change), &[]);
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    };
    refused(|f| f["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("[a-z]+"), "[a-z]+");
    refused(|f| f["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("MergedWithNext"), "pre-tokenizer");
    refused(|f| f["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true), "pre-tokenizer");
    refused(|f| f["pre_tokenizer"]["pretokenizers"][1]["use_regex"] = json!(true), "pre-tokenizer");
    refused(|f| f["pre_tokenizer"] = json!({"type": "Whitespace"}), "Whitespace");
    refused(|f| f["normalizer"] = json!({"type": "Lowercase"}), "Lowercase");
    refused(|f| f["post_processor"] = json!({"type": "BertProcessing"}), "BertProcessing");
    refused(|f| f["model"] = json!({"type": "Unigram", "vocab": []}), "Unigram");
    refused(|f| f["model"]["dropout"] = json!(0.1), "dropout");
    refused(|f| f["model"]["end_of_word_suffix"] = json!("</w>"), "suffix");
    refused(|f| f["added_tokens"][0]["lstrip"] = json!(true), "lstrip");
}

#[test]
fn damaged_files_are_errors() {
    let says = |file: Json, beside: &[(&str, &Json)], part: &str| {
        let text = error(&file, beside).to_string();
        assert!(text.contains(part) && text.len() < 600, "{text} does not say {part:?}");
    };
    for nonsense in [json!(null), json!([]), json!({}), json!({"model": 1}), json!({"model": {"vocab": {"a": -1}}})] {
        says(nonsense, &[], "tokenizer.json");
    }
    says(with(|f| f["model"]["vocab"]["!"] = json!(u32::MAX)), &[], "4294967295");
    says(with(|f| f["model"]["vocab"]["!"] = json!(1_000_000)), &[], "1000000");
    says(with(|f| f["model"]["vocab"]["!"] = json!(5)), &[], "the same id");
    says(with(|f| f["added_tokens"][0]["id"] = json!(5)), &[], "the same id");
    // Found by fuzzing: a place among the vocabulary's that is free.
    let hole = with(|f| {
        f["model"]["vocab"].as_object_mut().unwrap().retain(|_, id| *id != 5);
        f["added_tokens"][0]["id"] = json!(5);
    });
    says(hole, &[], "one of the vocabulary's");
    says(with(|f| f["model"]["merges"][3] = json!(["a"])), &[], "two");
    says(with(|f| f["model"]["merges"][3] = json!(["日", "本"])), &[], "merge 3");
    says(with(|_| ()), &[("generation_config.json", &json!({"eos_token_id": 512}))], "512");
    says(with(|_| ()), &[("generation_config.json", &json!({"eos_token_id": -1}))], "generation_config.json");
    says(with(|_| ()), &[("tokenizer_config.json", &json!([1]))], "tokenizer_config.json");
    let missing = Tokenizer::from_directory(&Directory::new(&[]).0).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }) && missing.to_string().contains("tokenizer.json"), "{missing}");
}

#[test]
fn a_chat_template_is_found_in_its_file_or_in_the_config() {
    let found = |files: &[(&str, &Json)]| chat_template(&Directory::new(files).0).unwrap();
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[("tokenizer_config.json", &json!({"chat_template": "{{ a }}"}))]).as_deref(), Some("{{ a }}"));
    let several =
        json!({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]});
    assert_eq!(found(&[("tokenizer_config.json", &several)]).as_deref(), Some("d"));
    let file = json!("of its own");
    assert_eq!(
        found(&[("tokenizer_config.json", &several), ("chat_template.jinja", &file)]).as_deref(),
        Some("\"of its own\"")
    );
}
