//! Synthetic models: the sizes of the published ones, the same numbers every time, and no text.

use sterna::format::Weights;
use sterna::model::{Part, Role, SyntheticShape};
use sterna::{Device, GenerateOptions, Model, Session, SessionOptions};

#[test]
fn sizes_are_those_of_the_published_models() {
    let model = Model::synthetic(SyntheticShape::Bitnet2B, 1);
    assert_eq!(model.config().ternary_weights(), 2_084_044_800);
    let model = Model::synthetic(SyntheticShape::Bitnet700M, 1);
    assert_eq!(model.config().ternary_weights(), 24 * (4 * 1536 * 1536 + 3 * 1536 * 4096));
}

/// The figures of the published file: what is read of it, and what a session of it holds.
#[test]
fn sizes_of_the_hybrid_are_those_of_the_published_one() {
    for shape in [SyntheticShape::Bonsai27B, SyntheticShape::Bonsai2_27B] {
        let model = Model::synthetic(shape, 1);
        let config = model.config();
        assert_eq!(config.ternary_weights(), 24_326_963_200);
        let parts = |layer| Part::ALL.iter().filter(move |(part, _)| part.is_in(config, layer)).count();
        assert_eq!((0..64).map(parts).sum::<usize>() + 3, 851, "tensors of the file");
        assert_eq!((parts(0), parts(3)), (14, 11));
        assert_eq!(config.state_bytes(), 150_994_944 + 5_898_240);
        assert_eq!(config.hadamard.is_some(), shape == SyntheticShape::Bonsai2_27B);
    }
}

/// The cut runs as the whole does, and gives the same whatever its steps are.
#[test]
fn a_cut_of_the_hybrid_gives_the_same_in_any_steps() {
    let ids: Vec<u32> = (0..20).map(|i| (i * 389 + 7) % 4096).collect();
    let logits = |chunk| {
        let options = SessionOptions { context: Some(32), chunk: Some(chunk), ..SessionOptions::default() };
        let model = Model::synthetic(SyntheticShape::Bonsai27BCut, 1);
        let mut session = Session::new(&model, &Device::cpu(), &options).unwrap();
        assert_eq!(
            session.cache_bytes(),
            2 * model.config().state_bytes() + 32 * 2 * 256 * 2,
            "states, snapshots, one layer of attention"
        );
        session.logits(&ids).unwrap()
    };
    let at_once = logits(20);
    assert!(at_once.iter().all(|logit| logit.is_finite()));
    assert_eq!(logits(7), at_once, "bit for bit");
    assert_eq!(logits(1), at_once, "bit for bit");
}

#[test]
fn weights_depend_on_seed_and_role_alone() {
    let trits = |seed, role| match Model::synthetic(SyntheticShape::Bitnet700M, seed).weights(role).unwrap() {
        Some(Weights::Ternary(w)) => w.row_trits(7).collect::<Vec<i8>>(),
        _ => panic!("a linear layer is ternary"),
    };
    let role = Role::Layer(3, Part::Up);
    let row = trits(1, role);
    assert_eq!(row, trits(1, role));
    assert_ne!(row, trits(2, role));
    assert_ne!(row, trits(1, Role::Layer(3, Part::Gate)));
    let zeros = row.iter().filter(|&&t| t == 0).count() as f64 / row.len() as f64;
    assert!((zeros - 0.5).abs() < 0.06, "{zeros} of the trits are zero");
}

#[test]
fn ids_are_made_but_text_is_an_error() {
    let model = Model::synthetic(SyntheticShape::Bitnet700M, 1);
    let options = SessionOptions { context: Some(16), ..SessionOptions::default() };
    let mut session = Session::new(&model, &Device::cpu(), &options).unwrap();
    let greedy = GenerateOptions { max_tokens: 3, ..GenerateOptions::greedy() };
    assert!(session.generate("text", &greedy).unwrap_err().to_string().contains("no tokenizer"));
    let made: Vec<u32> = session.generate_ids(&[1, 2, 3], &greedy).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(made.len(), 3);
    // Each token is likely to be followed by one of those beside it, as its embedding has half of what sets it apart with each.
    let followed = [3].iter().chain(&made).zip(&made);
    assert!(followed.clone().all(|(before, id)| before.abs_diff(*id) == 1), "{made:?}");
    let stop = GenerateOptions { stop: vec!["x".into()], ..greedy };
    assert!(session.generate_ids(&[1], &stop).is_err(), "a stop text needs text");
}
