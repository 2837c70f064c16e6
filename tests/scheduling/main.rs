//! Sequences that join and leave while others run: what they get does not depend on who else is there, and nobody is kept
//! waiting. On the CPU with its fastest kernels, on the portable ones, and on every GPU.

#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/gpu.rs"]
mod gpu;
#[path = "../common/script.rs"]
mod script;

mod fairness;
mod lookup;
mod orders;
mod prefixes;
mod samplers;
mod stages;

use std::collections::HashMap;

use sterna::backend::Backend;
use sterna::generate::{Finish, GenerateOptions, Piece, Prompt, Sampling, SequenceId, Session, StepBudget};
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

    fn ids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| 3 + self.below(2000) as u32).collect()
    }
}

/// Makes a test of each body for each backend. A body takes the shipped model, loaded.
#[macro_export]
macro_rules! on_every_device {
    ($($body:ident),+ $(,)?) => { $(
        mod $body {
            #[test]
            fn cpu() {
                super::$body($crate::loaded($crate::cpu::cpu(sterna::cpu::KernelSet::best(), 2)));
            }

            #[test]
            fn cpu_portable() {
                super::$body($crate::loaded($crate::cpu::cpu(sterna::cpu::KernelSet::Portable, 1)));
            }

            #[test]
            fn gpu() {
                for device in $crate::gpu::devices(Default::default()) {
                    super::$body($crate::loaded(sterna::gpu::Gpu::new(&device)));
                }
            }
        }
    )+ };
}

fn shipped_model() -> Model {
    Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap()
}

fn loaded<B: Backend + 'static>(backend: B) -> Loaded {
    Loaded::on_backend(&shipped_model(), backend).unwrap()
}

fn session(loaded: &Loaded, sequences: usize, chunk: usize) -> Session {
    let options = SessionOptions { sequences, chunk: Some(chunk), ..SessionOptions::default() };
    loaded.session(&options).unwrap()
}

/// A prompt that goes on past every end.
fn prompt(ids: Vec<u32>, sampling: Sampling, max_tokens: usize) -> Prompt {
    let options = GenerateOptions { sampling, max_tokens, ignore_end: true, ..GenerateOptions::default() };
    Prompt { ids, options }
}

fn greedy(ids: Vec<u32>, max_tokens: usize) -> Prompt {
    prompt(ids, Sampling::greedy(), max_tokens)
}

/// What came of sequences so far.
#[derive(Default)]
struct Outcomes {
    ids: HashMap<SequenceId, Vec<u32>>,
    last: HashMap<SequenceId, Piece>,
}

impl Outcomes {
    fn take(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            assert!(!self.last.contains_key(&piece.sequence), "nothing comes after the last piece");
            self.ids.entry(piece.sequence).or_default().extend(piece.id);
            if piece.finish.is_some() {
                self.last.insert(piece.sequence, piece.clone());
            }
        }
    }

    fn of(&self, id: SequenceId) -> &[u32] {
        self.ids.get(&id).map_or(&[], Vec::as_slice)
    }

    fn finish(&self, id: SequenceId) -> Option<Finish> {
        self.last.get(&id).and_then(|piece| piece.finish)
    }
}

/// Steps until nothing is left to do.
fn run_to_the_end(session: &mut Session, outcomes: &mut Outcomes) {
    while session.running() + session.waiting() > 0 {
        outcomes.take(session.step(&StepBudget::whole_chunks()));
    }
    outcomes.take(session.step(&StepBudget::whole_chunks()));
}
