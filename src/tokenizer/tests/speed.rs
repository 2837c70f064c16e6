//! A vocabulary of Llama 3's size, made up: building it must not be felt when a model is opened.

use std::collections::HashSet;
use std::time::Instant;

use super::*;

/// 128,256 tokens and 280,147 merges, as in the published 2B-4T file: each token can be made in several ways.
fn large() -> Keys {
    let mut tokens: Vec<String> = (0..=255).map(|byte: u8| byte_level::spell(&[byte])).collect();
    let mut known: HashSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::new();
    let mut state = 1_u64;
    while tokens.len() < 128_256 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [left, right] = [33, 13].map(|shift| &tokens[(state >> shift) as usize % tokens.len().min(30_000)]);
        let whole = format!("{left}{right}");
        if whole.len() < 40 && known.insert(whole.clone()) {
            merges.push(format!("{left} {right}"));
            tokens.push(whole);
        }
    }
    'all: for whole in &tokens {
        for (middle, _) in whole.char_indices().skip(1) {
            let (left, right) = whole.split_at(middle);
            if known.contains(left) && known.contains(right) {
                merges.push(format!("{left} {right}"));
            }
            if merges.len() == 280_147 {
                break 'all;
            }
        }
    }
    Keys(Vec::new())
        .set("model", text("gpt2"))
        .set("pre", text(LLAMA_BPE))
        .set("tokens", strings(&tokens))
        .set("token_type", integers(&vec![1; tokens.len()]))
        .set("merges", strings(&merges))
}

#[test]
fn building_a_large_vocabulary_takes_no_time_that_is_felt() {
    let start = Instant::now();
    let metadata = large().metadata();
    let made = start.elapsed();
    let start = Instant::now();
    let (tokenizer, _) = Tokenizer::from_gguf(&metadata).unwrap();
    let took = start.elapsed();
    println!("made up in {made:?}, built in {took:?}");
    assert_eq!(tokenizer.vocabulary_size(), 128_256);
    // About 0.3 s on a machine of 2025, which takes 0.8 s to make the tokens up; slow and busy ones take longer for both. A
    // quadratic step would take a hundred times as long.
    assert!(took < 8 * made, "built in {took:?}, made up in {made:?}");
}
