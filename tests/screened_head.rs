//! The screened head chooses as the exact head does, bit for bit: on heads and hidden vectors made to mislead it, with
//! every kernel set and number of threads, for one row and for many.

use std::path::Path;

use half::f16;
use sterna::backend::{Backend, Row};
use sterna::cpu::{Cpu, CpuOptions, KernelSet, Screening};
use sterna::format::{Dense, Values, Weights};
use sterna::generate::{GenerateOptions, Prompt, Sampling, Session, SessionOptions};
use sterna::model::SyntheticShape;
use sterna::{Device, Model};

// Material.

/// A small generator (xorshift64*), so that a test is the same everywhere.
struct Random(u64);

impl Random {
    /// In [-1, 1).
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// About normal: the sum of twelve uniform values has variance 4.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }

    fn below(&mut self, end: usize) -> usize {
        ((self.uniform() + 1.0) / 2.0 * end as f32) as usize % end
    }
}

/// Distributions of weights and of hidden vectors.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Gaussian,
    HeavyTailed,
    Equal,
    OneHot,
    HugeRange,
    Tiny,
    Zero,
    Ties,
    NotFinite,
}

const KINDS: [Kind; 9] = [
    Kind::Gaussian,
    Kind::HeavyTailed,
    Kind::Equal,
    Kind::OneHot,
    Kind::HugeRange,
    Kind::Tiny,
    Kind::Zero,
    Kind::Ties,
    Kind::NotFinite,
];

impl Kind {
    fn fill(self, random: &mut Random, row: &mut [f32]) {
        for (col, v) in row.iter_mut().enumerate() {
            *v = match self {
                Kind::Gaussian | Kind::NotFinite => random.normal(),
                Kind::HeavyTailed => random.normal() / (random.uniform().abs() + 1e-3),
                Kind::Equal => (col % 7) as f32 - 2.5,
                Kind::OneHot | Kind::Zero => 0.0,
                Kind::HugeRange => random.normal() * 10f32.powi(random.below(9) as i32 - 5),
                Kind::Tiny => random.normal() * 1e-6,
                Kind::Ties => (random.uniform() * 2.0).round(),
            };
        }
        let place = random.below(row.len());
        match self {
            Kind::OneHot => row[place] = random.normal(),
            Kind::NotFinite if random.below(40) == 0 => {
                row[place] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random.below(3)];
            }
            _ => {}
        }
    }

    fn rows(self, random: &mut Random, rows: usize, cols: usize) -> Vec<f32> {
        let mut values = vec![0.0; rows * cols];
        values.chunks_exact_mut(cols).for_each(|row| self.fill(random, row));
        if let Kind::HugeRange = self {
            // Rows of different sizes, too.
            for row in values.chunks_exact_mut(cols) {
                let size = 10f32.powi(random.below(5) as i32 - 3);
                row.iter_mut().for_each(|v| *v *= size);
            }
        }
        values
    }
}

fn f16_head(cols: usize, values: &[f32]) -> Weights {
    let bytes: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    Weights::Dense(Dense::new(values.len() / cols, cols, Values::F16(bytes.into())).unwrap())
}

fn cpu(kernels: KernelSet, threads: usize, screening: Screening) -> Cpu {
    Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels), screening }).unwrap()
}

/// What a head tells: the best token, and the `count` best with the bits of their logits, of each row.
#[derive(Debug, PartialEq)]
struct Choice {
    best: Vec<u32>,
    tokens: Vec<u32>,
    logits: Vec<u32>,
}

fn choose(cpu: &mut Cpu, head: &Weights, hidden: &[f32], count: usize) -> Choice {
    let selected = hidden.len() / head.cols();
    let rows: Vec<Row> = (0..selected as u32).map(|i| Row { sequence: 0, position: i, wants_logits: true }).collect();
    let mut matrix = cpu.matrix(std::slice::from_ref(head)).unwrap();
    cpu.prepare_head(&mut matrix).unwrap();
    let mut x = cpu.tensor(selected, head.cols()).unwrap();
    cpu.write_tensor(&mut x, hidden);
    let mut scratch = cpu.tensor(selected, head.rows()).unwrap();
    let (mut best, mut tokens) = (cpu.tokens(selected).unwrap(), cpu.tokens(selected * count).unwrap());
    let mut values = cpu.tensor(selected, count).unwrap();
    cpu.begin(&rows);
    cpu.best(&mut best, &mut scratch, &matrix, &x);
    cpu.candidates(&mut tokens, &mut values, count, &mut scratch, &matrix, &x);
    cpu.end();
    let mut logits = vec![0.0; selected * count];
    cpu.read_tensor(&values, &mut logits).unwrap();
    Choice { best, tokens, logits: logits.iter().map(|v| v.to_bits()).collect() }
}

#[track_caller]
fn assert_chooses_as_the_exact_head(head: &Weights, hidden: &[f32], count: usize, what: &str) {
    for kernels in KernelSet::available() {
        let exact = choose(&mut cpu(kernels, 1, Screening::Never), head, hidden, count);
        for threads in [1, 2, 3] {
            let screened = choose(&mut cpu(kernels, threads, Screening::Always), head, hidden, count);
            assert!(screened == exact, "{what}, the best {count}, {kernels}, {threads} threads");
        }
    }
}

// Choices.

#[test]
fn choices_are_those_of_the_exact_head_whatever_the_numbers() {
    let random = &mut Random(1);
    for weights in KINDS {
        let head = f16_head(160, &weights.rows(random, 1501, 160));
        for kind in KINDS {
            let hidden = kind.rows(random, 3, 160);
            for count in [1, 2, 40] {
                assert_chooses_as_the_exact_head(&head, &hidden, count, &format!("{weights:?} · {kind:?}"));
            }
        }
    }
}

#[test]
fn choices_are_those_of_the_exact_head_at_every_width() {
    let random = &mut Random(2);
    for cols in [1, 7, 96, 127, 128, 129, 256, 640, 1536, 2560] {
        let head = f16_head(cols, &Kind::Gaussian.rows(random, 700, cols));
        let hidden = Kind::Gaussian.rows(random, 2, cols);
        for count in [1, 3, 64, 256, 700] {
            assert_chooses_as_the_exact_head(&head, &hidden, count, &format!("{cols} columns"));
        }
    }
}

#[test]
fn choices_are_those_of_the_exact_head_for_any_number_of_rows() {
    let random = &mut Random(3);
    let head = f16_head(256, &Kind::Gaussian.rows(random, 3000, 256));
    for selected in [1, 2, 3, 4, 7, 8, 9, 16, 17] {
        let mut hidden = Kind::HeavyTailed.rows(random, selected, 256);
        // One row that cannot be screened, among others that can.
        hidden[selected / 2 * 256] = f32::INFINITY;
        assert_chooses_as_the_exact_head(&head, &hidden, 10, &format!("{selected} rows"));
    }
}

#[test]
fn heads_of_f32_and_bf16_are_screened_too() {
    let random = &mut Random(4);
    let values = Kind::HeavyTailed.rows(random, 2000, 320);
    let single: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let brain: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[2..].to_vec()).collect();
    let hidden = Kind::Gaussian.rows(random, 2, 320);
    for values in [Values::F32(single.into()), Values::Bf16(brain.into())] {
        let head = Weights::Dense(Dense::new(2000, 320, values).unwrap());
        assert_chooses_as_the_exact_head(&head, &hidden, 20, "another format");
    }
    // Rows and hidden vectors whose products overflow, in part or in the sum.
    for size in [1e14f32, 1e16, 1e20, 1e38] {
        let large: Vec<u8> = (0..2000 * 320).flat_map(|_| (random.normal() * size).to_le_bytes()).collect();
        let head = Weights::Dense(Dense::new(2000, 320, Values::F32(large.into())).unwrap());
        for size in [1e-30f32, 1.0, 1e14, 1e16, 1e30] {
            let hidden: Vec<f32> = hidden.iter().map(|v| v * size).collect();
            assert_chooses_as_the_exact_head(&head, &hidden, 5, "huge numbers");
        }
    }
}

#[test]
fn the_first_of_equal_rows_is_chosen() {
    let random = &mut Random(5);
    let mut values = Kind::Gaussian.rows(random, 5000, 128);
    let hidden: Vec<f32> = values[128 * 77..128 * 78].to_vec();
    for copy in [3, 76, 4999] {
        values.copy_within(128 * 77..128 * 78, 128 * copy);
    }
    let head = f16_head(128, &values);
    for kernels in KernelSet::available() {
        let choice = choose(&mut cpu(kernels, 2, Screening::Always), &head, &hidden, 4);
        assert_eq!((choice.best, choice.tokens), (vec![3], vec![3, 76, 77, 4999]));
    }
}

#[test]
fn a_nan_in_the_first_row_is_passed_over() {
    let random = &mut Random(6);
    let mut values = Kind::Gaussian.rows(random, 1000, 128);
    values[5] = f32::NAN;
    let hidden = Kind::Gaussian.rows(random, 1, 128);
    let head = f16_head(128, &values);
    let choice = choose(&mut cpu(KernelSet::best(), 2, Screening::Always), &head, &hidden, 3);
    assert!(choice.best != [0] && !choice.tokens.contains(&0));
    assert_chooses_as_the_exact_head(&head, &hidden, 3, "a NaN in the first row");
}

#[test]
fn few_logits_are_computed_exactly() {
    let random = &mut Random(7);
    let (rows, cols) = (20_000, 640);
    let head = f16_head(cols, &Kind::Gaussian.rows(random, rows, cols));
    let hidden = Kind::Gaussian.rows(random, 1, cols);
    for kernels in KernelSet::available() {
        let mut cpu = cpu(kernels, 2, Screening::Always);
        choose(&mut cpu, &head, &hidden, 40);
        assert!((41..1000).contains(&cpu.exact_logits()), "{} of {rows} twice", cpu.exact_logits());
    }
}

#[test]
fn small_and_int8_heads_are_not_screened_by_default() {
    let random = &mut Random(8);
    let hidden = Kind::Gaussian.rows(random, 1, 128);
    let small = f16_head(128, &Kind::Gaussian.rows(random, 1000, 128));
    let codes: Vec<u8> = (0..60_000 * 128).map(|_| random.below(256) as u8).collect();
    let int8 = Values::Int8 { columns: 32, codes: codes.into(), scales: vec![0.01; 60_000 * 4] };
    let int8 = Weights::Dense(Dense::new(60_000, 128, int8).unwrap());
    for (head, screening) in [(&small, Screening::WhereFaster), (&int8, Screening::Always)] {
        let mut cpu = cpu(KernelSet::best(), 1, screening);
        choose(&mut cpu, head, &hidden, 5);
        assert_eq!(cpu.exact_logits(), 0);
    }
}

// Generation.

fn generate(model: &Model, cpu: CpuOptions, prompts: &[Prompt]) -> Vec<Vec<u32>> {
    let options = SessionOptions { context: Some(64), sequences: prompts.len(), ..SessionOptions::default() };
    let mut session = Session::new(model, &Device::cpu_with(cpu), &options).unwrap();
    let mut ids = vec![Vec::new(); prompts.len()];
    for piece in session.generate_batch(prompts).unwrap() {
        let piece = piece.unwrap();
        ids[piece.sequence].extend(piece.id);
    }
    ids
}

/// Every way to draw, with as many seeds.
fn samplings(seeds: u64) -> Vec<Sampling> {
    let mut samplings = vec![Sampling::greedy(), Sampling { temperature: 0.0, ..Sampling::default() }];
    for seed in 0..seeds {
        let plain = Sampling { seed, ..Sampling::default() };
        samplings.extend([
            plain.clone(),
            Sampling { temperature: 1.5, top_p: 0.9, min_p: 0.02, ..plain.clone() },
            Sampling { top_k: 200, repetition_penalty: 1.6, repetition_window: 8, ..plain.clone() },
            Sampling { top_k: 1, repetition_penalty: 3.0, ..plain.clone() },
            Sampling { repetition_penalty: 0.8, ..plain.clone() },
            Sampling { top_k: 0, ..plain.clone() },
            Sampling { top_k: 1000, ..plain },
        ]);
    }
    samplings
}

fn prompts(samplings: &[Sampling], max_tokens: usize) -> Vec<Prompt> {
    let prompt = |sampling: &Sampling| Prompt {
        ids: vec![1, 40, 7],
        options: GenerateOptions {
            sampling: sampling.clone(),
            max_tokens,
            ignore_end: true,
            ..GenerateOptions::default()
        },
    };
    samplings.iter().map(prompt).collect()
}

#[test]
fn the_same_seed_tells_the_same_with_and_without_a_screen() {
    for path in ["models/tales-4m-i2_s.gguf", "tests/data/golden/bitnet-256/i2_s.gguf"] {
        let model = Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        for kernels in KernelSet::available() {
            let with = |threads, screening, prompts: &[Prompt]| {
                generate(&model, CpuOptions { threads: Some(threads), kernels: Some(kernels), screening }, prompts)
            };
            for prompt in prompts(&samplings(6), 30) {
                let prompt = std::slice::from_ref(&prompt);
                assert_eq!(with(2, Screening::Always, prompt), with(1, Screening::Never, prompt), "{prompt:?}");
            }
            let all = prompts(&samplings(2), 20);
            let exact = with(1, Screening::Never, &all);
            for threads in [1, 2, 3] {
                assert_eq!(with(threads, Screening::Always, &all), exact, "in one batch, {threads} threads");
            }
        }
    }
}

#[test]
fn a_model_of_real_size_tells_the_same_with_and_without_a_screen() {
    let model = Model::synthetic(SyntheticShape::Bitnet700M, 3);
    let prompts = prompts(&samplings(1)[..6], 5);
    let with = |screening| generate(&model, CpuOptions { screening, ..CpuOptions::default() }, &prompts);
    assert_eq!(with(Screening::WhereFaster), with(Screening::Never));
}
