//! Weights in huge pages: the same tokens, and memory that the system says is of such pages.

#[path = "common/skipped.rs"]
mod skipped;

use sterna::cpu::{CpuOptions, HugePages};
use sterna::measure::huge_page_bytes;
use sterna::model::SyntheticShape;
use sterna::{Device, GenerateOptions, Loaded, Model, SessionOptions};

/// Two layers, and a head of 32 000 rows: 10 MB of trits, and 98 MB in f16 of which a screen takes half.
fn model() -> Model {
    Model::synthetic(SyntheticShape::Bitnet700M, 1).first_layers(2)
}

fn loaded(model: &Model, huge_pages: HugePages) -> Loaded {
    model.load(&Device::cpu_with(CpuOptions { threads: Some(2), huge_pages, ..CpuOptions::default() })).unwrap()
}

fn ids(loaded: &Loaded) -> Vec<u32> {
    let mut session = loaded.session(&SessionOptions::default()).unwrap();
    let options = GenerateOptions { max_tokens: 20, ignore_end: true, ..GenerateOptions::greedy() };
    session.generate_ids(&[3, 1, 4, 1, 5, 9, 2, 6], &options).unwrap().map(|id| id.unwrap()).collect()
}

/// Whether the system makes huge pages for a program that asks, at once, even if it has to move others' pages for that.
fn are_given_at_once() -> bool {
    let says = |file: &str, words: &[&str]| {
        let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
        let chosen = std::fs::read_to_string(path).unwrap_or_default();
        words.iter().any(|word| chosen.contains(&format!("[{word}]")))
    };
    says("enabled", &["always", "madvise"]) && says("defrag", &["always", "madvise", "defer+madvise"])
}

#[test]
fn weights_in_huge_pages_give_the_same_tokens_and_the_system_sees_the_pages() {
    let model = model();
    let before = huge_page_bytes();
    let small = loaded(&model, HugePages::Never);
    let wanted = ids(&small);
    let (between, huge) = (huge_page_bytes(), loaded(&model, HugePages::WhereGiven));
    assert_eq!(ids(&huge), wanted);
    let (Some(before), Some(between), Some(after), true) = (before, between, huge_page_bytes(), are_given_at_once())
    else {
        return skipped::skipped("huge pages: this system does not give them to programs that ask");
    };
    let (trits, screen) = (model.config().ternary_weights() / 4, 32_000 * 1536);
    // A few pages are only filled in part.
    let least = (trits + screen) * 9 / 10 - (4 << 20);
    assert!(after - between >= least, "{} bytes of {} in huge pages", after - between, trits + screen);
    assert!(between - before < least, "those who do not want them do not ask");
}
