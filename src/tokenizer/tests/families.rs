//! What differs between families: the rule that cuts words, special tokens, SentencePiece.

use tokenizers::utils::SysRegex;

use super::*;

#[test]
fn each_rule_gives_the_ids_of_the_reference() {
    let rules = data("tokenizer/rules.json");
    for pre in [LLAMA_BPE, "hunyuan-dense", "qwen2", "stablelm2", "qwen35", "gpt-2", "olmo"] {
        let tokenizer = byte_level_keys("golden/tokenizer.json", pre).build();
        let vectors = rules[pre].as_array().unwrap();
        assert_eq!(vectors.len(), 73);
        for vector in vectors {
            let text = text_of(&vector["text"]);
            assert_eq!(tokenizer.encode(text).unwrap(), ids_of(&vector["ids"]), "{pre}: {text:?}");
        }
    }
}

/// The ids above hardly tell how a text was cut where the small vocabulary has but single bytes.
#[test]
fn each_rule_cuts_the_words_of_the_reference() {
    for (pre, vectors) in data("tokenizer/rules.json").as_object().unwrap() {
        let words =
            SysRegex::new(rules::choose(&golden().set("pre", text(pre)).metadata(), 512).unwrap().0.words).unwrap();
        for vector in vectors.as_array().unwrap() {
            let expected: Vec<&str> = vector["words"].as_array().unwrap().iter().map(text_of).collect();
            let text = expected.concat(); // composed where the rule does so
            let found: Vec<&str> = words.find_iter(&text).map(|(start, end)| &text[start..end]).collect();
            assert_eq!(found, expected, "{pre}");
        }
    }
}

#[test]
fn bos_by_default_is_the_rules() {
    for (pre, adds_bos) in [(LLAMA_BPE, true), ("falcon_e", true), ("qwen2", false), ("olmo", false)] {
        let keys = byte_level_keys("golden/tokenizer.json", pre).without("add_bos_token");
        assert_eq!(keys.clone().build().adds_bos(), adds_bos, "{pre}");
        assert!(!keys.without("bos_token_id").build().adds_bos(), "{pre}");
    }
}

/// "abc" is a token that no merge makes.
fn whole_word(pre: &str) -> Keys {
    Keys(Vec::new())
        .set("model", text("gpt2"))
        .set("pre", text(pre))
        .set("tokens", strings(&["a", "b", "c", "bc", "abc"]))
        .set("token_type", integers(&[1; 5]))
        .set("merges", strings(&["b c"]))
}

#[test]
fn a_word_that_is_a_token_skips_the_merges_where_the_rule_says_so() {
    assert_eq!(whole_word(LLAMA_BPE).build().encode("abc").unwrap(), [4]);
    assert_eq!(whole_word("qwen2").build().encode("abc").unwrap(), [0, 3]);
}

#[test]
fn of_tokens_spelled_alike_the_first_is_used_and_all_decode() {
    let keys = whole_word(LLAMA_BPE).set("tokens", strings(&["a", "b", "c", "bc", "a"]));
    let tokenizer = keys.build();
    assert_eq!(tokenizer.encode("a").unwrap(), [0]);
    assert_eq!(tokenizer.decode(&[0, 4]), "aa");
}

#[test]
fn special_tokens_match_leftmost_and_longest() {
    let tokens = ["a", "b", "<", ">", "<a>", "<a><b", "<b>"];
    let keys = whole_word(LLAMA_BPE).set("tokens", strings(&tokens)).set("merges", strings::<&str>(&[]));
    let tokenizer = keys.set("token_type", integers(&[1, 1, 1, 1, 4, 3, 3])).build();
    assert_eq!(tokenizer.encode("<a><b>").unwrap(), [5, 3]);
    assert_eq!(tokenizer.encode("<a>b<b>").unwrap(), [4, 1, 6]);
    // Without control tokens, the shorter user-defined one is found.
    assert_eq!(tokenizer.encode_plain("<a><b>").unwrap(), [4, 2, 1, 3]);
    assert_eq!(tokenizer.decode(&[4, 5, 1]), "<a>b");
}

#[test]
fn special_tokens_are_those_of_a_plain_search() {
    // All texts of a, b and an umlaut (two bytes) up to four letters, of which a few are tokens of either kind.
    let letters = ["a", "b", "ä"];
    let longer = |texts: &[String]| texts.iter().flat_map(|t| letters.map(|l| format!("{t}{l}"))).collect::<Vec<_>>();
    let mut texts = vec![letters.map(String::from).to_vec()];
    (1..4).for_each(|length| texts.push(longer(&texts[length - 1])));
    let texts = texts.concat();
    let mut state = 1_u64;
    for _ in 0..50 {
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut tokens: Vec<String> = byte_level::spell(&[b'a', b'b', 0xc3, 0xa4]).chars().map(String::from).collect();
        let mut kinds = vec![1; tokens.len()];
        for _ in 0..6 {
            let text = &texts[draw(texts.len())];
            if !tokens[4..].contains(text) {
                tokens.push(text.clone());
                kinds.push([3, 4][draw(2)]);
            }
        }
        let text: String = (0..200).map(|_| letters[draw(3)]).collect();
        let keys = whole_word(LLAMA_BPE).set("tokens", strings(&tokens)).set("merges", strings::<&str>(&[]));
        let tokenizer = keys.set("token_type", integers(&kinds)).build();
        for with_control in [true, false] {
            let found: Vec<String> = tokenizer.special.split(&text, with_control).map(|f| format!("{f:?}")).collect();
            let (mut wanted, mut at, mut before) = (Vec::new(), 0, 0);
            while at < text.len() {
                let fits = |id: &usize| text.is_char_boundary(at) && text[at..].starts_with(&tokens[*id]);
                let ids = (4..tokens.len()).filter(|&id| with_control || kinds[id] == 4).filter(fits);
                let Some(id) = ids.max_by_key(|&id| tokens[id].len()) else {
                    at += 1;
                    continue;
                };
                if before < at {
                    wanted.push(format!("Text({:?})", &text[before..at]));
                }
                wanted.push(format!("{}({id})", if kinds[id] == 3 { "Control" } else { "UserDefined" }));
                (at, before) = (at + tokens[id].len(), at + tokens[id].len());
            }
            if before < at {
                wanted.push(format!("Text({:?})", &text[before..]));
            }
            assert_eq!(found, wanted);
        }
    }
}

#[test]
fn long_special_tokens_with_common_beginnings_are_found_in_a_long_text_in_one_pass() {
    // At each letter of the text, most of these tokens could begin, for 10,000 letters: looked at one by one, that would take
    // minutes.
    const LENGTH: usize = 10_000;
    let mut tokens: Vec<String> = ["a", "b"].map(String::from).to_vec();
    tokens.extend([0, 1, 2].map(|less| format!("{}b", "a".repeat(LENGTH - less))));
    tokens.push("aab".into());
    let kinds = [1, 1, 3, 3, 4, 3];
    let keys = whole_word(LLAMA_BPE).set("tokens", strings(&tokens)).set("merges", strings::<&str>(&[]));
    let tokenizer = keys.set("token_type", integers(&kinds)).build();
    let text = format!("{}b", "a".repeat(100 * LENGTH));
    let split = |text: &str| tokenizer.special.split(text, true).map(|f| format!("{f:?}")).collect::<Vec<_>>();
    assert_eq!(split(&text[..text.len() - 1]).len(), 1);
    assert_eq!(split(&text)[1..], ["Control(2)"]);
    assert_eq!(split(&text[99 * LENGTH + 2..]), ["UserDefined(4)"]);
    assert_eq!(split(&"aab".repeat(1_000_000)).len(), 1_000_000);
}

#[test]
fn a_missing_rule_is_inferred_and_said() {
    let keys = golden().without("pre").set("general.architecture", text("bitnet-b1.58"));
    let (tokenizer, decisions) = keys.build_with_decisions();
    check_reference(&tokenizer, &data("golden/tokens.json"), 57);
    let decision = decisions.iter().find(|decision| decision.subject == "pre-tokenizer").unwrap();
    assert_eq!(decision.choice, LLAMA_BPE);
    assert!(decision.reason.contains("tokenizer.ggml.pre is missing") && decision.reason.contains("bitnet-b1.58"));
    // Converters that do not know the tokenizer write "default".
    golden().set("pre", text("default")).set("general.architecture", text("bitnet")).build();
    assert!(matches!(golden().without("pre").error(), Error::Unsupported(_)));
}

#[test]
fn a_missing_rule_is_inferred_from_the_size_before_the_architecture() {
    let inferred = |size: usize, name: &str| {
        let keys = Keys(Vec::new()).set("bos_token_id", Value::Unsigned(128_000));
        let keys = keys.set("general.name", text(name)).set("general.architecture", text("bitnet"));
        rules::choose(&keys.metadata(), size).unwrap().1.choice
    };
    assert_eq!(inferred(128_256, ""), "llama-bpe");
    assert_eq!(inferred(151_936, ""), "qwen2");
    assert_eq!(inferred(248_320, ""), "qwen35");
    assert_eq!(inferred(32_768, "Falcon_E 3B"), "llama-bpe");
}

#[test]
fn missing_kinds_are_guessed_from_keys_and_spelling() {
    let (tokenizer, decisions) = golden().without("token_type").build_with_decisions();
    check_reference(&tokenizer, &data("golden/tokens.json"), 57);
    assert!(decisions.iter().any(|decision| decision.subject == "token kind"));
}

#[test]
fn an_end_token_typed_as_text_becomes_control() {
    let mut kinds = [1; 512];
    kinds[509..511].fill(3);
    let (tokenizer, decisions) = golden().set("token_type", integers(&kinds)).build_with_decisions();
    assert_eq!(tokenizer.encode("<|eot_id|>").unwrap(), [511]);
    assert!(tokenizer.is_end_of_generation(511));
    assert!(decisions.iter().any(|decision| decision.choice.contains("<|eot_id|>")));
}

#[test]
fn a_merge_of_special_tokens_is_ignored_and_said() {
    // Token 256, the first that a merge makes, as a control token.
    let mut kinds = [1; 512];
    kinds[256] = 3;
    kinds[509..].fill(3);
    let (tokenizer, decisions) = golden().set("token_type", integers(&kinds)).build_with_decisions();
    assert!(decisions.iter().any(|decision| decision.subject == "merges"));
    let ids = tokenizer.encode_plain("the tale of the tree").unwrap();
    assert!(!ids.contains(&256));
    assert_eq!(tokenizer.decode(&ids), "the tale of the tree");
}

fn sentencepiece_keys() -> (Keys, Json) {
    sentencepiece_keys_of("tokenizer/sentencepiece.json")
}

fn sentencepiece_keys_of(path: &str) -> (Keys, Json) {
    let json = data(path);
    let list = |key: &str| json[key].as_array().unwrap().clone();
    let tokens: Vec<String> = list("tokens").iter().map(|token| text_of(token).to_owned()).collect();
    let scores: Vec<f32> = list("scores").iter().map(|score| score.as_f64().unwrap() as f32).collect();
    let kinds: Vec<i32> = list("types").iter().map(|kind| kind.as_i64().unwrap() as i32).collect();
    let keys = Keys(Vec::new())
        .set("model", text("llama"))
        .set("tokens", strings(&tokens))
        .set("scores", floats(&scores))
        .set("token_type", integers(&kinds))
        .set("bos_token_id", Value::Unsigned(json["bos"].as_u64().unwrap()))
        .set("eos_token_id", Value::Unsigned(json["eos"].as_u64().unwrap()));
    (keys, json)
}

fn check_sentencepiece(tokenizer: &Tokenizer, json: &Json, count: usize) {
    let vectors = json["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), count);
    for vector in vectors {
        let text = text_of(&vector["text"]);
        let ids = tokenizer.encode_plain(text).unwrap();
        assert_eq!(ids, ids_of(&vector["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids), text_of(&vector["decoded"]), "{text:?}");
    }
}

#[test]
fn sentencepiece_ids_equal_the_reference() {
    let (keys, json) = sentencepiece_keys();
    check_sentencepiece(&keys.build(), &json, 43);
}

#[test]
fn gemma_keeps_runs_of_spaces_and_adds_none() {
    let (keys, json) = sentencepiece_keys_of("tokenizer/gemma.json");
    let tokenizer = keys.set("add_space_prefix", Value::Bool(false)).build();
    check_sentencepiece(&tokenizer, &json, 62);
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.end_of_generation()), (Some(2), Some(1), &[1, 5][..]));
    assert_eq!(tokenizer.encode("<start_of_turn>a  b<end_of_turn>\n").unwrap(), [4, 428, 9, 445, 5, 25]);
}

#[test]
fn sentencepiece_puts_a_space_before_a_text_and_after_control_tokens() {
    let (keys, _) = sentencepiece_keys();
    let tokenizer = keys.clone().build();
    let once = tokenizer.encode("once").unwrap();
    assert_eq!(tokenizer.encode("<s>once</s>once").unwrap(), [&[1], &*once, &[2], &once].concat());
    assert_eq!(tokenizer.encode_prompt("once").unwrap(), [&[1], &*once].concat());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.end_of_generation()), (Some(1), Some(2), &[2][..]));
    let bare = keys.set("add_space_prefix", Value::Bool(false)).build();
    assert_eq!(bare.encode(" once").unwrap(), once);
    assert_eq!(bare.decode(&once), " once");
}

#[test]
fn sentencepiece_without_bytes_gives_one_unknown_for_a_run() {
    let keys = Keys(Vec::new())
        .set("model", text("llama"))
        .set("tokens", strings(&["<unk>", "<s>", "</s>", "▁", "a"]))
        .set("scores", floats(&[0.0; 5]));
    assert_eq!(keys.clone().build().encode("a日本a").unwrap(), [3, 4, 0, 4]);
    assert!(keys.set("tokens", strings(&["u", "<s>", "</s>", "▁", "a"])).build().encode("日").is_err());
}

proptest! {
    #[test]
    fn any_text_survives_the_rule_of_hunyuan(text in any_text()) {
        static TOKENIZER: std::sync::LazyLock<Tokenizer> =
            std::sync::LazyLock::new(|| byte_level_keys("golden/tokenizer.json", "hunyuan-dense").build());
        prop_assert_eq!(TOKENIZER.decode(&TOKENIZER.encode_plain(&text).unwrap()), text);
    }

    #[test]
    fn any_text_survives_sentencepiece(text in any_text()) {
        static TOKENIZER: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| sentencepiece_keys().0.build());
        let ids = TOKENIZER.encode_plain(&text).unwrap();
        prop_assert!(!ids.iter().any(|id| [0, 1, 2].contains(id)));
        // The vocabulary cannot tell a spelled-out U+2581 from a space.
        prop_assert_eq!(TOKENIZER.decode(&ids), text.replace('▁', " "));
    }
}
