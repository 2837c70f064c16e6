//! The model that ships with the crate: its reference logits, greedy continuations, and perplexity on held-out text.

use sterna::backend::{Backend, Numerics};
use sterna::cpu::KernelSet;
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::{Model, OpenOptions};

use crate::common::{cpu, data, shipped_model, shipped_model_path};
use crate::reference_values::Golden;
use crate::{exact_session, relative_error};

/// f32 arithmetic in another order, relative to the largest logit (models/README.md).
const LOGITS: f32 = 1e-4;
/// The total over 26368 tokens; single activations that round the other way average out.
const PERPLEXITY: f64 = 1e-3;
/// The total over 6120 tokens with int8 activations in groups, against f32 ones.
const GROUPS_ON_TEXT: f64 = 1e-3;
/// Tokens of a window, the beginning of the sequence among them.
const WINDOW: usize = 256;

crate::on_every_backend!(
    prompt_logits_equal_the_reference,
    the_same_model_as_tq2_0_gives_the_same_bits,
    greedy_ids_equal_the_reference_while_safe,
);

fn expectations() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data("tales/golden.json")).unwrap()).unwrap()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn prompt_logits_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let golden = Golden::read("tales/golden.safetensors");
    let mut found = Vec::new();
    let ids = golden.values::<u32>("prompt.input_ids");
    let mut session = exact_session(&shipped_model(), make(), ids.len());
    session.evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
    let error = relative_error(&found, &golden.values::<f32>("prompt.logits"));
    assert!(error <= LOGITS, "logits differ by {error:e}");
}

fn the_same_model_as_tq2_0_gives_the_same_bits<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let ids = Golden::read("tales/golden.safetensors").values::<u32>("prompt.input_ids");
    let logits = |model: &Model| {
        let mut found = Vec::new();
        exact_session(model, make(), ids.len()).evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
        found
    };
    assert_eq!(logits(&Model::open(data("tales/tales-4m-tq2_0.gguf")).unwrap()), logits(&shipped_model()));
}

fn greedy_ids_equal_the_reference_while_safe<B: Backend + 'static>(make: &dyn Fn() -> B) {
    let model = shipped_model();
    let options = SessionOptions { chunk: Some(16), ..SessionOptions::default() };
    let mut session = Session::with_backend(&model, make(), &options).unwrap();
    for prompt in expectations()["prompts"].as_array().unwrap() {
        let text = prompt["prompt"].as_str().unwrap();
        let input = model.tokenizer().unwrap().encode_prompt(text).unwrap();
        assert_eq!(input, ids(&prompt["input_ids"]), "{text:?}");
        let safe = prompt["safe_tokens"].as_u64().unwrap() as usize;
        let options = GenerateOptions { max_tokens: safe, ..GenerateOptions::greedy() };
        let made: Vec<u32> = session.generate_ids(&input, &options).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(made, ids(&prompt["greedy"])[..safe], "{text:?}");
    }
}

/// `windows`: how many of the 103 windows of the held-out text are scored.
fn perplexity_agrees<B: Backend + 'static>(backend: B, windows: usize) {
    let golden = Golden::read("tales/golden.safetensors").values::<f64>("ppl.window_nll");
    let (total, wanted) = (held_out_nats(&shipped_model(), backend, windows), golden[..windows].iter().sum::<f64>());
    assert!((total / wanted - 1.0).abs() <= PERPLEXITY, "{total} nats, not {wanted}");
}

/// The negative logarithm of the probability of the first windows of the held-out text.
fn held_out_nats<B: Backend + 'static>(model: &Model, backend: B, windows: usize) -> f64 {
    let text = std::fs::read_to_string(data("tales/heldout.txt")).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let held_out = tokenizer.encode(&text).unwrap();
    let golden = Golden::read("tales/golden.safetensors").values::<f64>("ppl.window_nll");
    assert_eq!(held_out.len() / WINDOW, golden.len(), "the reference has as many windows");
    let mut session = exact_session(model, backend, WINDOW + 1);
    let mut total = 0.0;
    for window in held_out.chunks_exact(WINDOW).take(windows) {
        let input: Vec<u32> = tokenizer.bos().into_iter().chain(window.iter().copied()).collect();
        total -= session.log_likelihoods(&input).unwrap().iter().sum::<f64>();
    }
    total
}

/// What rounding activations to int8 costs on real text, against the same model with activations in f32.
#[test]
fn int8_groups_cost_next_to_nothing_on_held_out_text() {
    const WINDOWS: usize = 24;
    let nats = |numerics| {
        let options = OpenOptions { numerics: Some(numerics), ..OpenOptions::default() };
        let model = Model::open_with(shipped_model_path(), &options).unwrap();
        held_out_nats(&model, cpu(KernelSet::best(), 2), WINDOWS)
    };
    let precise = nats(Numerics::Float);
    let [groups, rows] = [Numerics::Int8Groups, Numerics::Int8Rows].map(|numerics| nats(numerics) / precise - 1.0);
    println!("nats on held-out text, against f32 activations: int8 groups {groups:+.2e}, int8 rows {rows:+.2e}");
    assert!(groups.abs() <= GROUPS_ON_TEXT, "int8 groups change the nats by {groups:e}");
}

mod perplexity_on_held_out_text_agrees {
    use crate::common;

    /// The oracle is slow: eight windows of the 103.
    #[test]
    fn reference() {
        super::perplexity_agrees(common::reference(), 8);
    }

    /// All of the text for the kernels that this machine takes, and less for others, of which the portable ones are slow too.
    fn windows(kernels: common::KernelSet) -> usize {
        match kernels {
            best if best == common::KernelSet::best() => 103,
            common::KernelSet::Portable => 12,
            _ => 25,
        }
    }

    crate::on_every_kernel_set!(|kernels| super::perplexity_agrees(common::cpu(kernels, 2), windows(kernels)));
}
