//! Whole models on every backend, against values that an independent implementation computed
//! (`tests/data/golden/README.md`).

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/gguf_edit.rs"]
mod edit;
#[expect(dead_code, reason = "only where the fields lie is of interest here")]
#[path = "../common/gguf_fields.rs"]
mod gguf_fields;
#[expect(dead_code, reason = "files are taken apart here, not made")]
#[path = "../common/gguf_writer.rs"]
mod gguf_writer;
#[path = "../common/golden.rs"]
mod reference_values;

mod embeddings;
mod encodings;
mod families;
mod golden;
mod hybrid;
mod layer_zero;
mod opening;
mod rewritten;
mod sampling;
mod shipped;
mod stretched;

use sterna::backend::{Backend, CachePrecision};
use sterna::generate::{Session, SessionOptions};
use sterna::model::Model;

#[test]
fn every_kernel_set_has_its_tests() {
    assert_eq!(with_all_kernel_sets!(list), common::KernelSet::ALL);
}

/// A session on a backend, with the cache in f32 as the float references have it. Its steps have at most `chunk` rows: a GPU
/// rehearses a whole one, which takes a software GPU several times as long as a short prompt.
fn exact_session(model: &Model, backend: impl Backend + 'static, chunk: usize) -> Session {
    let options = SessionOptions { cache: CachePrecision::F32, chunk: Some(chunk), ..SessionOptions::default() };
    Session::with_backend(model, backend, &options).unwrap()
}

/// The largest difference, relative to the largest absolute value wanted. NaN anywhere gives NaN.
fn relative_error(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|v| v.is_finite()), "a value was never written, or is not finite");
    let largest = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
    found.iter().zip(wanted).fold(0f32, |m, (f, w)| m.max((f - w).abs())) / largest
}
