//! Generation on the shipped model: what a session promises about batches, prefixes, seeds, threads and stops, on every
//! backend.

#[path = "../common/mod.rs"]
mod common;

mod ahead;
mod batches;
mod interrupts;
mod promises;
mod recurrent;
mod stops;
mod synthetic;

use sterna::generate::{Batch, Finish, GenerateOptions, Prompt, Sampling};

/// Prompts of different lengths, so that positions are ragged.
const TEXTS: [&str; 4] = [
    "Once upon a time",
    "The king",
    "There was a little old woman who lived in a house by the wood, and every morning she went out to look for her goose",
    "\"Yes,\" said the wind,",
];

/// What came out of one sequence of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Output {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
}

/// Runs a batch to its end.
fn collect(batch: Batch<'_>, sequences: usize) -> Vec<Output> {
    let mut outputs = vec![Output::default(); sequences];
    for piece in batch {
        let piece = piece.unwrap();
        let output = &mut outputs[piece.sequence];
        assert_eq!(output.finish, None, "nothing comes after the last piece");
        output.ids.extend(piece.id);
        output.text.push_str(&piece.text);
        output.finish = piece.finish;
    }
    assert!(outputs.iter().all(|output| output.finish.is_some()), "every sequence says how it ended");
    outputs
}

/// A sampled prompt; each has a seed of its own.
fn prompt(text: &str, seed: u64, max_tokens: usize) -> Prompt {
    let ids = common::shipped_model().tokenizer().unwrap().encode_prompt(text).unwrap();
    let sampling = Sampling { seed, ..Sampling::default() };
    Prompt { ids, options: GenerateOptions { sampling, max_tokens, ..GenerateOptions::default() } }
}
