//! The BitNet embedding models: the state after the final norm, at every position of three texts. Their files have no
//! head, so that logits are that state times the embedding table, which the test does itself. The state of the last
//! position, brought to length 1, is the embedding. GPUs have no norms before single projections yet.

use half::f16;
use sterna::backend::Backend;
use sterna::format::gguf::Gguf;
use sterna::model::Model;

use crate::common::data;
use crate::reference_values::Golden;
use crate::{exact_session, relative_error};

/// Against the largest: f32 arithmetic in another order. No int8 activation of these texts is near a rounding tie.
const STATES: f32 = 1e-4;

on_every_processor!(states_of_the_qwen_embedding, states_of_the_gemma_embedding);

fn states_of_the_qwen_embedding<B: Backend + 'static>(make: impl Fn() -> B) {
    check("embedding-qwen3", make);
}

fn states_of_the_gemma_embedding<B: Backend + 'static>(make: impl Fn() -> B) {
    check("embedding-gemma3", make);
}

fn check<B: Backend + 'static>(name: &str, make: impl Fn() -> B) {
    let path = data(&format!("golden/{name}/i2_s.gguf"));
    let golden = Golden::read(&format!("golden/{name}/golden.safetensors"));
    let model = Model::open(&path).unwrap();
    let file = Gguf::open(&path).unwrap();
    let info = file.tensor("token_embd.weight").unwrap();
    let table: Vec<f16> = bytemuck::pod_collect_to_vec(&file.data(info)); // [vocabulary, width]
    for text in 0..3 {
        let states = golden.values::<f32>(&format!("text.{text}.final_norm")); // [tokens, width]
        let wanted: Vec<f32> = states
            .chunks_exact(info.cols())
            .flat_map(|state| table.chunks_exact(info.cols()).map(move |row| dot(row, state)))
            .collect();
        let mut found = Vec::new();
        let mut session = exact_session(&model, make());
        let ids = golden.values::<u32>(&format!("text.{text}.input_ids"));
        session.evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
        let error = relative_error(&found, &wanted);
        assert!(error <= STATES, "{name}, text {text}: states differ by {error:e}");
    }
}

fn dot(row: &[f16], state: &[f32]) -> f32 {
    row.iter().zip(state).map(|(weight, value)| weight.to_f64() * f64::from(*value)).sum::<f64>() as f32
}
