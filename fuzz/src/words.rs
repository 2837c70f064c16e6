//! The golden tokenizer, cut to a few tokens: all of printable ASCII, and the first merges. A vocabulary is most of a small file.

use serde_json::{Value as Json, json};

/// Tokens that are left, the three special ones included.
pub const TOKENS: usize = 128;
/// Tokens before.
pub const TOKENS_BEFORE: usize = 512;
/// The special ones are the last, before and after.
pub const SPECIAL: usize = 3;

/// Which tokens and which merges are left, in the order of their new ids.
pub fn cut(tokens: &[String], merges: &[(String, String)]) -> (Vec<usize>, Vec<usize>) {
    let place = |text: &str| tokens.iter().position(|token| token == text);
    let mut kept: Vec<usize> = (0..94).chain(["Ġ", "Ċ"].iter().filter_map(|text| place(text))).collect();
    let mut kept_merges = Vec::new();
    for (index, (left, right)) in merges.iter().enumerate() {
        let (Some(left), Some(right), Some(both)) = (place(left), place(right), place(&(left.clone() + right))) else {
            continue;
        };
        if kept.len() < TOKENS - SPECIAL && kept.contains(&left) && kept.contains(&right) && !kept.contains(&both) {
            kept.push(both);
            kept_merges.push(index);
        }
    }
    kept.extend(tokens.len() - SPECIAL..tokens.len());
    assert_eq!(kept.len(), TOKENS);
    (kept, kept_merges)
}

/// The merges of a tokenizer.json, as pairs.
pub fn merges(json: &Json) -> Vec<(String, String)> {
    let list = json["model"]["merges"].as_array().expect("merges");
    let part = |pair: &Json, place: usize| pair[place].as_str().expect("a pair of texts").to_owned();
    list.iter().map(|pair| (part(pair, 0), part(pair, 1))).collect()
}

/// The tokens of a tokenizer.json, by id.
pub fn tokens(json: &Json) -> Vec<String> {
    let added = json["added_tokens"].as_array().expect("added tokens").iter();
    let added = added.map(|token| (token["content"].as_str().expect("text").to_owned(), token["id"].clone()));
    let map = json["model"]["vocab"].as_object().expect("a vocabulary");
    let mut all: Vec<(String, Json)> = map.iter().map(|(text, id)| (text.clone(), id.clone())).chain(added).collect();
    all.sort_by_key(|(_, id)| id.as_u64());
    all.into_iter().map(|(text, _)| text).collect()
}

/// Cuts a tokenizer.json.
pub fn cut_json(json: &mut Json) {
    let (tokens, merges) = (tokens(json), merges(json));
    let (kept, kept_merges) = cut(&tokens, &merges);
    let normal = &kept[..TOKENS - SPECIAL];
    json["model"]["vocab"] =
        normal.iter().enumerate().map(|(id, &old)| (tokens[old].clone(), Json::from(id))).collect();
    json["model"]["merges"] =
        kept_merges.iter().map(|&index| Json::from(vec![&*merges[index].0, &*merges[index].1])).collect();
    for token in json["added_tokens"].as_array_mut().expect("added tokens") {
        token["id"] = Json::from(new_id(token["id"].as_u64().expect("an id")));
    }
    let post = &mut json["post_processor"]["special_tokens"];
    for token in post.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
        token["ids"][0] = Json::from(new_id(token["ids"][0].as_u64().expect("an id")));
    }
}

/// The new id of a special token.
pub fn new_id(old: u64) -> u64 {
    old - (TOKENS_BEFORE - TOKENS) as u64
}

/// A tokenizer.json of pieces with so many tokens, which is built at once.
pub fn pieces(count: usize) -> Json {
    let known = [
        "<unk>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<0x00>",
        "<0x0A>",
        "<0xC3>",
        "<0xA9>",
        "▁",
        "a",
        "b",
        "c",
        "▁a",
        "ab",
        "▁ab",
    ];
    let filling = (known.len()..count).map(|id| format!("x{id}"));
    let tokens = known.map(str::to_owned).into_iter().chain(filling).enumerate();
    let vocabulary: serde_json::Map<String, Json> = tokens.map(|(id, text)| (text, id.into())).collect();
    let special = |id: usize| json!({"id": id, "content": known[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0), special(1), special(2)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary,
            "merges": [["a", "b"], ["▁", "a"], ["▁", "ab"], ["▁a", "b"]]},
    })
}
