//! Every intermediate value of the first layer, verb by verb: int8 activations and integer sums exactly, floats within
//! a tolerance.

use sterna::backend::{Backend, CachePrecision, CacheShape, Numerics, Rotary, Row};
use sterna::format::{Scales, Ternary, Weights};
use sterna::model::{Model, Part, Role};

use crate::common::data;
use crate::reference_values::Golden;
use crate::relative_error;

/// f32 arithmetic in another order, relative to the largest value.
const FLOATS: f32 = 1e-5;

const MODELS: [&str; 5] = ["bitnet-256", "bitnet-384", "bitnet-128-online", "bitnet-128-silu", "llama-256"];

crate::on_every_backend!(layer_zero_equals_the_reference);

/// A backend with the first layer's reference values.
struct Walk<B: Backend> {
    backend: B,
    golden: Golden,
    model: Model,
    rows: usize,
    name: &'static str,
}

fn layer_zero_equals_the_reference<B: Backend + 'static>(make: &dyn Fn() -> B) {
    for name in MODELS {
        let model = Model::open(data(&format!("golden/{name}/i2_s.gguf"))).unwrap();
        let golden = Golden::read(&format!("golden/{name}/golden.safetensors"));
        let rows = golden.values::<u32>("input_ids").len();
        Walk { backend: make(), golden, model, rows, name }.run();
    }
}

impl<B: Backend> Walk<B> {
    fn run(mut self) {
        let config = self.model.config().clone();
        let (heads, width, ffn) = (config.heads, config.width, config.ffn_width);
        let step: Vec<Row> =
            (0..self.rows as u32).map(|position| Row { sequence: 0, position, wants_logits: false }).collect();
        self.backend.begin(&step);

        let mut hidden = self.tensor(width);
        let table = self.backend.matrix(&[self.model.weights(Role::Embedding).unwrap().unwrap()]).unwrap();
        let mut tokens = self.backend.tokens(self.rows).unwrap();
        self.backend.write_tokens(&mut tokens, &self.golden.values::<u32>("input_ids"));
        self.backend.embed(&mut hidden, &table, &tokens);
        self.check(&hidden, &[("hidden.0", width)]);

        let normed = self.normed(&hidden, Part::AttentionNorm, width, "attn_in");
        let parts = [(Part::Query, "q"), (Part::Key, "k"), (Part::Value, "v")];
        let mut qkv = self.linear(&normed, &parts);
        let mut rotations = self.tensor(2 * config.rope.frequencies.len());
        self.backend.rotations(&mut rotations, &config.rope);
        let half = config.rope.frequencies.len();
        self.check(&rotations, &[("rope.cos", half), ("rope.sin", half)]);
        let mut cache = self.backend.cache(CacheShape {
            slots: 1,
            positions: self.rows,
            kv_heads: heads.kv_heads,
            head_dim: heads.head_dim,
            precision: CachePrecision::F32,
            window: None,
        });
        let cache = cache.as_mut().unwrap();
        self.backend.rope_append(&mut qkv, cache, Rotary::plain(&rotations, config.rope.pairs), heads);
        let mut attended = self.tensor(heads.query_cols());
        self.backend.attend(&mut attended, &qkv, cache, heads);
        self.check(&attended, &[("l0.attn_out", heads.query_cols())]);

        let attended = self.normed(&attended, Part::AttentionSubNorm, heads.query_cols(), "o_in");
        self.linear(&attended, &[(Part::AttentionOutput, "o")]);
        let output = self.matrix(&[Part::AttentionOutput], None);
        self.backend.matmul_add(&mut hidden, &output, &attended);
        self.check(&hidden, &[("l0.after_attn", width)]);

        let normed = self.normed(&hidden, Part::FfnNorm, width, "ffn_in");
        let gate_up = self.linear(&normed, &[(Part::Gate, "gate"), (Part::Up, "up")]);
        let mut product = self.tensor(ffn);
        self.backend.glu(&mut product, &gate_up, config.activation);
        self.check(&product, &[("l0.ffn_act", ffn)]);
        let product = self.normed(&product, Part::FfnSubNorm, ffn, "down_in");
        self.linear(&product, &[(Part::Down, "down")]);
        let down = self.matrix(&[Part::Down], None);
        self.backend.matmul_add(&mut hidden, &down, &product);
        self.check(&hidden, &[("hidden.1", width)]);
    }

    fn tensor(&mut self, cols: usize) -> B::Tensor {
        let mut tensor = self.backend.tensor(self.rows, cols).unwrap();
        self.backend.write_tensor(&mut tensor, &vec![f32::NAN; self.rows * cols]);
        tensor
    }

    /// Norms (where the model has that norm) and quantises; the int8 values and multipliers are exactly the reference's.
    fn normed(&mut self, x: &B::Tensor, part: Part, cols: usize, name: &str) -> B::Quantized {
        let epsilon = self.model.config().norm_epsilon;
        let mut out = self.backend.quantized(self.rows, cols, Numerics::Int8Rows).unwrap();
        match self.model.weights(Role::Layer(0, part)).unwrap() {
            Some(Weights::Dense(gain)) => {
                let gain = self.backend.parameter(&gain.to_f32()).unwrap();
                self.backend.norm_quantize(&mut out, x, &gain, epsilon);
            }
            Some(Weights::Ternary(_)) => panic!("a ternary norm"),
            None => self.backend.quantize(&mut out, x),
        }
        let (mut values, mut scales) = (vec![0; self.rows * cols], vec![0.0; self.rows]);
        self.backend.read_quantized(&out, &mut values, &mut scales).unwrap();
        assert_eq!(values, self.golden.values::<i8>(&format!("l0.{name}.int8")), "{}: {name}", self.name);
        let error = relative_error(&scales, &self.golden.values::<f32>(&format!("l0.{name}.scale")));
        assert!(error <= FLOATS, "{}: the multipliers of {name} differ by {error:e}", self.name);
        out
    }

    /// The product with stacked parts: integer sums exactly, floats closely.
    fn linear(&mut self, x: &B::Quantized, parts: &[(Part, &str)]) -> B::Tensor {
        let which: Vec<Part> = parts.iter().map(|p| p.0).collect();
        let rows_of = |part| Role::Layer(0, part).shape(self.model.config()).0;
        let names: Vec<(&str, usize)> = parts.iter().map(|&(part, name)| (name, rows_of(part))).collect();
        let cols = names.iter().map(|n| n.1).sum();

        // With all scales 1 the floats are the integer sums themselves.
        let unit = self.matrix(&which, Some(1.0));
        let inner = Role::Layer(0, which[0]).shape(self.model.config()).1;
        let (mut values, mut scales) = (vec![0; self.rows * inner], vec![0.0; self.rows]);
        self.backend.read_quantized(x, &mut values, &mut scales).unwrap();
        let mut unscaled = self.backend.quantized(self.rows, inner, Numerics::Int8Rows).unwrap();
        self.backend.write_quantized(&mut unscaled, &values, &vec![1.0; self.rows]);
        let mut sums = self.tensor(cols);
        self.backend.matmul(&mut sums, &unit, &unscaled);
        for (name, found) in self.split(&sums, &names) {
            let wanted = self.golden.values::<i32>(&format!("l0.{name}.i32"));
            let wanted = self.in_file_order(name, wanted);
            assert_eq!(found.iter().map(|&v| v as i32).collect::<Vec<_>>(), wanted, "{}: {name}", self.name);
        }

        let matrix = self.matrix(&which, None);
        let mut out = self.tensor(cols);
        self.backend.matmul(&mut out, &matrix, x);
        for (name, found) in self.split(&out, &names) {
            let wanted = self.in_file_order(name, self.golden.values::<f32>(&format!("l0.{name}")));
            let error = relative_error(&found, &wanted);
            assert!(error <= FLOATS, "{}: {name} differs by {error:e}", self.name);
        }
        out
    }

    /// The reference has query and key rows in Hugging Face order; GGUF files of architecture `llama` interleave the
    /// halves of each head.
    fn in_file_order<T: Copy>(&self, name: &str, values: Vec<T>) -> Vec<T> {
        if self.model.config().architecture != "llama" || !matches!(name, "q" | "k") {
            return values;
        }
        let head_dim = self.model.config().heads.head_dim;
        let heads = values.chunks_exact(head_dim);
        heads.flat_map(|head| (0..head_dim).map(|i| head[i / 2 + i % 2 * head_dim / 2])).collect()
    }

    fn matrix(&mut self, parts: &[Part], scale: Option<f32>) -> B::Matrix {
        let weights = parts.iter().map(|&part| match (self.model.weights(Role::Layer(0, part)).unwrap(), scale) {
            (Some(Weights::Ternary(w)), Some(scale)) => {
                let scales = Scales::Tensor(scale);
                Weights::Ternary(Ternary::new(w.rows(), w.cols(), w.codes().clone(), scales).unwrap())
            }
            (Some(weights), _) => weights,
            (None, _) => panic!("{part:?} is missing"),
        });
        self.backend.matrix(&weights.collect::<Vec<_>>()).unwrap()
    }

    /// Cuts rows of stacked outputs into their parts.
    fn split<'n>(&mut self, tensor: &B::Tensor, names: &[(&'n str, usize)]) -> Vec<(&'n str, Vec<f32>)> {
        let cols: usize = names.iter().map(|n| n.1).sum();
        let mut values = vec![0.0; self.rows * cols];
        self.backend.read_tensor(tensor, &mut values).unwrap();
        let mut start = 0;
        let cut = names.iter().map(|&(name, part_cols)| {
            let part = values.chunks_exact(cols).flat_map(|row| row[start..][..part_cols].to_vec()).collect();
            start += part_cols;
            (name, part)
        });
        cut.collect()
    }

    fn check(&mut self, tensor: &B::Tensor, names: &[(&str, usize)]) {
        for (name, found) in self.split(tensor, names) {
            let error = relative_error(&found, &self.golden.values::<f32>(name));
            assert!(error <= FLOATS, "{}: {name} differs by {error:e}", self.name);
        }
    }
}
