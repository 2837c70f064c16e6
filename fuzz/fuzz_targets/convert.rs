//! Any model that opens, converted and opened again, is the same model: its sizes, its ids and its trits.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use sterna::Model;
use sterna::backend::RopePairs;
use sterna::convert::{ConvertOptions, EMBEDDINGS, LINEAR, convert};
use sterna::format::Weights;
use sterna_fuzz::directory::Directory;
use sterna_fuzz::gguf::cook;
use sterna_fuzz::run::check_text;
use sterna_fuzz::{Input, scratch};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut options = ConvertOptions::new(input.one_of(LINEAR));
    options.embeddings = if input.chance(2) { Some(input.one_of(EMBEDDINGS)) } else { None };
    options.lossy = input.chance(2);
    options.overwrite = true;
    let model = if input.chance(4) {
        let folder = scratch::path("model");
        Directory::cook(&mut input).write(&folder);
        Model::open(&folder)
    } else {
        let bytes = cook(&mut input);
        scratch::keep(&bytes);
        Model::from_bytes(bytes)
    };
    let Ok(model) = model else { return };
    let path = scratch::path("converted.gguf");
    match convert(&model, &path, &options, &mut |_| ControlFlow::Continue(())) {
        Err(error) => {
            let text = error.to_string();
            check_text(&text);
            options.verify = false;
            let unverified = convert(&model, &path, &options, &mut |_| ControlFlow::Continue(()));
            assert!(unverified.is_err(), "it wrote what it does not read: {text}");
        }
        Ok(report) => {
            assert!(report.expect("nobody stopped it").is_verified);
            let again = Model::open(&path).unwrap_or_else(|error| panic!("what was written does not open: {error}"));
            compare(&model, &again, options.lossy);
        }
    }
    // Whatever happened, no part of a file is left.
    let _ = std::fs::remove_file(&path);
});

fn compare(model: &Model, again: &Model, is_lossy: bool) {
    let sizes = |model: &Model| {
        let config = model.config();
        let floats = [config.norm_epsilon.to_bits()];
        (config.width, config.layers, config.vocabulary, config.context, config.ffn_width, config.numerics, floats)
    };
    assert_eq!(sizes(model), sizes(again));
    if let (Ok(one), Ok(other)) = (model.tokenizer(), again.tokenizer())
        && !is_lossy
    {
        for text in ["ab c", "  x", "hello\n", "<t>a <s>é"] {
            match (one.encode(text), other.encode(text)) {
                (Ok(one), Ok(other)) => assert_eq!(one, other, "{text:?}"),
                (Err(_), Err(_)) => {}
                (one, other) => panic!("{text:?}: {one:?}, {other:?}"),
            }
        }
    }
    // Rows are in another order where features are paired otherwise.
    let pairs = |model: &Model| model.config().rope.pairs;
    if pairs(model) != pairs(again) {
        assert_eq!(pairs(again), RopePairs::Interleaved);
        return;
    }
    for role in model.roles() {
        let weights = |model: &Model| model.weights(role).expect("it was converted").expect("it has a role");
        if let (Weights::Ternary(one), Weights::Ternary(other)) = (weights(model), weights(again)) {
            for row in 0..one.rows() {
                assert!(one.row_trits(row).eq(other.row_trits(row)), "{role:?}, row {row}");
            }
        }
    }
}
