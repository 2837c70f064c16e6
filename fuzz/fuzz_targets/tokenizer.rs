//! Tokenizers of every rule, and of pieces, against the `tokenizers` library with the same vocabulary: the same ids for any text,
//! and text that comes back. A tokenizer.json that was changed is refused, or understood as the library understands it.
#![no_main]

use std::cell::Cell;
use std::path::Path;
use std::sync::{LazyLock, Once};

use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};
use sterna::format::gguf::Gguf;
use sterna::tokenizer::{TextStream, Tokenizer};
use sterna_fuzz::directory::change_json;
use sterna_fuzz::gguf::{File, array, string, value};
use sterna_fuzz::run::check_text;
use sterna_fuzz::tiny::write_sentencepiece;
use sterna_fuzz::{Input, golden, scratch, words};

/// One vocabulary, as we read it and as the library does.
struct Pair {
    name: String,
    ours: Vec<Tokenizer>,
    theirs: tokenizers::Tokenizer,
}

static RULES: LazyLock<Vec<Pair>> = LazyLock::new(rules);
static PIECES: LazyLock<Vec<(String, Json)>> = LazyLock::new(pieces);
static BUILT: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let pair = |(name, json): &(String, Json)| Pair {
        name: name.clone(),
        ours: vec![ours(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"))],
        theirs: theirs(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}")),
    };
    PIECES.iter().map(pair).collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.below(8) {
        0..=3 => check(&RULES[input.below(RULES.len())], &text(&mut input)),
        4 | 5 => check(&BUILT[input.below(BUILT.len())], &text(&mut input)),
        6 => check_changed(&mut input),
        _ => check_changed_keys(&mut input),
    }
});

fn check(pair: &Pair, text: &str) {
    let name = &pair.name;
    let theirs = pair.theirs.encode_fast(text, false).expect("no step of these fails");
    for ours in &pair.ours {
        let ids = match ours.encode(text) {
            Ok(ids) => ids,
            // The expression of a rule gives up on very long runs, and says so.
            Err(error) => return check_text(&error.to_string()),
        };
        assert_eq!(ids, theirs.get_ids(), "{name}: {text:?}");
        check_decoding(ours, &ids);
        let plain = ours.encode_plain(text).expect("special tokens make no difference");
        check_decoding(ours, &plain);
        ours.encode_prompt(text).expect("as encode");
    }
}

/// Bytes of tokens, put together as they come, are the text of all.
fn check_decoding(tokenizer: &Tokenizer, ids: &[u32]) {
    let mut stream = TextStream::new();
    let mut text: String = ids.iter().map(|&id| stream.push(tokenizer.token_bytes(id))).collect();
    text += &stream.finish();
    let decoded = tokenizer.decode(ids);
    assert!(text == decoded || text.strip_prefix(' ') == Some(&decoded), "{text:?}, {decoded:?}");
}

fn check_changed(input: &mut Input) {
    let (name, json) = &PIECES[input.below(PIECES.len())];
    let mut bytes = json.to_string().into_bytes();
    for _ in 0..1 + input.below(3) {
        change_json(&mut bytes, input);
    }
    let ours = match ours(&bytes) {
        Ok(ours) => ours,
        Err(error) => return check_text(&error),
    };
    let Ok(theirs) = theirs(&bytes) else { return };
    if !tells_the_same_ids(&bytes, &theirs) {
        return;
    }
    let text = text(input);
    let changed = || format!("{name} as {}: {text:?}", String::from_utf8_lossy(&bytes));
    match (ours.encode(&text), theirs.encode_fast(text.as_str(), false)) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs.get_ids(), "{}", changed()),
        (Err(error), _) => check_text(&error.to_string()),
        (Ok(_), Err(_)) => {}
    }
}

/// Whether the library numbers the added tokens as the file does: it numbers those that the vocabulary lacks by itself.
fn tells_the_same_ids(bytes: &[u8], theirs: &tokenizers::Tokenizer) -> bool {
    let json: Json = serde_json::from_slice(bytes).unwrap_or_default();
    let added = json["added_tokens"].as_array().into_iter().flatten();
    added.clone().all(|token| {
        let id = token["content"].as_str().and_then(|text| theirs.token_to_id(text));
        id.map(u64::from) == token["id"].as_u64()
    })
}

/// Keys of a vocabulary with scores, changed: no library reads these, so only what must hold of any tokenizer is held.
fn check_changed_keys(input: &mut Input) {
    let mut file = File::default();
    write_sentencepiece(&mut file, 24);
    for _ in 0..1 + input.below(4) {
        let kind = input.below(7);
        file.change_key(kind, input);
    }
    let Ok(file) = Gguf::parse(file.bytes().into()) else { return };
    let ours = match Tokenizer::from_gguf(file.metadata()) {
        Ok((ours, _)) => ours,
        Err(error) => return check_text(&error.to_string()),
    };
    let text = text(input);
    for ids in [ours.encode(&text), ours.encode_plain(&text), ours.encode_prompt(&text)] {
        match ids {
            Ok(ids) => {
                assert!(ids.iter().all(|&id| (id as usize) < ours.vocabulary_size()));
                check_decoding(&ours, &ids);
            }
            Err(error) => check_text(&error.to_string()),
        }
    }
}

/// Words of a table of what is cut, joined or composed somewhere; or anything.
fn text(input: &mut Input) -> String {
    const WORDS: [&str; 96] = [
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\r",
        "\u{b}",
        "\u{85}",
        "\u{a0}",
        "\u{1680}",
        "\u{2028}",
        "\u{3000}",
        "\u{200b}",
        "\u{200d}",
        "\u{feff}",
        "\u{202e}",
        "\u{ad}",
        "\u{0}",
        "\u{7f}",
        "'s",
        "'S",
        "'\u{17f}",
        "'LL",
        "\u{2019}ll",
        "'",
        "a",
        "B",
        "th",
        "the",
        "on",
        "x",
        "é",
        "e\u{301}",
        "\u{300}",
        "\u{93f}",
        "\u{e0001}",
        "\u{fe0f}",
        "\u{1e9e}",
        "ﬀ",
        "Å",
        "A\u{30a}",
        "\u{212b}",
        "Ω",
        "\u{2126}",
        "\u{1100}\u{1161}",
        "각",
        "한",
        "\u{d7a3}",
        "中",
        "文",
        "\u{9fa5}",
        "\u{9fa6}",
        "の",
        "カ",
        "か\u{3099}",
        "\u{30fb}",
        "ー",
        "\u{309b}",
        "\u{30ff}",
        "\u{3100}",
        "\u{20000}",
        "1",
        "234",
        "\u{661}",
        "\u{ff11}",
        "½",
        "Ⅳ",
        "²",
        "\u{1d7ce}",
        "!",
        "?",
        "...",
        "\u{ff01}",
        "€",
        "#",
        "_",
        "-",
        "\\",
        "~",
        "«",
        "\u{1f642}",
        "\u{1f469}",
        "\u{1f3fd}",
        "\u{1f1e9}",
        "\u{10ffff}",
        "\u{e000}",
        "▁",
        "▁▁",
        "<",
        "<|",
        "|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
        "<0x41>",
        "<think>",
        "<unk>",
    ];
    match input.chance(2) {
        false => input.0.iter().map(|&byte| WORDS[usize::from(byte) % WORDS.len()]).collect(),
        true => String::from_utf8_lossy(input.0).into_owned(),
    }
}

// ---- Byte-level vocabularies ----

const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Each applied to what the former left.
const HUNYUAN: [&str; 3] = [
    r"\p{N}{1,3}",
    "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

/// The golden vocabulary under each rule, as published: from GGUF keys, and from a tokenizer.json where that is one expression.
fn rules() -> Vec<Pair> {
    let golden = std::fs::read(golden::folder().join("tokenizer.json")).expect("the golden tokenizer");
    let golden: Json = serde_json::from_slice(&golden).expect("JSON");
    let rules: [(&str, &[&str], bool); 7] = [
        ("llama-bpe", &[LLAMA], false),
        ("qwen2", &[QWEN2], true),
        ("stablelm2", &[QWEN2], false),
        ("qwen35", &[QWEN35], true),
        ("hunyuan-dense", &HUNYUAN, false),
        ("gpt-2", &[], false),
        ("olmo", &[], true),
    ];
    let pair = |(rule, expressions, composes): (&str, &[&str], bool)| {
        let mut json = golden.clone();
        let splits = expressions.iter().map(|expression| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false}));
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": expressions.is_empty()});
        json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": splits.chain([bytes]).collect::<Vec<_>>()});
        json["normalizer"] = if composes { json!({"type": "NFC"}) } else { Json::Null };
        json["model"]["ignore_merges"] = (rule == "llama-bpe").into();
        let bytes = json.to_string().into_bytes();
        let mut readings = vec![from_gguf(&json, rule)];
        if expressions.len() < 2 {
            readings.push(ours(&bytes).unwrap_or_else(|error| panic!("{rule}: {error}")));
        }
        Pair {
            name: rule.into(),
            ours: readings,
            theirs: theirs(&bytes).unwrap_or_else(|error| panic!("{rule}: {error}")),
        }
    };
    rules.into_iter().map(pair).collect()
}

fn from_gguf(json: &Json, rule: &str) -> Tokenizer {
    let tokens = words::tokens(json);
    let merges: Vec<String> = words::merges(json).into_iter().map(|(left, right)| left + " " + &right).collect();
    let texts =
        |list: &[String]| array(value::STRING, list.len(), list.iter().flat_map(|text| string(text.as_bytes())));
    let kinds =
        (0..tokens.len()).flat_map(|id| if id < tokens.len() - words::SPECIAL { 1i32 } else { 3 }.to_le_bytes());
    let mut file = File::default();
    file.set("tokenizer.ggml.model", value::STRING, string(b"gpt2"));
    file.set("tokenizer.ggml.pre", value::STRING, string(rule.as_bytes()));
    file.set("tokenizer.ggml.tokens", value::ARRAY, texts(&tokens));
    file.set("tokenizer.ggml.merges", value::ARRAY, texts(&merges));
    file.set("tokenizer.ggml.token_type", value::ARRAY, array(value::I32, tokens.len(), kinds));
    let file = Gguf::parse(file.bytes().into()).expect("a sound file");
    Tokenizer::from_gguf(file.metadata()).unwrap_or_else(|error| panic!("{rule}: {error}")).0
}

// ---- Pieces ----

/// A vocabulary of pieces with each way to spell spaces.
fn pieces() -> Vec<(String, Json)> {
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let ways = [
        ("as Llama 2", None, None),
        (
            "as Gemma",
            Some(replace.clone()),
            Some(
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            ),
        ),
        ("replaced", Some(replace), Some(Json::Null)),
        ("first", Some(Json::Null), Some(metaspace("first", false))),
        ("first, split", Some(Json::Null), Some(metaspace("first", true))),
        ("always", Some(Json::Null), Some(metaspace("always", false))),
        ("always, split", Some(Json::Null), Some(metaspace("always", true))),
        ("never, split", Some(Json::Null), Some(metaspace("never", true))),
    ];
    let one = |(name, normalizer, pre_tokenizer): (&str, Option<Json>, Option<Json>)| {
        let mut json = words::pieces(40);
        if let Some(normalizer) = normalizer {
            json["normalizer"] = normalizer;
        }
        if let Some(pre_tokenizer) = pre_tokenizer {
            json["pre_tokenizer"] = pre_tokenizer;
        }
        (name.to_owned(), json)
    };
    ways.into_iter().map(one).collect()
}

/// A tokenizer.json as we read it, from a directory of its own.
fn ours(bytes: &[u8]) -> Result<Tokenizer, String> {
    let folder = scratch::path("tokenizer");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(Path::join(&folder, "tokenizer.json"), bytes).expect("room");
    Tokenizer::from_directory(&folder).map(|(tokenizer, _)| tokenizer).map_err(|error| error.to_string())
}

thread_local! {
    /// Whether the library is at work on this thread.
    static IS_THEIRS: Cell<bool> = const { Cell::new(false) };
}

fn theirs(bytes: &[u8]) -> Result<tokenizers::Tokenizer, String> {
    // The library panics over some files that it should refuse, such as one with the number 1e999, which is not our find. The
    // fuzzer's hook would end the process before a panic can be caught.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_THEIRS.get() {
                hook(panic);
            }
        }));
    });
    IS_THEIRS.set(true);
    let outcome =
        std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string()));
    IS_THEIRS.set(false);
    outcome.unwrap_or_else(|_| Err("a panic".into()))
}
