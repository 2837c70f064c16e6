//! Embedding models as directories: the vectors of the reference, and what is refused of them.

use serde_json::{Value as Json, json};
use sterna::backend::{Activation, CachePrecision, Numerics};
use sterna::cpu::KernelSet;
use sterna::generate::{Session, SessionOptions};
use sterna::model::{Model, Part, Pooling, Role};

use crate::cpu::cpu;
use crate::data;
use crate::directory::Directory;
use crate::reference_values::Golden;

/// Components against the largest: f32 arithmetic in another order; no int8 activation is near a tie.
const EMBEDDING: f32 = 1e-4;

const QWEN: &str = "embedding-qwen3";
const GEMMA: &str = "embedding-gemma3";
const TEXTS: usize = 3;

/// Holds the vectors of a model against the reference.
fn check(model: &Model, reference: &str) {
    let golden = Golden::read(&format!("golden/{reference}/golden.safetensors"));
    let texts: Vec<Vec<u32>> = (0..TEXTS).map(|text| golden.values(&format!("text.{text}.input_ids"))).collect();
    let options = SessionOptions { cache: CachePrecision::F32, sequences: TEXTS, ..SessionOptions::default() };
    let mut session = Session::with_backend(model, cpu(KernelSet::best(), 2), &options).unwrap();
    for (text, found) in session.embed_ids(&texts).unwrap().iter().enumerate() {
        let wanted = golden.values::<f32>(&format!("text.{text}.embedding"));
        assert!(found.len() == wanted.len() && found.iter().all(|value| value.is_finite()));
        let largest = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
        let error = found.iter().zip(&wanted).fold(0f32, |m, (f, w)| m.max((f - w).abs())) / largest;
        assert!(error <= EMBEDDING, "{reference}, text {text}: components differ by {error:e}");
    }
}

/// A golden directory with another config.
fn with(name: &str, change: impl FnOnce(&mut Json)) -> Directory {
    let directory = Directory::golden(name);
    directory.config(change);
    directory
}

#[track_caller]
fn refused(directory: &Directory, says: &[&str]) {
    let error = Model::open(&directory.path).map(|_| ()).expect_err("it is refused").to_string();
    assert!(says.iter().all(|part| error.contains(part)), "{error:?} does not say {says:?}");
}

#[test]
fn vectors_equal_the_reference() {
    for name in [QWEN, GEMMA] {
        check(&Model::open(data(name)).unwrap(), name);
    }
}

#[test]
fn config_and_gains_equal_those_of_the_gguf_file() {
    for name in [QWEN, GEMMA] {
        let (ours, gguf) = (Model::open(data(name)).unwrap(), Model::open(data(&format!("{name}/i2_s.gguf"))).unwrap());
        let (a, b) = (ours.config(), gguf.config());
        assert_eq!(a.numerics, Numerics::Int8Rows);
        assert_eq!(a.pooling, Some(Pooling::LastToken));
        assert_eq!((&a.rope, &a.windows, a.activation, a.factors), (&b.rope, &b.windows, b.activation, b.factors));
        assert_eq!((a.head_norms, a.input_norms, a.post_norms), (b.head_norms, b.input_norms, b.post_norms));
        let values = |model: &Model, role| match model.weights(role).unwrap() {
            Some(sterna::format::Weights::Dense(dense)) => Some(dense.to_f32()),
            _ => None,
        };
        for (part, _) in Part::ALL.iter().filter(|(part, _)| part.belongs_to(a) && !part.is_linear()) {
            let role = Role::Layer(1, *part);
            assert!(values(&ours, role).is_some() && values(&ours, role) == values(&gguf, role), "{name}: {role:?}");
        }
        assert_eq!(values(&ours, Role::OutputNorm), values(&gguf, Role::OutputNorm), "{name}");
    }
}

#[test]
fn what_was_decided_is_told() {
    let told = |name: &str, subject: &str| {
        let model = Model::open(data(name)).unwrap();
        model.decisions().iter().find(|decision| decision.subject == subject).map(ToString::to_string)
    };
    for name in [QWEN, GEMMA] {
        assert!(told(name, "output").unwrap().contains("of its last token"));
        assert!(told(name, "numerics").unwrap().contains("one scale for each token"));
    }
    assert!(told(GEMMA, "norms").unwrap().contains("less one"));
    assert_eq!(told(QWEN, "norms"), None);
}

/// Each file is the same model, written as newer or older versions of transformers do.
#[test]
fn windows_are_read_in_every_spelling() {
    let remove = |config: &mut Json, names: &[&str]| {
        for name in names {
            config.as_object_mut().unwrap().remove(*name).unwrap();
        }
    };
    let kinds = || json!([["sliding_attention"; 5].as_slice(), &["full_attention"]].concat());
    let spelled = [
        with(GEMMA, |config| config["layer_types"] = kinds()),
        with(GEMMA, |config| {
            remove(config, &["sliding_window_pattern"]);
            config["_sliding_window_pattern"] = 6.into();
        }),
        with(GEMMA, |config| {
            remove(config, &["sliding_window_pattern", "rope_local_base_freq", "rope_theta", "hidden_activation"]);
        }),
        with(GEMMA, |config| {
            remove(config, &["sliding_window_pattern", "rope_local_base_freq", "rope_theta"]);
            config["layer_types"] = kinds();
            config["rope_parameters"] = json!({
                "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            });
        }),
        with(GEMMA, |config| {
            config["tie_word_embeddings"] = false.into(); // there is no head, and none is needed
        }),
    ];
    for directory in spelled {
        check(&Model::open(&directory.path).unwrap(), GEMMA);
    }
    // Bases of their own are believed.
    let other = with(GEMMA, |config| {
        config["rope_parameters"] = json!({"sliding_attention": {"rope_theta": 500.0}});
    });
    let windows = Model::open(&other.path).unwrap().config().windows.clone().unwrap();
    assert!((windows.rope.frequencies[1] - 500f64.powf(-2.0 / 64.0)).abs() < 1e-12);
    let all = with(GEMMA, |config| config["layer_types"] = json!(["full_attention"; 6].as_slice()));
    assert_eq!(Model::open(&all.path).unwrap().config().windows, None);
    let none = with(GEMMA, |config| config["layer_types"] = json!(["sliding_attention"; 6].as_slice()));
    let windows = Model::open(&none.path).unwrap().config().windows.clone().unwrap();
    assert!((0..6).all(|layer| windows.covers(layer)));
    assert_eq!(Model::open(data(GEMMA)).unwrap().config().activation, Activation::Gelu);
}

#[test]
fn what_would_be_another_network_is_refused() {
    let gemma = |field: &str, value: Json| with(GEMMA, |config| config[field] = value);
    for scalar in [json!(128), json!(null), json!(0)] {
        refused(&gemma("query_pre_attn_scalar", scalar), &["query_pre_attn_scalar", "here 64"]);
    }
    refused(&gemma("sliding_window", json!(0)), &["sliding_window"]);
    refused(&gemma("sliding_window", json!(null)), &["sliding_window", "missing"]);
    refused(&gemma("sliding_window_pattern", json!(0)), &["sliding_window_pattern"]);
    refused(&gemma("layer_types", json!(["full_attention"])), &["layer_types", "lists 1 layers"]);
    let irregular = json!([["full_attention"].as_slice(), &["sliding_attention"; 5]].concat());
    refused(&gemma("layer_types", irregular), &["layer_types", "layer 1", "patterns"]);
    refused(&gemma("layer_types", json!(["\u{1b}[2J"; 6].as_slice())), &["layer_types", "layer 0"]);
    refused(&gemma("rope_local_base_freq", json!(1)), &["rope_local_base_freq", "larger than 1"]);
    refused(
        &gemma("rope_parameters", json!({"sliding_attention": {"rope_type": "yarn"}})),
        &["sliding_attention.rope_type", "yarn"],
    );
    refused(&gemma("use_bidirectional_attention", json!(true)), &["use_bidirectional_attention"]);
    refused(&gemma("final_logit_softcapping", json!(30.0)), &["final_logit_softcapping"]);
    refused(&gemma("attn_logit_softcapping", json!(50.0)), &["attn_logit_softcapping"]);
    refused(&gemma("hidden_activation", json!("tanh")), &["hidden_activation", "gelu_pytorch_tanh"]);
    let plain = with(GEMMA, |config| config["quantization_config"]["use_rms_norm"] = false.into());
    refused(&plain, &["gemma3_text", "use_rms_norm", "BitNet embedding models"]);
    for name in [QWEN, GEMMA] {
        let epsilon = with(name, |config| config["quantization_config"]["rms_norm_eps"] = 1e-3.into());
        refused(&epsilon, &["quantization_config.rms_norm_eps", "one for all norms"]);
    }
    for model_type in ["llama", "bitnet", "minicpm", "hunyuan_v1_dense"] {
        refused(&with(QWEN, |config| config["model_type"] = model_type.into()), &["use_rms_norm\" is true"]);
    }
    let unsaid = with(QWEN, |config| config["quantization_config"]["use_rms_norm"] = false.into());
    refused(&unsaid, &["rms_norm.weight", "no place"]);
}

#[test]
fn a_norm_that_is_missing_is_named() {
    let without = |model: &str, name: &str| {
        let directory = Directory::golden(model);
        directory.tensors(|tensors| drop(tensors.remove(name).unwrap()));
        refused(&directory, &[&format!("\"{name}\" is missing")]);
    };
    without(QWEN, "model.layers.1.self_attn.q_proj.rms_norm.weight");
    without(QWEN, "model.layers.0.mlp.down_proj.rms_norm.weight");
    without(GEMMA, "model.layers.4.self_attn.o_proj.rms_norm.weight");
    // The norm after attention has the name that the norm before the feed-forward network has in other families.
    without(GEMMA, "model.layers.4.pre_feedforward_layernorm.weight");
    without(GEMMA, "model.layers.4.post_attention_layernorm.weight");
    without(GEMMA, "model.layers.4.post_feedforward_layernorm.weight");
}

/// sentence-transformers says how a text becomes one vector in a file of its own.
#[test]
fn another_pooling_is_refused() {
    let pooled = |pooling: Json| {
        let directory = Directory::golden(QWEN);
        std::fs::create_dir(directory.path.join("1_Pooling")).unwrap();
        directory.write_json("1_Pooling/config.json", &pooling);
        directory
    };
    for last in [
        json!({"pooling_mode_mean_tokens": false, "pooling_mode_lasttoken": true, "include_prompt": true}),
        json!({"pooling_mode": "lasttoken"}),
    ] {
        let model = Model::open(&pooled(last).path).unwrap();
        assert!(
            model.decisions().iter().any(|decision| decision.to_string().contains("1_Pooling/config.json says so"))
        );
        check(&model, QWEN);
    }
    for name in ["pooling_mode_mean_tokens", "pooling_mode_cls_token"] {
        refused(&pooled(json!({name: true})), &["1_Pooling/config.json", name, "takes the last token"]);
        refused(&pooled(json!({"pooling_mode_lasttoken": true, name: true})), &[name]);
    }
    refused(&pooled(json!({"pooling_mode": "\u{1b}mean"})), &["\\u{1b}mean", "takes the last token"]);
    refused(&pooled(json!({})), &["1_Pooling/config.json: \"pooling_mode_lasttoken\" is missing"]);
    refused(&pooled(json!({"pooling_mode_lasttoken": 1})), &["pooling_mode_lasttoken", "true or false"]);
    refused(&pooled(json!([])), &["1_Pooling/config.json", "no object"]);
}
