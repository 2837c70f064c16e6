//! Several sequences in one step: each gets what it would get alone.

use sterna::backend::Backend;
use sterna::generate::{Finish, GenerateOptions, Prompt, Session, SessionOptions};

use crate::common::shipped_model;
use crate::{Output, TEXTS, collect, prompt};

crate::on_every_backend!(each_sequence_of_a_batch_gets_what_it_gets_alone, greedy_and_sampled_sequences_share_a_batch);

/// More rows than all prompts of [`TEXTS`] have together. A GPU rehearses a step of so many.
const ALL_ROWS: usize = 64;

/// Different lengths of prompt and of answer, so that sequences leave the batch one after another.
fn ragged_prompts() -> Vec<Prompt> {
    TEXTS.iter().zip(0..).map(|(text, seed)| prompt(text, seed, 6 + 5 * seed as usize)).collect()
}

fn run<B: Backend + 'static>(backend: B, prompts: &[Prompt], chunk: usize) -> Vec<Output> {
    let options = SessionOptions { sequences: prompts.len(), chunk: Some(chunk), ..SessionOptions::default() };
    let mut session = Session::with_backend(&shipped_model(), backend, &options).unwrap();
    collect(session.generate_batch(prompts).unwrap(), prompts.len())
}

fn each_sequence_of_a_batch_gets_what_it_gets_alone<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let prompts = ragged_prompts();
    assert!(prompts.iter().map(|p| p.ids.len()).sum::<usize>() <= ALL_ROWS);
    let alone: Vec<Output> = prompts.iter().flat_map(|p| run(make(), std::slice::from_ref(p), ALL_ROWS)).collect();
    assert_eq!(run(make(), &prompts, ALL_ROWS), alone);
    assert_eq!(run(make(), &prompts, 5), alone, "whatever the chunks");
}

fn greedy_and_sampled_sequences_share_a_batch<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let mut prompts = ragged_prompts();
    prompts[1].options = GenerateOptions { max_tokens: 9, ..GenerateOptions::greedy() };
    let alone: Vec<Output> = prompts.iter().flat_map(|p| run(make(), std::slice::from_ref(p), ALL_ROWS)).collect();
    assert_eq!(run(make(), &prompts, ALL_ROWS), alone);
}

#[test]
fn a_batch_larger_than_the_session_is_refused() {
    let mut session = Session::new(&shipped_model(), &sterna::Device::cpu(), &SessionOptions::default()).unwrap();
    let error = session.generate_batch(&ragged_prompts()).unwrap_err().to_string();
    assert!(error.contains("4 prompts for a session of 1 sequences"), "{error}");
    assert!(session.generate_batch(&[]).is_err(), "and an empty one");
}

#[test]
fn a_sequence_that_may_make_nothing_lets_the_others_go_on() {
    let mut prompts = ragged_prompts();
    prompts[2].options.max_tokens = 0;
    let options = SessionOptions { sequences: prompts.len(), ..SessionOptions::default() };
    let mut session = Session::new(&shipped_model(), &sterna::Device::cpu(), &options).unwrap();
    let outputs = collect(session.generate_batch(&prompts).unwrap(), prompts.len());
    assert_eq!((outputs[2].ids.len(), outputs[2].finish), (0, Some(Finish::MaxTokens)));
    assert_eq!(outputs[3].ids.len(), 21);
}
