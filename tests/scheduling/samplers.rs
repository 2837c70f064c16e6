//! Draws in any company, and log-probabilities that are those of the network.

use sterna::chat::{ThinkTags, ThinkingBudget};
use sterna::generate::{GenerateOptions, Piece, Prompt, Sampling, StepBudget};
use sterna::{Loaded, Session};

use crate::{Outcomes, Random, greedy, prompt, session};

crate::on_every_device!(
    log_probabilities_are_those_of_the_network,
    log_probabilities_change_no_draw,
    thoughts_are_ended_in_company,
);

/// What a vocabulary's draws are told differs by these.
pub fn samplings() -> Vec<Sampling> {
    let plain = Sampling { top_k: 0, temperature: 1.0, repetition_penalty: 1.0, seed: 3, ..Sampling::default() };
    vec![
        Sampling::greedy(),
        Sampling { seed: 9, ..Sampling::default() },
        plain.clone(),
        Sampling { top_p: 0.9, ..plain.clone() },
        Sampling { min_p: 0.05, temperature: 1.4, ..plain.clone() },
        Sampling { temperature: 0.6, ..plain.clone() },
        Sampling { frequency_penalty: 0.7, presence_penalty: 0.2, ..plain.clone() },
        Sampling { logit_bias: vec![(3, 2.0), (40, f32::NEG_INFINITY)], top_k: 20, ..plain },
    ]
}

fn pieces(session: &mut Session, prompt: Prompt) -> Vec<Piece> {
    let id = session.join(prompt).unwrap();
    let mut pieces = Vec::new();
    while session.usage(id).is_some() {
        pieces.extend(session.step(&StepBudget::default()).iter().cloned());
    }
    pieces
}

fn ids(session: &mut Session, prompt: Prompt) -> Vec<u32> {
    pieces(session, prompt).iter().filter_map(|piece| piece.id).collect()
}

/// Logits in f32, and sums of odds of 2048 tokens.
const TOLERANCE: f64 = 1e-4;

fn log_probabilities_are_those_of_the_network(loaded: Loaded) {
    let beginning = Random(32).ids(25);
    let (mut session, mut other) = (session(&loaded, 2, 32), session(&loaded, 1, 32));
    for sampling in samplings() {
        let mut asked = prompt(beginning.clone(), sampling, 6);
        asked.options.logprobs = Some(5);
        let mut all = beginning.clone();
        for piece in pieces(&mut session, asked) {
            let (id, logprobs) = (piece.id.unwrap(), piece.logprobs.unwrap());
            let logits = other.logits(&all).unwrap();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
            let of = |id: u32| f64::from(logits[id as usize] - largest) - total.ln();
            assert!((f64::from(logprobs.chosen) - of(id)).abs() < TOLERANCE, "{} is not {}", logprobs.chosen, of(id));
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            assert_eq!(logprobs.best.len(), 5);
            for (&(id, logprob), wanted) in logprobs.best.iter().zip(order) {
                assert!((f64::from(logprob) - of(id)).abs() < TOLERANCE && (of(id) - of(wanted)).abs() < TOLERANCE);
            }
            all.push(id);
        }
    }
}

fn log_probabilities_change_no_draw(loaded: Loaded) {
    let beginning = Random(33).ids(25);
    let mut session = session(&loaded, 2, 32);
    for sampling in samplings() {
        let plain = prompt(beginning.clone(), sampling, 20);
        let options = GenerateOptions { logprobs: Some(0), ..plain.options.clone() };
        let asked = Prompt { options, ..plain.clone() };
        assert_eq!(ids(&mut session, asked), ids(&mut session, plain));
    }
}

/// Sequences with and without a budget share their steps: before the thought's end and after it, each says what it says alone.
fn thoughts_are_ended_in_company(loaded: Loaded) {
    if cfg!(not(feature = "text")) {
        return; // What ends a thought is a text that has to become ids.
    }
    const MADE: usize = 30;
    let tags = ThinkTags::default();
    let ending = loaded.model().tokenizer().unwrap().encode(&tags.ending()).unwrap();
    let vocabulary = loaded.model().config().vocabulary;
    let (mut session, mut other) = (session(&loaded, 4, 32), session(&loaded, 1, 32));
    let mut outcomes = Outcomes::default();
    let beginning = Random(34).ids(25);
    let budgets = [None, Some(0), Some(1), Some(9)];
    let sequences = budgets.map(|budget| {
        let prompt = greedy(beginning.clone(), MADE);
        let Some(budget) = budget else { return session.join(prompt).unwrap() };
        let inner = Sampling::greedy().sampler(beginning.len() + MADE, vocabulary).unwrap();
        let sampler = ThinkingBudget::new(inner, budget, &tags, true, loaded.model()).unwrap();
        session.join_with(prompt, Box::new(sampler)).unwrap()
    });
    while sequences.iter().any(|&sequence| session.usage(sequence).is_some()) {
        outcomes.take(session.step(&StepBudget::default()));
    }
    let alone = outcomes.of(sequences[0]).to_vec();
    for (budget, sequence) in budgets.into_iter().zip(sequences) {
        let made = outcomes.of(sequence);
        assert_eq!(made.len(), MADE);
        let Some(budget) = budget else { continue };
        let so_far = [&alone[..budget], &ending].concat();
        let after = ids(&mut other, greedy([&beginning[..], &so_far].concat(), MADE - so_far.len()));
        assert_eq!(made, [so_far, after].concat());
    }
}
