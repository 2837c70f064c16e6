//! Models with recurrent layers, rotated bases and experts: precisely against the reference, however a text is cut into steps and whoever shares them.

use sterna::backend::{Backend, CachePrecision, Numerics};
use sterna::generate::{GenerateOptions, Prompt, Session, SessionOptions};
use sterna::model::{Model, OpenOptions};

use crate::common::data;
use crate::reference_values::Golden;
use crate::relative_error;

/// Logits against the largest, with float activations: f32 arithmetic in another order, and a state in f32 (README.md of the golden
/// models).
const PRECISE: f32 = 1e-4;

/// Tokens of the prompt.
const POSITIONS: usize = 12;

/// A model file or directory, its reference values, and the limit with int8 activations in groups of 128: random networks have no sharp one.
struct Case {
    file: &'static str,
    folder: &'static str,
    groups: f32,
}

const CASES: [Case; 5] = [
    Case { file: "qwen35-128/q2_0_g128.gguf", folder: "qwen35-128", groups: 2e-1 },
    Case { file: "qwen35-128-hf/ptq1_0.gguf", folder: "qwen35-128-hf", groups: 2e-1 },
    Case { file: "qwen35-hadamard-v1/pq2_0.gguf", folder: "qwen35-hadamard-v1", groups: 1e-1 },
    Case { file: "qwen35-hadamard-v2/ptq1_0.gguf", folder: "qwen35-hadamard-v2", groups: 1e-1 },
    // A choice of experts that flips moves logits by 4e-1 of the largest: the best token is compared instead.
    Case { file: "maple-256/mixed.gguf", folder: "maple-256", groups: f32::INFINITY },
];

crate::on_every_backend!(
    precise_logits_equal_the_reference,
    precise_greedy_ids_equal_the_reference,
    a_long_prompt_in_any_chunks_equals_the_reference,
    two_sequences_of_a_batch_equal_the_reference,
    int8_groups_stay_close_to_the_reference
);

impl Case {
    fn golden(&self) -> Golden {
        Golden::read(&format!("golden/{}/golden.safetensors", self.folder))
    }

    /// A session with the cache in f32, as the reference has it, whose steps have at most `chunk` rows.
    fn session<B: Backend + 'static>(&self, numerics: Numerics, backend: B, chunk: usize, sequences: usize) -> Session {
        let options = OpenOptions { numerics: Some(numerics), ..OpenOptions::default() };
        let path = data(&format!("golden/{}", self.file));
        let model = Model::open_with(&path, &options).unwrap_or_else(|error| panic!("{}: {error}", self.file));
        let options = SessionOptions {
            cache: CachePrecision::F32,
            context: Some(256),
            chunk: Some(chunk),
            sequences,
            ..SessionOptions::default()
        };
        Session::with_backend(&model, backend, &options).unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }

    fn logits<B: Backend + 'static>(&self, numerics: Numerics, backend: B, chunk: usize) -> Vec<f32> {
        let mut found = Vec::new();
        let ids = self.golden().values::<u32>("input_ids");
        let mut session = self.session(numerics, backend, chunk, 1);
        session.evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
        found
    }
}

fn greedy(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ignore_end: true, ..GenerateOptions::greedy() }
}

/// At once, 11 + 1, 5 + 5 + 2 and token by token.
fn precise_logits_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        for chunk in [12, 11, 5, 1] {
            let found = case.logits(Numerics::Float, make(), chunk);
            let error = relative_error(&found, &case.golden().values::<f32>("logits"));
            println!("{} in steps of {chunk}: logits differ by {error:e}", case.file);
            assert!(error <= PRECISE, "{} in steps of {chunk}: logits differ by {error:e}", case.file);
        }
    }
}

fn precise_greedy_ids_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let golden = case.golden();
        let prompt = golden.values::<u32>("input_ids");
        let mut session = case.session(Numerics::Float, make(), prompt.len(), 1);
        let ids: Vec<u32> = session.generate_ids(&prompt, &greedy(32)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(ids, golden.values::<u32>("greedy"), "{}", case.file);
    }
}

/// Over two boundaries of 64 rows and one of 128.
fn a_long_prompt_in_any_chunks_equals_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let golden = case.golden();
        let (ids, positions) = (golden.values::<u32>("long.input_ids"), golden.values::<u32>("long.positions"));
        for chunk in [ids.len(), 64, 33, 7] {
            let mut found = Vec::new();
            let mut session = case.session(Numerics::Float, make(), chunk, 1);
            let mut keep = |position: usize, row: &[f32]| {
                if positions.contains(&(position as u32)) {
                    found.extend_from_slice(row);
                }
            };
            session.evaluate(&ids, &mut keep).unwrap();
            let error = relative_error(&found, &golden.values::<f32>("long.logits"));
            println!("{}, long, in steps of {chunk}: logits differ by {error:e}", case.file);
            assert!(error <= PRECISE, "{} in steps of {chunk}: logits differ by {error:e}", case.file);
        }
    }
}

fn two_sequences_of_a_batch_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let golden = case.golden();
        let texts = [("input_ids", "greedy", 32), ("second.input_ids", "second.greedy", 16)];
        let prompts = texts.map(|(ids, _, count)| Prompt { ids: golden.values::<u32>(ids), options: greedy(count) });
        // In steps that hold both prompts, and in steps that read one while the other makes tokens.
        for chunk in [19, 4] {
            let mut session = case.session(Numerics::Float, make(), chunk, 2);
            let mut made = [Vec::new(), Vec::new()];
            for piece in session.generate_batch(&prompts).unwrap() {
                let piece = piece.unwrap();
                made[piece.sequence].extend(piece.id);
            }
            for ((_, wanted, _), made) in texts.iter().zip(&made) {
                assert_eq!(*made, golden.values::<u32>(wanted), "{}: {wanted} in steps of {chunk}", case.file);
            }
        }
    }
}

fn int8_groups_stay_close_to_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let found = case.logits(Numerics::Int8Groups, make(), 12);
        let golden = case.golden().values::<f32>("logits");
        let error = relative_error(&found, &golden);
        let best = |logits: &[f32]| -> Vec<usize> {
            let largest = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            logits.chunks_exact(logits.len() / POSITIONS).map(largest).collect()
        };
        let same = best(&found).iter().zip(best(&golden)).filter(|(a, b)| **a == *b).count();
        println!("{}: with int8 groups, logits differ by {error:e}, {same} best tokens are the same", case.file);
        assert!(error <= case.groups, "{}: logits differ by {error:e}", case.file);
        assert!(case.groups.is_finite() || same >= POSITIONS - 1, "{}: {same} best tokens are the same", case.file);
    }
}
