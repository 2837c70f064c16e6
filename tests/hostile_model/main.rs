//! Whole models from hostile files: opening, decoding and one step of generation give an error that names the key or
//! the tensor, or a model that runs. Never a panic, and never memory that the file did not pay for.
//!
//! What the container's own reader refuses is attacked in `tests/hostile_gguf.rs`; here are the rules above it.

#[path = "../common/counting_allocator.rs"]
mod counting_allocator;
#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/gguf_edit.rs"]
mod edit;
#[path = "../common/gguf_fields.rs"]
mod gguf_fields;
#[path = "../common/gguf_writer.rs"]
mod gguf_writer;
#[cfg(feature = "gpu")]
#[path = "../common/gpu.rs"]
mod gpu;

mod bytes;
mod delta_net;
mod empty;
mod experts;
mod families;
mod hadamard;
mod keys;
#[cfg(target_os = "linux")]
mod limits;
mod memory;
mod network_keys;
mod not_finite;
mod paths;
mod shapes;
mod split;
mod tensors;
mod tokenizers;

use std::path::Path;

use edit::TemporaryFile;
use gguf_writer::GgufWriter;
use sterna::generate::{GenerateOptions, Sampling, Session, SessionOptions};
use sterna::model::{Model, Part, Role};
use sterna::reference::Reference;
use sterna::{Error, Result};

/// The attacked files: one with a tied head and sub-norms, one with neither; one of each ternary type.
const FILES: [&str; 2] = ["bitnet-128-silu/i2_s.gguf", "llama-256/tq2_0.gguf"];

/// Files of further families: YaRN and everything ternary, LongRoPE and three factors, norms after the rotation, an
/// embedding model of windowed layers, recurrent layers, and experts.
const FAMILIES: [&str; 6] = [
    "qwen3-yarn/pq2_0.gguf",
    "minicpm-256/tq2_0.gguf",
    "hunyuan-256/stq1_0_id42.gguf",
    "embedding-gemma3/i2_s.gguf",
    "qwen35-128-hf/ptq1_0.gguf",
    "maple-256/mixed.gguf",
];

impl GgufWriter {
    /// Opens and runs what is written.
    fn fate(&self) -> Fate {
        Fate::of(&TemporaryFile::new(&self.bytes()).path)
    }
}

/// How far a file got.
#[derive(Debug)]
enum Fate {
    /// `Model::open` refused it.
    Refused(Error),
    /// It opened; its weights or its first step gave an error.
    Failed(Error),
    /// It opened, all its weights decode, and it made a token.
    Ran,
}

impl Fate {
    /// Opens and runs a file. Whatever error comes is short and can be printed on a terminal, however long and strange
    /// the names in the file are.
    fn of(path: &Path) -> Self {
        let fate = match Model::open(path) {
            Err(error) => Fate::Refused(error),
            Ok(model) => match run(&model) {
                Err(error) => Fate::Failed(error),
                Ok(()) => Fate::Ran,
            },
        };
        if let Some(text) = fate.text() {
            assert!(text.len() < 1500 && !text.contains(char::is_control), "{text:?}");
        }
        fate
    }

    fn text(&self) -> Option<String> {
        match self {
            Fate::Refused(error) | Fate::Failed(error) => Some(error.to_string()),
            Fate::Ran => None,
        }
    }

    /// The file must be refused when it is opened, with a text that says all of this.
    #[track_caller]
    fn refused(&self, says: &[&str]) {
        let Fate::Refused(error) = self else { panic!("{self:?}, but it should have been refused: {says:?}") };
        let text = error.to_string();
        assert!(says.iter().all(|part| text.contains(part)), "{text:?} does not say {says:?}");
    }

    /// The file opens, because its bytes are not read then, but it fails before the first token.
    #[track_caller]
    fn failed(&self, says: &[&str]) {
        let Fate::Failed(error) = self else { panic!("{self:?}, but it should have failed: {says:?}") };
        let text = error.to_string();
        assert!(says.iter().all(|part| text.contains(part)), "{text:?} does not say {says:?}");
    }

    #[track_caller]
    fn ran(&self) {
        assert!(matches!(self, Fate::Ran), "{self:?}, but it is a legal file");
    }
}

/// Decodes all weights and makes a greedy and a drawn token, or a vector.
fn run(model: &Model) -> Result<()> {
    let layers = 0..model.config().layers;
    let parts = layers.flat_map(|layer| Part::ALL.iter().map(move |&(part, _)| Role::Layer(layer, part)));
    for role in [Role::Embedding, Role::OutputNorm, Role::Head, Role::RopeFactors].into_iter().chain(parts) {
        if let Some(weights) = model.weights(role)? {
            assert_eq!((weights.rows(), weights.cols()), role.shape(model.config()), "{role:?}");
        }
    }
    assert!(model.config().ternary_weights() > 0);
    let mut session = session(model)?;
    if model.config().pooling.is_some() {
        return session.embed_ids(&[&[0]]).map(|_| ());
    }
    let drawn = GenerateOptions { sampling: Sampling::default(), max_tokens: 1, ..GenerateOptions::default() };
    for options in [GenerateOptions { max_tokens: 1, ..GenerateOptions::greedy() }, drawn] {
        session.generate_ids(&[0], &options)?.try_for_each(|id| id.map(|_| ()))?;
    }
    Ok(())
}

/// A small session, so that thousands of them are quick.
fn session(model: &Model) -> Result<Session> {
    let options = SessionOptions { context: Some(1), chunk: Some(1), ..SessionOptions::default() };
    Session::with_backend(model, Reference::default(), &options)
}

#[test]
fn arithmetic_that_wraps_panics_in_these_tests() {
    // Without this, sizes that wrap would go unnoticed here. Tests in the release profile do without.
    if cfg!(debug_assertions) {
        let wraps = std::panic::catch_unwind(|| std::hint::black_box(u8::MAX) + std::hint::black_box(1));
        assert!(wraps.is_err());
    }
}
