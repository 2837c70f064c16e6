//! Models that were trained with float activations: precisely against the reference, and with int8 activations close to it.

use sterna::backend::{Backend, CachePrecision, Numerics};
use sterna::generate::{GenerateOptions, Session, SessionOptions};
use sterna::model::{Model, OpenOptions};

use crate::common::data;
use crate::reference_values::Golden;
use crate::relative_error;

/// Logits against the largest, with float activations: f32 arithmetic in another order (tests/data/golden/README.md).
const PRECISE: f32 = 1e-4;
/// With int8 activations in groups of 128 columns. Rounding moves each activation by up to a 254th of its group's largest;
/// measured are 0.4 to 1.2 % of the largest logit.
const GROUPS: f32 = 4e-2;

/// A model file, with the reference values of a session of so many positions.
struct Case {
    folder: &'static str,
    file: &'static str,
    positions: usize,
    logits: &'static str,
    greedy: &'static str,
}

const fn case(folder: &'static str, file: &'static str) -> Case {
    Case { folder, file, positions: 256, logits: "logits", greedy: "greedy" }
}

/// LongRoPE takes the long factors where a session has room for more than 64 positions.
const CASES: [Case; 10] = [
    case("trilm-256", "tq2_0.gguf"),
    Case { positions: 64, ..case("minicpm-256", "tq2_0.gguf") },
    Case { logits: "logits.long_factors", greedy: "greedy.long_factors", ..case("minicpm-256", "tq2_0.gguf") },
    case("trilm-128", "f16.gguf"),
    case("qwen3-256", "q2_0_g128.gguf"),
    case("qwen3-256", "ptq1_0.gguf"),
    case("qwen3-yarn", "q2_0_g64.gguf"),
    case("qwen3-yarn", "pq2_0.gguf"),
    case("hunyuan-256", "stq1_0_id42.gguf"),
    case("hunyuan-256", "stq1_0_id43.gguf"),
];

crate::on_every_backend!(
    precise_logits_equal_the_reference,
    precise_greedy_ids_equal_the_reference,
    precise_long_prompts_equal_the_reference,
    int8_groups_stay_close_to_the_reference
);

impl Case {
    fn open(&self, numerics: Numerics) -> Model {
        let path = data(&format!("golden/{}/{}", self.folder, self.file));
        let options = OpenOptions { numerics: Some(numerics), ..OpenOptions::default() };
        Model::open_with(&path, &options).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    fn golden(&self) -> Golden {
        Golden::read(&format!("golden/{}/golden.safetensors", self.folder))
    }

    /// A session with the cache in f32, as the reference has it, for a prompt of so many tokens.
    fn session<B: Backend + 'static>(&self, numerics: Numerics, backend: B, prompt: usize) -> Session {
        let options = SessionOptions {
            cache: CachePrecision::F32,
            context: Some(self.positions),
            chunk: Some(prompt),
            ..SessionOptions::default()
        };
        Session::with_backend(&self.open(numerics), backend, &options).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    fn logits_error<B: Backend + 'static>(&self, numerics: Numerics, backend: B) -> f32 {
        let (golden, mut found) = (self.golden(), Vec::new());
        let ids = golden.values::<u32>("input_ids");
        let mut session = self.session(numerics, backend, ids.len());
        session.evaluate(&ids, &mut |_, row| found.extend_from_slice(row)).unwrap();
        relative_error(&found, &golden.values::<f32>(self.logits))
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} with {} positions", self.folder, self.file, self.positions)
    }
}

fn precise_logits_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let error = case.logits_error(Numerics::Float, make());
        assert!(error <= PRECISE, "{case}: logits differ by {error:e}");
    }
}

fn precise_greedy_ids_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let golden = case.golden();
        let options = GenerateOptions { max_tokens: 32, ignore_end: true, ..GenerateOptions::greedy() };
        let prompt = golden.values::<u32>("input_ids");
        let mut session = case.session(Numerics::Float, make(), prompt.len());
        let ids = session.generate_ids(&prompt, &options).unwrap();
        let ids: Vec<u32> = ids.collect::<Result<_, _>>().unwrap();
        assert_eq!(ids, golden.values::<u32>(case.greedy), "{case}");
    }
}

fn precise_long_prompts_equal_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let golden = case.golden();
        let ids = golden.values::<u32>("long.input_ids");
        if ids.len() > case.positions {
            continue; // the other session of this model has room for it
        }
        let mut last = Vec::new();
        let mut session = case.session(Numerics::Float, make(), ids.len());
        session.evaluate(&ids, &mut |_, row| last = row.to_vec()).unwrap();
        let error = relative_error(&last, &golden.values::<f32>("long.logits_last"));
        assert!(error <= PRECISE, "{case}: logits differ by {error:e}");
    }
}

fn int8_groups_stay_close_to_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for case in CASES {
        let error = case.logits_error(Numerics::Int8Groups, make());
        println!("{case}: with int8 groups, logits differ by {error:e}");
        assert!(error <= GROUPS, "{case}: logits differ by {error:e}");
    }
}
