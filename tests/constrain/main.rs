//! Constrained decoding, with the shipped model: it tells stories and knows no JSON, so whatever form its answers have comes from
//! the masks alone.

#[path = "../common/cpu.rs"]
mod cpu;

mod calls;
mod drawing;
mod generator;
mod hostile;
mod schemas;
mod validator;

use std::collections::HashMap;
use std::sync::OnceLock;

use sterna::constrain::{Constrainer, Constraint};
use sterna::generate::{Finish, GenerateOptions, Piece, Prompt, Sampler, Sampling, SequenceId, Session, StepBudget};
use sterna::{Loaded, Model, SessionOptions};

/// A small generator (xorshift64*), so that a test is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap())
}

fn constrainer() -> &'static Constrainer {
    static CONSTRAINER: OnceLock<Constrainer> = OnceLock::new();
    CONSTRAINER.get_or_init(|| Constrainer::new(model().tokenizer().unwrap()).unwrap())
}

fn session(sequences: usize) -> Session {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    let load = || Loaded::on_backend(model(), cpu::cpu(sterna::cpu::KernelSet::best(), 2)).unwrap();
    let options = SessionOptions { sequences, queue: Some(2000), ..SessionOptions::default() };
    LOADED.get_or_init(load).session(&options).unwrap()
}

/// A prompt to continue; not past the end.
fn prompt(max_tokens: usize) -> Prompt {
    let ids = model().tokenizer().unwrap().encode_prompt("Once upon a time").unwrap();
    Prompt { ids, options: GenerateOptions { max_tokens, ..GenerateOptions::default() } }
}

fn plain(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_k: 0, repetition_penalty: 1.0, seed, ..Sampling::default() }
}

fn sampler(sampling: &Sampling) -> Box<dyn Sampler> {
    sampling.sampler(512, model().config().vocabulary).unwrap()
}

fn constrained(constraint: Constraint, sampling: &Sampling) -> Box<dyn Sampler> {
    constraint.sampler(sampler(sampling), None)
}

/// What came of a sequence.
#[derive(Debug, Default)]
struct Outcome {
    ids: Vec<u32>,
    text: String,
    finish: Option<Finish>,
    error: Option<String>,
}

impl Outcome {
    fn take(&mut self, piece: &Piece) {
        self.ids.extend(piece.id);
        self.text += &piece.text;
        self.finish = piece.finish;
        self.error = piece.error.as_ref().map(ToString::to_string);
    }

    /// The text of an answer that came to its end.
    #[track_caller]
    fn whole(&self) -> &str {
        assert!(matches!(self.finish, Some(Finish::EndOfGeneration(_))), "{self:?}");
        &self.text
    }
}

/// Runs all that joined to their ends.
fn outcomes(session: &mut Session) -> HashMap<SequenceId, Outcome> {
    let mut outcomes: HashMap<SequenceId, Outcome> = HashMap::new();
    while session.running() + session.waiting() > 0 {
        session
            .step(&StepBudget::whole_chunks())
            .iter()
            .for_each(|piece| outcomes.entry(piece.sequence).or_default().take(piece));
    }
    outcomes
}

/// What comes of one prompt alone.
fn alone(prompt: Prompt, sampler: Box<dyn Sampler>) -> Outcome {
    let mut session = session(1);
    let id = session.join_with(prompt, sampler).unwrap();
    outcomes(&mut session).remove(&id).unwrap()
}
