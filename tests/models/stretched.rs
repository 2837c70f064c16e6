//! Rotations that a caller stretches are those of a file whose keys say the same.

use sterna::generate::{Session, SessionOptions};
use sterna::model::{Model, OpenOptions, RopeScaling};
use sterna::reference::Reference;

use crate::edit::parts;
use crate::gguf_writer::GgufWriter;

const STRETCHED: &str = "qwen3-yarn/pq2_0.gguf";

fn opened(file: &GgufWriter, scaling: Option<RopeScaling>) -> sterna::Result<Model> {
    Model::from_bytes_with(file.bytes(), &OpenOptions { rope_scaling: scaling, ..OpenOptions::default() })
}

/// The bits of the logits after a few tokens.
fn logits(model: &Model) -> Vec<u32> {
    let options = SessionOptions { context: Some(8), chunk: Some(8), ..SessionOptions::default() };
    let mut session = Session::with_backend(model, Reference::default(), &options).unwrap();
    session.logits(&[1, 7, 3, 9, 2]).unwrap().iter().map(|logit| logit.to_bits()).collect()
}

/// The file without its scaling, and the factor and the original context that it had.
fn plain(name: &str) -> (GgufWriter, f64, usize) {
    let mut file = parts(name);
    let value = |file: &GgufWriter, key: &str| {
        let (_, _, value) = file.pairs.iter().find(|(name, _, _)| name == key.as_bytes()).expect(key);
        value.first_chunk::<4>().copied().expect("a number of four bytes")
    };
    let factor = f32::from_le_bytes(value(&file, "qwen3.rope.scaling.factor"));
    let original = u32::from_le_bytes(value(&file, "qwen3.rope.scaling.original_context_length"));
    for key in ["type", "factor", "original_context_length"] {
        file.unset(&format!("qwen3.rope.scaling.{key}"));
    }
    file.set_u32("qwen3.context_length", original);
    (file, f64::from(factor), original as usize)
}

#[test]
fn yarn_that_is_asked_for_is_that_of_a_file_that_says_it() {
    let (file, factor, original) = plain(STRETCHED);
    let asked = opened(&file, Some(RopeScaling::named("yarn", Some(factor)).unwrap())).unwrap();
    let said = opened(&parts(STRETCHED), None).unwrap();
    assert_eq!(asked.config().rope, said.config().rope);
    assert_eq!(logits(&asked), logits(&said));
    assert_ne!(logits(&asked), logits(&opened(&file, None).unwrap()));
    assert_eq!(asked.config().context, (original as f64 * factor) as usize);
    let decision = asked.decisions().iter().find(|decision| decision.subject == "rope scaling").unwrap().to_string();
    assert!(["yarn", "asked for", &original.to_string()].iter().all(|part| decision.contains(part)), "{decision}");
    // The keys say it too, so that a converted file is the same network.
    assert_eq!(asked.metadata().string("qwen3.rope.scaling.type").unwrap(), Some("yarn"));
}

#[test]
fn a_scaling_of_the_same_kind_is_replaced_and_none_undoes_it() {
    let (plain, factor, original) = plain(STRETCHED);
    let said = parts(STRETCHED);
    let more = Some(RopeScaling::Yarn { factor: 2.0 * factor });
    assert_eq!(opened(&said, more).unwrap().config(), opened(&plain, more).unwrap().config());
    let none = opened(&said, Some(RopeScaling::None)).unwrap();
    assert_eq!(none.config(), opened(&plain, None).unwrap().config());
    assert_eq!(none.config().context, original);
    // Linear: every frequency is divided.
    let linear = opened(&plain, Some(RopeScaling::Linear { factor: 4.0 })).unwrap();
    let divided: Vec<f64> = none.config().rope.frequencies.iter().map(|frequency| frequency / 4.0).collect();
    assert_eq!((&linear.config().rope.frequencies, linear.config().context), (&divided, 4 * original));
}

#[test]
fn a_scaling_that_cannot_be_is_refused_with_its_reason() {
    let refused = |name: &str, scaling: RopeScaling, says: &str| {
        let error = opened(&parts(name), Some(scaling)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    let yarn = |factor| RopeScaling::Yarn { factor };
    refused(STRETCHED, RopeScaling::Linear { factor: 2.0 }, "scaled by yarn");
    refused("minicpm-256/tq2_0.gguf", yarn(2.0), "divisors of its own");
    refused("embedding-gemma3/i2_s.gguf", yarn(2.0), "only the latest positions");
    refused("llama-256/tq2_0.gguf", yarn(1e12), "context of");
    for factor in [0.5, 0.0, -4.0, f64::NAN, f64::INFINITY] {
        refused("llama-256/tq2_0.gguf", yarn(factor), "at least 1");
    }
    for (name, factor, says) in [
        ("yarn", None, "such as 4"),
        ("linear", None, "such as 4"),
        ("none", Some(2.0), "no factor"),
        ("ntk", None, "linear"),
    ] {
        let error = RopeScaling::named(name, factor).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
