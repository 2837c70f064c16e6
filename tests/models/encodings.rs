//! A golden model whose linear layers are written again in each ternary encoding, and hidden in dense ones: opened, it
//! has the same weights, and says how it knew.

use sterna::format::encodings::Encoding;
use sterna::format::{Scales, Ternary, Weights};
use sterna::model::{Model, Role};

use crate::edit::{TemporaryFile, parts};
use crate::gguf_writer::GgufWriter;

const FILE: &str = "bitnet-256/i2_s.gguf";
/// Scales that were rounded to f16, twice where a block has several of them.
const HALF: f32 = 1e-3;

fn linear_roles(model: &Model) -> Vec<Role> {
    model.roles().into_iter().filter(|role| role.is_linear()).collect()
}

fn ternary(model: &Model, role: Role) -> Ternary {
    match model.weights(role).unwrap() {
        Some(Weights::Ternary(ternary)) => ternary,
        other => panic!("{role:?}: {other:?}"),
    }
}

fn original() -> Model {
    Model::open(crate::common::data(&format!("golden/{FILE}"))).unwrap()
}

/// The golden file in another encoding, with scales beside the tensors if it holds none.
fn rewritten(number: u32, encoding: Encoding, scale_ending: &str) -> GgufWriter {
    let model = original();
    let mut file = parts(FILE);
    for role in linear_roles(&model) {
        let mut weights = ternary(&model, role);
        if !encoding.holds_scale() {
            let name = role.gguf_stem() + scale_ending;
            file.add(&name, &[1], 0, weights.scale(0, 0).to_le_bytes());
            weights =
                Ternary::new(weights.rows(), weights.cols(), weights.codes().clone(), Scales::Tensor(1.0)).unwrap();
        }
        let tensor = file.named(&role.gguf_name());
        (tensor.type_id, tensor.data) = (number, encoding.encode(&Weights::Ternary(weights)).unwrap());
    }
    file
}

fn open(file: &GgufWriter) -> sterna::Result<Model> {
    Model::open(&TemporaryFile::new(&file.bytes()).path)
}

/// Opens it, compares every layer, and returns what was decided.
fn checked(file: &GgufWriter, tolerance: f32) -> String {
    let (model, original) = (open(file).unwrap(), original());
    for role in linear_roles(&original) {
        let (found, wanted) = (ternary(&model, role), ternary(&original, role));
        assert_eq!(found.codes(), wanted.codes(), "{role:?}");
        let (found, wanted) = (found.scale(0, 0), wanted.scale(0, 0));
        assert!((found - wanted).abs() <= tolerance * wanted.abs(), "{role:?}: {found} instead of {wanted}");
    }
    model.decisions().iter().map(|decision| format!("{decision}\n")).collect()
}

#[test]
fn every_ternary_encoding_gives_the_same_weights() {
    for (number, encoding, tolerance) in [
        (135, Encoding::Iq2Bn, 0.0),
        (335, Encoding::Iq2BnR4, 0.0),
        (40, Encoding::I2V, 0.0),
        (42, Encoding::I2V4, 0.0),
        (43, Encoding::I2V8, 0.0),
        (45, Encoding::I1V, 0.0),
        (46, Encoding::I1V2, 0.0),
        (42, Encoding::Q2_0, HALF),
        (42, Encoding::Pq2_0, HALF),
        (142, Encoding::Pq2_0, HALF),
        (143, Encoding::Ptq1_0, HALF),
        (134, Encoding::Iq1Bn, HALF),
        (34, Encoding::Tq1_0, HALF),
    ] {
        let decisions = checked(&rewritten(number, encoding, ".scale"), tolerance);
        assert!(decisions.contains(&format!("14 {encoding}")), "{decisions}");
        if Encoding::from_ggml(number).is_err() {
            assert!(decisions.contains(&format!("tensor type: {number} is ")), "{decisions}");
        }
    }
}

#[test]
fn ternary_layers_hidden_in_dense_encodings_are_found_and_told() {
    for (number, encoding, text) in [
        (0, Encoding::F32, "hidden in F32: one scale, exact"),
        (1, Encoding::F16, "hidden in F16: one scale, exact"),
        (8, Encoding::Q8_0, "hidden in Q8_0: one scale, exact"),
    ] {
        let decisions = checked(&rewritten(number, encoding, ".scale"), HALF);
        assert!(decisions.contains(text), "{decisions}");
    }
}

#[test]
fn scales_beside_the_tensors_are_used_or_missed() {
    checked(&rewritten(45, Encoding::I1V, ".weight_scale"), 0.0);
    let missing = |number, encoding| {
        let mut file = rewritten(number, encoding, ".scale");
        file.tensors.retain(|tensor| tensor.name != b"blk.1.attn_k.scale");
        open(&file).unwrap_err().to_string()
    };
    let text = missing(45, Encoding::I1V);
    assert!(text.contains("\"blk.1.attn_k.weight\"") && text.contains("holds no scale"), "{text}");
    let text = missing(43, Encoding::I2V8);
    assert!(text.contains("type 43") && text.contains("no scale is beside it"), "{text}");
    // Whatever it means beside a tensor with a scale of its own, ignoring it would be a guess.
    let mut file = parts(FILE);
    file.add("blk.0.attn_q.weight_scale", &[1], 0, 2.0_f32.to_le_bytes());
    let text = open(&file).unwrap_err().to_string();
    assert!(text.contains("\"blk.0.attn_q.weight_scale\"") && text.contains("no place"), "{text}");
}
