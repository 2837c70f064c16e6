//! Whole models: what a session tells with and without a screen, for every way to draw.

use std::path::Path;

use sterna::cpu::{CpuOptions, KernelSet, Screening};
use sterna::generate::{GenerateOptions, Prompt, Sampling, Session, SessionOptions};
use sterna::model::SyntheticShape;
use sterna::{Device, Model};

fn generate(model: &Model, cpu: CpuOptions, context: usize, prompts: &[Prompt]) -> Vec<Vec<u32>> {
    let options = SessionOptions { context: Some(context), sequences: prompts.len(), ..SessionOptions::default() };
    let mut session = Session::new(model, &Device::cpu_with(cpu), &options).unwrap();
    let mut ids = vec![Vec::new(); prompts.len()];
    for piece in session.generate_batch(prompts).unwrap() {
        let piece = piece.unwrap();
        ids[piece.sequence].extend(piece.id);
    }
    ids
}

/// Every way to draw, with as many seeds.
fn samplings(seeds: u64) -> Vec<Sampling> {
    let mut samplings = vec![Sampling::greedy(), Sampling { temperature: 0.0, ..Sampling::default() }];
    for seed in 0..seeds {
        let plain = Sampling { seed, ..Sampling::default() };
        samplings.extend([
            plain.clone(),
            Sampling { temperature: 1.5, top_p: 0.9, min_p: 0.02, ..plain.clone() },
            Sampling { top_k: 200, repetition_penalty: 1.6, repetition_window: 8, ..plain.clone() },
            Sampling { top_k: 1, repetition_penalty: 3.0, ..plain.clone() },
            Sampling { repetition_penalty: 0.8, ..plain.clone() },
            Sampling { top_k: 0, ..plain.clone() },
            Sampling { top_k: 1000, ..plain },
        ]);
    }
    samplings
}

fn prompts(samplings: &[Sampling], max_tokens: usize) -> Vec<Prompt> {
    let prompt = |sampling: &Sampling| Prompt {
        ids: vec![1, 40, 7],
        options: GenerateOptions {
            sampling: sampling.clone(),
            max_tokens,
            ignore_end: true,
            ..GenerateOptions::default()
        },
    };
    samplings.iter().map(prompt).collect()
}

#[test]
fn the_same_seed_tells_the_same_with_and_without_a_screen() {
    for path in ["models/tales-4m-i2_s.gguf", "tests/data/golden/bitnet-256/i2_s.gguf"] {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        for kernels in KernelSet::available() {
            let with = |threads, screening, prompts: &[Prompt]| {
                generate(
                    &model,
                    CpuOptions { threads: Some(threads), kernels: Some(kernels), screening, ..CpuOptions::default() },
                    64,
                    prompts,
                )
            };
            for prompt in prompts(&samplings(6), 30) {
                let prompt = std::slice::from_ref(&prompt);
                assert_eq!(with(2, Screening::Always, prompt), with(1, Screening::Never, prompt), "{prompt:?}");
            }
            let all = prompts(&samplings(2), 20);
            let exact = with(1, Screening::Never, &all);
            for threads in [1, 2, 3] {
                assert_eq!(with(threads, Screening::Always, &all), exact, "in one batch, {threads} threads");
            }
        }
    }
}

#[test]
fn a_model_of_real_size_tells_the_same_with_and_without_a_screen() {
    let model = Model::synthetic(SyntheticShape::Bitnet700M, 3);
    let prompts = prompts(&samplings(1)[..6], 5);
    let with = |screening| generate(&model, CpuOptions { screening, ..CpuOptions::default() }, 64, &prompts);
    assert_eq!(with(Screening::WhereFaster), with(Screening::Never));
}

/// Tokens of 64 sequences at once, drawn in all ways: `cargo test --release --test screened_head -- --ignored`.
#[test]
#[ignore = "it makes 200,000 tokens with a model of 0.7B"]
fn a_hundred_thousand_tokens_are_those_of_the_exact_head() {
    const TOKENS: usize = 391;
    let model = Model::synthetic(SyntheticShape::Bitnet700M, 3);
    for first in 0..4 {
        let mut prompts = prompts(&samplings(9)[..64], TOKENS);
        prompts.iter_mut().for_each(|prompt| prompt.ids[0] = 1 + first);
        let with = |screening| generate(&model, CpuOptions { screening, ..CpuOptions::default() }, 512, &prompts);
        let (screened, exact) = (with(Screening::WhereFaster), with(Screening::Never));
        assert!(exact.iter().all(|ids| ids.len() == TOKENS));
        assert_eq!(screened, exact, "prompts that begin with {}", 1 + first);
    }
}
