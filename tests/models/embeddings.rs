//! Embedding models: the vectors of texts of several lengths, alone and together.

use sterna::backend::{Backend, CachePrecision};
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::Model;

use crate::common::data;
use crate::reference_values::Golden;
use crate::relative_error;

/// Components against the largest: f32 arithmetic in another order; no int8 activation is near a tie.
const EMBEDDING: f32 = 1e-4;

const MODELS: [&str; 2] = ["embedding-qwen3", "embedding-gemma3"];
const TEXTS: usize = 3;
/// At least as many tokens as all texts have together, so that they can share a step.
const CHUNK: usize = 40;

crate::on_every_backend!(vectors_equal_the_reference, texts_together_are_as_alone, generation_is_refused);

fn session<B: Backend + 'static>(name: &str, sequences: usize, backend: B) -> Session {
    let model = Model::open(data(&format!("golden/{name}/i2_s.gguf"))).unwrap_or_else(|e| panic!("{name}: {e}"));
    let options =
        SessionOptions { cache: CachePrecision::F32, sequences, chunk: Some(CHUNK), ..SessionOptions::default() };
    Session::with_backend(&model, backend, &options).unwrap()
}

fn texts(golden: &Golden) -> Vec<Vec<u32>> {
    (0..TEXTS).map(|text| golden.values(&format!("text.{text}.input_ids"))).collect()
}

fn vectors_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for name in MODELS {
        let golden = Golden::read(&format!("golden/{name}/golden.safetensors"));
        let mut session = session(name, 1, make());
        let found = session.embed_ids(&texts(&golden)).unwrap();
        for (text, vector) in found.iter().enumerate() {
            let error = relative_error(vector, &golden.values::<f32>(&format!("text.{text}.embedding")));
            assert!(error <= EMBEDDING, "{name}, text {text}: components differ by {error:e}");
        }
    }
}

fn texts_together_are_as_alone<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for name in MODELS {
        let golden = Golden::read(&format!("golden/{name}/golden.safetensors"));
        let texts = texts(&golden);
        let (alone, together) = (
            session(name, 1, make()).embed_ids(&texts).unwrap(),
            session(name, TEXTS, make()).embed_ids(&texts).unwrap(),
        );
        for (text, (alone, together)) in alone.iter().zip(&together).enumerate() {
            let error = relative_error(together, alone);
            assert!(error <= EMBEDDING, "{name}, text {text}: components differ by {error:e}");
        }
    }
}

fn generation_is_refused<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let mut session = session(MODELS[0], 1, make());
    let refused = session.generate_ids(&[1], &GenerateOptions::greedy()).map(|_| ());
    assert!(matches!(refused, Err(sterna::Error::Input(text)) if text.contains("embedding")));
}
