//! Trits and logits of converted models.

use sterna::backend::{CachePrecision, Numerics};
use sterna::cpu::KernelSet;
use sterna::format::Weights;
use sterna::format::encodings::Encoding::{self, I2S, Q2_0, Tq1_0, Tq2_0};
use sterna::generate::{Session, SessionOptions};
use sterna::model::{Model, OpenOptions};

use crate::cpu::cpu;
use crate::reference_values::Golden;
use crate::{Directory, converted, golden};

const ALL: &[Encoding] = &[I2S, Tq1_0, Tq2_0, Q2_0];

/// Files, and the encodings that hold their scales exactly.
const FILES: [(&str, &[Encoding]); 21] = [
    ("bitnet-256/i2_s.gguf", ALL),
    ("bitnet-256/tq1_0.gguf", ALL),
    ("bitnet-256/tq2_0.gguf", ALL),
    ("bitnet-384/i2_s.gguf", &[I2S, Q2_0]), // no rows of 256 columns
    ("bitnet-128-online/f16.gguf", &[I2S, Q2_0]),
    ("bitnet-128-silu/i2_s.gguf", &[I2S, Q2_0]),
    ("llama-256/i2_s.gguf", &[I2S]), // its scales are no f16
    ("llama-256/tq2_0.gguf", ALL),
    ("trilm-128/f16.gguf", &[Q2_0]),
    ("trilm-256/tq2_0.gguf", &[Tq1_0, Tq2_0, Q2_0]),
    ("minicpm-256/tq2_0.gguf", &[Tq1_0, Tq2_0, Q2_0]),
    ("qwen3-256/q2_0_g128.gguf", &[Q2_0]),
    ("qwen3-256/ptq1_0.gguf", &[Q2_0]),
    ("qwen3-yarn/pq2_0.gguf", &[Q2_0]),
    ("hunyuan-256/stq1_0_id42.gguf", &[Tq1_0, Tq2_0, Q2_0]),
    ("hunyuan-256/stq1_0_id43.gguf", &[Q2_0]),
    ("maple-256/mixed.gguf", &[Tq1_0, Tq2_0, Q2_0]),
    ("qwen35-128/q2_0_g128.gguf", &[Q2_0]),
    ("qwen35-128-hf/ptq1_0.gguf", &[Q2_0]),
    ("qwen35-hadamard-v1/pq2_0.gguf", &[Q2_0]),
    ("qwen35-hadamard-v2/ptq1_0.gguf", &[Q2_0]),
];

/// Directories, and the encodings that hold their scales exactly.
const DIRECTORIES: [(&str, &[Encoding]); 11] = [
    ("bitnet-256", ALL),
    ("bitnet-384", &[I2S, Q2_0]),
    ("bitnet-128-online", &[I2S]),
    ("bitnet-128-silu", &[I2S, Q2_0]),
    ("llama-256", &[I2S]),
    ("qwen3-256", &[Q2_0]),
    ("qwen3-256-mlx", &[Q2_0]),
    ("trilm-128", &[Q2_0]),
    ("qwen35-128-hf", &[Q2_0]),
    ("qwen35-128-hf-mlx", &[Q2_0]),
    ("qwen35-hadamard-v1-mlx", &[Q2_0]),
];

/// Logits against the largest where rows were permuted or frequencies went through f32: the same sums in another order.
const REORDERED: f32 = 1e-4;
/// Logits against the largest where scales were rounded to f16, which moves activations across rounding boundaries.
const ROUNDED: f32 = 3e-2;

fn logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    let options = SessionOptions { cache: CachePrecision::F32, ..SessionOptions::default() };
    let mut session = Session::with_backend(model, cpu(KernelSet::best(), 2), &options).unwrap();
    let mut found = Vec::new();
    session.evaluate(ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
    found
}

fn ids(folder: &str) -> Vec<u32> {
    let folder = folder.strip_suffix("-mlx").unwrap_or(folder); // the same model, with the values of the other
    Golden::read(&format!("golden/{folder}/golden.safetensors")).values("input_ids")
}

fn difference(found: &[f32], wanted: &[f32]) -> f32 {
    assert!(found.len() == wanted.len() && found.iter().all(|value| value.is_finite()));
    let largest = wanted.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    found.iter().zip(wanted).fold(0f32, |most, (f, w)| most.max((f - w).abs())) / largest
}

/// Float activations where the model was not trained with int8: no rounding hides or exaggerates a difference.
fn precise(path: &std::path::Path) -> Model {
    let model = Model::open(path).unwrap();
    match model.config().numerics {
        Numerics::Int8Rows => model,
        _ => {
            Model::open_with(path, &OpenOptions { numerics: Some(Numerics::Float), ..OpenOptions::default() }).unwrap()
        }
    }
}

fn same_trits(a: &Model, b: &Model) {
    assert_eq!(a.roles(), b.roles());
    for role in a.roles() {
        match (a.weights(role).unwrap().unwrap(), b.weights(role).unwrap().unwrap()) {
            (Weights::Ternary(a), Weights::Ternary(b)) => assert_eq!(a.codes(), b.codes(), "{role:?}"),
            (Weights::Dense(a), Weights::Dense(b)) => assert_eq!(a.to_f32(), b.to_f32(), "{role:?}"),
            _ => panic!("{role:?} changed its kind"),
        }
    }
}

#[test]
fn files_keep_every_trit_and_every_bit_of_their_logits() {
    for (file, encodings) in FILES {
        let ids = ids(file.split_once('/').unwrap().0);
        let original = Model::open(golden(file)).unwrap();
        let wanted = logits(&original, &ids);
        for &encoding in encodings {
            let converted = converted(&original, encoding);
            assert_eq!(converted.report.largest_error, 0.0, "{file} to {encoding}");
            assert_eq!(converted.model.config(), original.config(), "{file} to {encoding}");
            same_trits(&original, &converted.model);
            assert!(logits(&converted.model, &ids) == wanted, "{file} to {encoding}: logits differ");
        }
    }
}

#[test]
fn directories_keep_their_logits() {
    for (folder, encodings) in DIRECTORIES {
        let directory = Directory::hugging_face(folder);
        let ids = ids(folder);
        let original = Model::open(&directory.path).unwrap();
        let wanted = logits(&precise(&directory.path), &ids);
        for &encoding in encodings {
            let converted = converted(&original, encoding);
            assert_eq!(converted.report.largest_error, 0.0, "{folder} to {encoding}");
            assert_eq!(converted.model.config().numerics, original.config().numerics);
            let found = logits(&precise(&converted.path()), &ids);
            let permuted = converted.model.config().architecture == "llama";
            if !permuted {
                same_trits(&original, &converted.model);
                assert!(found == wanted, "{folder} to {encoding}: logits differ");
            }
            let difference = difference(&found, &wanted);
            assert!(difference <= REORDERED, "{folder} to {encoding}: logits differ by {difference:e}");
        }
    }
}

/// Llama's files have query and key rows in another order than its checkpoints: the converted file is the golden one, trit
/// for trit.
#[test]
fn permuted_rows_are_those_of_the_golden_file() {
    let directory = Directory::hugging_face("llama-256");
    let converted = converted(&Model::open(&directory.path).unwrap(), I2S);
    same_trits(&Model::open(golden("llama-256/i2_s.gguf")).unwrap(), &converted.model);
}

#[test]
fn yarn_survives() {
    let directory = Directory::hugging_face("qwen3-yarn");
    let converted = converted(&Model::open(&directory.path).unwrap(), Q2_0);
    let ids = ids("qwen3-yarn");
    let difference = difference(&logits(&precise(&converted.path()), &ids), &logits(&precise(&directory.path), &ids));
    assert!(difference <= REORDERED, "logits differ by {difference:e}");
    same_trits(&Model::open(golden("qwen3-yarn/q2_0_g64.gguf")).unwrap(), &converted.model);
}

#[test]
fn scales_that_are_no_f16_are_rounded_and_told() {
    for encoding in [Tq1_0, Tq2_0, Q2_0] {
        let original = Model::open(golden("llama-256/i2_s.gguf")).unwrap();
        let converted = converted(&original, encoding);
        let error = converted.report.largest_error;
        assert!(error > 0.0 && error <= 1.0 / 2048.0, "{error}");
        assert!(converted.report.changes[0].to_string().contains("every trit exact"));
        same_trits(&original, &converted.model);
        let ids = ids("llama-256");
        let difference = difference(&logits(&converted.model, &ids), &logits(&original, &ids));
        assert!(difference <= ROUNDED, "{encoding}: logits differ by {difference:e}");
    }
}

#[test]
fn embedding_models_keep_their_vectors() {
    for folder in ["embedding-qwen3", "embedding-gemma3"] {
        let directory = Directory::hugging_face(folder);
        let embed = |model: &Model| {
            let mut session =
                Session::with_backend(model, cpu(KernelSet::best(), 2), &SessionOptions::default()).unwrap();
            session.embed(&["a tern at sea"]).unwrap()
        };
        for path in [golden(&format!("{folder}/i2_s.gguf")), directory.path.clone()] {
            let original = Model::open(path).unwrap();
            let converted = converted(&original, I2S);
            same_trits(&original, &converted.model);
            assert_eq!(embed(&original), embed(&converted.model), "{folder}");
            let mut config = converted.model.config().clone();
            config.architecture.clone_from(&original.config().architecture);
            assert_eq!(&config, original.config());
        }
    }
}
