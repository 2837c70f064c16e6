//! Families that were trained with float activations, computed with such: they equal float references closely, long
//! prompts included, because nothing is rounded to int8. GPUs have no float activations yet.

use sterna::backend::{Backend, CachePrecision, Numerics};
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::{Model, OpenOptions};

use crate::common::data;
use crate::reference_values::Golden;
use crate::relative_error;

/// Logits against the largest: f32 arithmetic in another order (tests/data/golden/README.md).
const LOGITS: f32 = 1e-4;

/// A file, the positions of the session, and the names of its reference logits and ids. MiniCPM turns heads by other
/// factors in sessions of more than 64 positions.
const FILES: [(&str, &str, usize, &str, &str); 3] = [
    ("trilm-256", "tq2_0", 256, "logits", "greedy"),
    ("minicpm-256", "tq2_0", 64, "logits", "greedy"),
    ("minicpm-256", "tq2_0", 256, "logits.long_factors", "greedy.long_factors"),
];

on_every_processor!(logits_equal_the_reference, greedy_ids_equal_the_reference, long_prompts_equal_the_reference);

fn each_file<B: Backend + 'static>(
    make: impl Fn() -> B,
    mut check: impl FnMut(Session, Golden, &str, usize, [&str; 2]),
) {
    let options = OpenOptions { numerics: Some(Numerics::Float), ..OpenOptions::default() };
    for (model, file, context, logits, greedy) in FILES {
        let golden = Golden::read(&format!("golden/{model}/golden.safetensors"));
        let opened = Model::open_with(data(&format!("golden/{model}/{file}.gguf")), &options).unwrap();
        let options =
            SessionOptions { cache: CachePrecision::F32, context: Some(context), ..SessionOptions::default() };
        let session = Session::with_backend(&opened, make(), &options).unwrap();
        check(session, golden, &format!("{model}/{file} with {context} positions"), context, [logits, greedy]);
    }
}

fn logits_equal_the_reference<B: Backend + 'static>(make: impl Fn() -> B) {
    each_file(make, |mut session, golden, file, _, [logits, _]| {
        let mut found = Vec::new();
        session.evaluate(&golden.values::<u32>("input_ids"), &mut |_, row| found.extend_from_slice(row)).unwrap();
        let error = relative_error(&found, &golden.values::<f32>(logits));
        assert!(error <= LOGITS, "{file}: logits differ by {error:e}");
    });
}

fn greedy_ids_equal_the_reference<B: Backend + 'static>(make: impl Fn() -> B) {
    each_file(make, |mut session, golden, file, _, [_, greedy]| {
        let options = GenerateOptions { max_tokens: 32, ignore_end: true, ..GenerateOptions::greedy() };
        let prompt = golden.values::<u32>("input_ids");
        let ids: Vec<u32> = session.generate_ids(&prompt, &options).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(ids, golden.values::<u32>(greedy), "{file}");
    });
}

fn long_prompts_equal_the_reference<B: Backend + 'static>(make: impl Fn() -> B) {
    each_file(make, |mut session, golden, file, context, _| {
        let prompt = golden.values::<u32>("long.input_ids");
        if prompt.len() > context {
            return;
        }
        let mut last = Vec::new();
        session.evaluate(&prompt, &mut |_, row| last = row.to_vec()).unwrap();
        let error = relative_error(&last, &golden.values::<f32>("long.logits_last"));
        assert!(error <= LOGITS, "{file}: logits differ by {error:e}");
    });
}
