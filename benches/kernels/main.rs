//! The verbs that a model's time goes into, with the sizes of a 2B model, on every kernel set and on one and two
//! threads. Beside each median stands the rate in GB/s (or G multiplications a second) and its share of what this machine
//! reads from memory, measured in the same run with the same number of threads.

mod rival;
mod timer;

use std::fmt::Display;

use bytes::Bytes;
use clap::Parser;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use sterna::backend::{Backend, CachePrecision, CacheShape, Heads, Numerics, RopePairs, Rotary, Row, Storage};
use sterna::cpu::{Cpu, CpuOptions, KernelSet, Matrix};
use sterna::format::{Dense, Scales, Ternary, Values, Weights};
use sterna::measure::Bandwidth;

use crate::timer::{Amount, Args, Timer};

/// Of BitNet b1.58 2B-4T.
const WIDTH: usize = 2560;
const FFN_WIDTH: usize = 6912;
const VOCABULARY: usize = 128_256;
const HEADS: Heads = Heads { heads: 20, kv_heads: 5, head_dim: 128 };

/// Weights beyond any cache: matrices are taken from them in turn.
const COLD_BYTES: usize = 1 << 30;
/// Rows of a step: tokens of a prompt, or sequences of a batch.
const ROWS: [usize; 7] = [2, 4, 8, 16, 32, 64, 128];
const POSITIONS: [usize; 4] = [128, 512, 1024, 4096];

/// The cases of a kernel set and a number of threads.
struct Group<'a> {
    timer: &'a mut Timer,
    name: String,
}

impl Group<'_> {
    fn case(&mut self, name: &str, size: impl Display, amount: Amount, call: impl FnMut()) {
        self.timer.case(&format!("{}/{name}/{size}", self.name), amount, call);
    }
}

fn main() {
    let args = Args::parse();
    let mut timer = Timer::new(args.clone());
    let random = &mut Xoshiro256PlusPlus::seed_from_u64(1);
    let weights = Material::new(random);
    for threads in [1, 2] {
        // The program that asks has measured it.
        if !args.answer {
            let roof = Bandwidth::measure(threads).expect("memory to read");
            let [median, least, most] = [roof.median, roof.least, roof.most].map(|rate| rate / 1e9);
            println!("{threads} threads read {median:.1} GB/s ({least:.1} to {most:.1})");
            timer.roof = roof.median;
        }
        for kernels in KernelSet::available() {
            let group = &mut Group { timer: &mut timer, name: format!("{kernels}, {threads} threads") };
            let cpu = || {
                Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels), ..CpuOptions::default() })
                    .expect("it is there")
            };
            one_row(group, &mut cpu(), &weights);
            many_rows(group, &mut cpu(), &weights);
            heads(group, &mut cpu(), &weights);
            norms(group, &mut cpu());
            attention(group, &mut cpu(), random);
        }
    }
}

/// Random bytes, made once.
struct Material {
    codes: Bytes,  // without the code 3
    halves: Bytes, // finite
}

impl Material {
    fn new(random: &mut Xoshiro256PlusPlus) -> Self {
        let mut bytes = vec![0u8; COLD_BYTES];
        let mut halves = vec![0u8; VOCABULARY * WIDTH * 2];
        random.fill_bytes(&mut bytes);
        random.fill_bytes(&mut halves);
        // A bit pair 11 becomes 10.
        bytes.iter_mut().for_each(|byte| *byte &= !(*byte >> 1 & 0x55));
        // No exponent of 1s: below 2 in size.
        halves.as_chunks_mut::<2>().0.iter_mut().for_each(|half| half[1] &= 0xbf);
        Self { codes: bytes.into(), halves: halves.into() }
    }

    /// The `place`th matrix of this shape, with scales as rows of these numerics meet them: one, or of each 128 columns.
    fn ternary(&self, cpu: &mut Cpu, rows: usize, cols: usize, numerics: Numerics, place: usize) -> Matrix {
        let bytes = rows * cols / 4;
        let codes = self.codes.slice(place * bytes..(place + 1) * bytes);
        let scales = match numerics {
            Numerics::Int8Groups => {
                let values = (0..rows * cols / 128).map(|i| (1 + i % 7) as f32 / 1024.0).collect();
                Scales::Groups { columns: 128, values }
            }
            _ => Scales::Tensor(1.0),
        };
        matrix(cpu, Weights::Ternary(Ternary::new(rows, cols, codes, scales).expect("whole blocks")))
    }
}

fn matrix(cpu: &mut Cpu, weights: Weights) -> Matrix {
    cpu.matrix(&[weights]).expect("rows of usual length")
}

/// A step of consecutive positions that end with `last`.
fn step(rows: usize, last: usize) -> Vec<Row> {
    (last + 1 - rows..=last).map(|p| Row { sequence: 0, position: p as u32, wants_logits: true }).collect()
}

/// What `rows` rows of `cols` look like after quantising.
fn quantized(cpu: &mut Cpu, rows: usize, cols: usize, numerics: Numerics) -> <Cpu as Storage>::Quantized {
    let mut q = cpu.quantized(rows, cols, numerics).expect("memory");
    let values: Vec<i8> = (0..rows * cols).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let scales = if numerics == Numerics::Int8Groups { rows * cols / 128 } else { rows };
    cpu.write_quantized(&mut q, &values, &vec![1.0; scales]);
    q
}

/// Decoding: one row against the same matrix again and again, and against many in turn.
fn one_row(group: &mut Group, cpu: &mut Cpu, weights: &Material) {
    for (numerics, name) in [(Numerics::Int8Rows, "one row"), (Numerics::Int8Groups, "one row of groups")] {
        for (rows, cols) in [(FFN_WIDTH, WIDTH), (WIDTH, FFN_WIDTH)] {
            let (mut out, x) = (cpu.tensor(1, rows).expect("memory"), quantized(cpu, 1, cols, numerics));
            cpu.begin(&step(1, 0));
            for (place, count) in [("cached", 1), ("from memory", COLD_BYTES / (rows * cols / 4))] {
                let matrices: Vec<Matrix> =
                    (0..count).map(|place| weights.ternary(cpu, rows, cols, numerics, place)).collect();
                let mut turns = matrices.iter().cycle();
                let (name, size) = (format!("{name}, {place}"), format_args!("{rows}x{cols}"));
                // Of codes: scales of groups, as files have them, are a sixteenth more.
                group.case(&name, size, Amount::Bytes(rows * cols / 4), || {
                    cpu.matmul(&mut out, turns.next().expect("a circle"), &x);
                });
            }
        }
    }
}

/// Prompts and batches: several rows against weights from memory, as a step meets them.
fn many_rows(group: &mut Group, cpu: &mut Cpu, weights: &Material) {
    let count = COLD_BYTES / (FFN_WIDTH * WIDTH / 4);
    let matrices: Vec<Matrix> =
        (0..count).map(|place| weights.ternary(cpu, FFN_WIDTH, WIDTH, Numerics::Int8Rows, place)).collect();
    for rows in ROWS {
        let (mut out, x) =
            (cpu.tensor(rows, FFN_WIDTH).expect("memory"), quantized(cpu, rows, WIDTH, Numerics::Int8Rows));
        cpu.begin(&step(rows, rows));
        let mut turns = matrices.iter().cycle();
        group.case("many rows, 6912x2560", rows, Amount::Count(rows * FFN_WIDTH * WIDTH), || {
            cpu.matmul(&mut out, turns.next().expect("a circle"), &x);
        });
    }
}

/// The head, in the number format of the published files and in int8.
fn heads(group: &mut Group, cpu: &mut Cpu, weights: &Material) {
    let codes = weights.halves.slice(..VOCABULARY * WIDTH);
    let scales = vec![0.01; VOCABULARY * (WIDTH / 32)];
    let int8 = Values::Int8 { columns: 32, codes, scales };
    for (name, values, bits) in [("f16", Values::F16(weights.halves.clone()), 16), ("int8", int8, 9)] {
        let head = matrix(cpu, Weights::Dense(Dense::new(VOCABULARY, WIDTH, values).expect("it fits")));
        for rows in [1, 4] {
            let (mut out, mut x) =
                (cpu.tensor(rows, VOCABULARY).expect("memory"), cpu.tensor(rows, WIDTH).expect("memory"));
            cpu.write_tensor(&mut x, &vec![0.5; rows * WIDTH]);
            cpu.begin(&step(rows, rows));
            group.case(&format!("head, {name}"), rows, Amount::Bytes(VOCABULARY * WIDTH * bits / 8), || {
                cpu.logits(&mut out, &head, &x);
            });
        }
    }
}

fn norms(group: &mut Group, cpu: &mut Cpu) {
    for cols in [WIDTH, FFN_WIDTH] {
        let (mut out, x) = (
            cpu.quantized(1, cols, Numerics::Int8Rows).expect("memory"),
            cpu.parameter(&vec![0.5; cols]).expect("memory"),
        );
        cpu.begin(&step(1, 0));
        group.case("norm_quantize", cols, Amount::Count(cols), || cpu.norm_quantize(&mut out, &x, &x, 1e-5));
    }
}

/// Attention of one row over caches in turn, as the layers of a model have them.
fn attention(group: &mut Group, cpu: &mut Cpu, random: &mut Xoshiro256PlusPlus) {
    let Heads { kv_heads, head_dim, .. } = HEADS;
    for positions in POSITIONS {
        let shape =
            CacheShape { slots: 1, positions, kv_heads, head_dim, precision: CachePrecision::F16, window: None };
        let cache_bytes = shape.bytes().expect("small");
        let count = COLD_BYTES / 2 / cache_bytes;
        let mut qkv = cpu.tensor(positions, HEADS.qkv_cols()).expect("memory");
        let values: Vec<f32> =
            (0..positions * HEADS.qkv_cols()).map(|_| random.next_u32() as i32 as f32 / 2f32.powi(31)).collect();
        cpu.write_tensor(&mut qkv, &values);
        let mut rotations = cpu.tensor(positions, 2).expect("memory");
        cpu.write_tensor(&mut rotations, &[1.0, 0.0].repeat(positions));
        cpu.begin(&step(positions, positions - 1));
        let filled = |_| {
            let mut cache = cpu.cache(shape).expect("memory");
            cpu.rope_append(&mut qkv, &mut cache, Rotary::plain(&rotations, RopePairs::Half), HEADS);
            cache
        };
        let caches: Vec<_> = (0..count).map(filled).collect();
        let mut out = cpu.tensor(1, HEADS.query_cols()).expect("memory");
        cpu.begin(&step(1, positions - 1));
        let mut turns = caches.iter().cycle();
        group.case("attend", positions, Amount::Bytes(cache_bytes), || {
            cpu.attend(&mut out, &qkv, turns.next().expect("a circle"), HEADS);
        });
    }
}
