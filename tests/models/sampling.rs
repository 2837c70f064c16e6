//! What a file says of sampling: taken where it means something, passed over by name where it does not.

use sterna::generate::Sampling;
use sterna::model::{Model, SamplingDefaults};

use crate::edit::parts;

const I32: u32 = 5;

/// A golden model with keys more: the library's floats, and integers as llama.cpp writes them.
fn with(floats: &[(&str, f32)], counts: &[(&str, i32)]) -> Model {
    let mut file = parts("bitnet-256/i2_s.gguf");
    for (key, value) in floats {
        file.set_f32(&format!("general.sampling.{key}"), *value);
    }
    for (key, value) in counts {
        file.set(&format!("general.sampling.{key}"), I32, value.to_le_bytes());
    }
    Model::from_bytes(file.bytes()).unwrap()
}

/// What was decided of sampling.
fn told(model: &Model) -> Vec<String> {
    let all = model.decisions().iter().map(ToString::to_string);
    all.filter(|decision| decision.starts_with("sampling: ")).collect()
}

#[test]
fn a_file_that_says_nothing_leaves_the_defaults_of_the_library() {
    let model = with(&[], &[]);
    assert_eq!(*model.sampling_defaults(), SamplingDefaults::default());
    assert_eq!(model.sampling_defaults().sampling(), Sampling::default());
    assert!(told(&model).is_empty());
}

#[test]
fn keys_of_sampling_are_taken_and_told() {
    let model = with(
        &[("temp", 0.6), ("top_p", 0.9), ("min_p", 0.05), ("penalty_repeat", 1.2)],
        &[("top_k", 20), ("penalty_last_n", -1)],
    );
    let wanted = Sampling {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.2,
        repetition_window: usize::MAX,
        ..Sampling::default()
    };
    assert_eq!(model.sampling_defaults().sampling(), wanted);
    let told = told(&model);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("sampling: temperature 0.6, top-p 0.9, min-p 0.05, repetition penalty 1.2, top-k 20"),
        "{told:?}"
    );
}

/// It was chosen with what its file says, and with nothing else.
#[test]
fn a_model_that_says_how_to_sample_gets_no_penalty_that_it_does_not_ask_for() {
    assert_eq!(with(&[("temp", 0.6)], &[]).sampling_defaults().sampling().repetition_penalty, 1.0);
    assert_eq!(with(&[], &[("top_k", -1)]).sampling_defaults().sampling().top_k, 0, "-1 is all, as in llama.cpp");
}

#[test]
fn nonsense_is_passed_over_by_name_and_the_rest_holds() {
    for (key, value) in [
        ("temp", f32::NAN),
        ("temp", -1.0),
        ("temp", f32::INFINITY),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("penalty_repeat", 0.0),
        ("top_k", 2.5),
        ("top_k", -2.0),
        ("top_k", f32::MAX),
        ("mirostat", 2.0),
        ("xtc_probability", 0.5),
        ("never_heard_of", 1.0),
    ] {
        let model = with(&[(key, value)], &[]);
        assert_eq!(*model.sampling_defaults(), SamplingDefaults::default(), "{key} {value}");
        let told = told(&model);
        assert!(told.len() == 1 && told[0].contains(key) && told[0].contains("ignored"), "{key} {value}: {told:?}");
    }
    let model = with(&[("temp", f32::NAN), ("top_p", 0.5)], &[("mirostat", 0)]);
    assert_eq!(*model.sampling_defaults(), with(&[("top_p", 0.5)], &[]).sampling_defaults().clone());
    let mut text = parts("bitnet-256/i2_s.gguf");
    text.set_text("general.sampling.temp", "hot").set_text("general.sampling.sequence", "kp");
    let model = Model::from_bytes(text.bytes()).unwrap();
    assert_eq!((model.sampling_defaults(), told(&model).len()), (&SamplingDefaults::default(), 2));
}
