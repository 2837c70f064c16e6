//! Golden models written again in other encodings: the same weights give the same logits, whatever holds them.

use sterna::backend::Backend;
use sterna::format::encodings::{I2sLayout, float, i2_s, q6_k, q8_0};
use sterna::format::{Dense, Weights};
use sterna::model::{Model, OpenOptions, Part, Role};

use crate::edit::{TemporaryFile, parts};
use crate::reference_values::Golden;
use crate::{exact_session, relative_error};

const FILE: &str = "bitnet-256/i2_s.gguf";
/// The same f32 values from other bytes, added in another order.
const SAME_VALUES: f32 = 1e-5;

crate::on_every_backend!(
    embeddings_of_every_type_give_the_logits_of_their_values,
    other_layouts_of_i2_s_are_read_when_asked_for_and_garbage_otherwise,
);

fn logits(model: &Model, backend: impl Backend + 'static) -> Vec<f32> {
    let ids = Golden::read("golden/bitnet-256/golden.safetensors").values::<u32>("input_ids");
    let mut found = Vec::new();
    exact_session(model, backend, ids.len()).evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
    found
}

fn original() -> Model {
    Model::open(crate::common::data(&format!("golden/{FILE}"))).unwrap()
}

fn embeddings_of_every_type_give_the_logits_of_their_values<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let dense = |model: &Model| match model.weights(Role::Embedding).unwrap() {
        Some(Weights::Dense(table)) => Dense::to_f32(&table),
        _ => panic!("a dense table"),
    };
    let with_embedding = |type_id, data| {
        let mut file = parts(FILE);
        let tensor = file.named("token_embd.weight");
        (tensor.type_id, tensor.data) = (type_id, data);
        let file = TemporaryFile::new(&file.bytes());
        Model::open(&file.path).unwrap()
    };
    let values = dense(&original());
    for (type_id, data, is_exact) in [
        (0, float::encode_f32(&values), true),
        (30, float::encode_bf16(&values), true),
        (8, q8_0::quantize(&values).unwrap(), false),
        (14, q6_k::quantize(&values).unwrap(), false),
    ] {
        let model = with_embedding(type_id, data);
        let rounded = dense(&model);
        assert_eq!(rounded == values, is_exact, "type {type_id}");
        let wanted = logits(&with_embedding(0, float::encode_f32(&rounded)), make());
        let error = relative_error(&logits(&model, make()), &wanted);
        assert!(error <= SAME_VALUES, "type {type_id}: logits differ by {error:e}");
    }
}

fn other_layouts_of_i2_s_are_read_when_asked_for_and_garbage_otherwise<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let wanted = logits(&original(), make());
    for i2s_layout in [I2sLayout::Block64, I2sLayout::Row4] {
        let mut file = parts(FILE);
        let config = original().config().clone();
        for layer in 0..config.layers {
            for (part, _) in Part::ALL.iter().filter(|(part, _)| part.is_linear() && part.is_in(&config, layer)) {
                let role = Role::Layer(layer, *part);
                let Some(Weights::Ternary(w)) = original().weights(role).unwrap() else {
                    panic!("{role:?} is ternary")
                };
                file.named(&role.gguf_name()).data = i2_s::encode(&w, i2s_layout).unwrap();
            }
        }
        let file = TemporaryFile::new(&file.bytes());
        let asked = Model::open_with(&file.path, &OpenOptions { i2s_layout, ..Default::default() }).unwrap();
        assert_eq!(logits(&asked, make()), wanted, "{i2s_layout}: the same trits, bit for bit");
        let error = relative_error(&logits(&Model::open(&file.path).unwrap(), make()), &wanted);
        assert!(error > 0.3, "{i2s_layout} read as 128 must be garbage, but differs by {error:e} only");
    }
}
