//! The CPU backend against the reference, verb by verb: with every kernel set that this CPU has, on one, two and three
//! threads. Integers are compared exactly; floats with a tolerance that is named and explained.

use sterna::backend::{Activation, Backend, CachePrecision, CacheShape, Heads, Rope, RopePairs, Row};
use sterna::cpu::{Cpu, CpuOptions, KernelSet};
use sterna::format::Weights;
use sterna::format::dense::{Dense, Values};
use sterna::format::ternary::{Scales, Ternary};
use sterna::reference::Reference;

/// Sums of up to some thousand f32 products in a few lanes each: about the root of their number in roundings of 6e-8.
const FLOAT_SUM: f32 = 1e-5;
/// A handful of f32 operations after an exact integer sum.
const SCALED_SUM: f32 = 1e-6;

/// Step sizes around every tile size of the kernels.
const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 7, 8, 17, 33];

/// One test for each thread count; each runs its body with every kernel set.
macro_rules! on_every_cpu {
    ($($claim:ident)*) => {$(
        mod $claim {
            #[test]
            fn one_thread() { super::with_every_kernel_set(1, super::$claim) }
            #[test]
            fn two_threads() { super::with_every_kernel_set(2, super::$claim) }
            #[test]
            fn three_threads() { super::with_every_kernel_set(3, super::$claim) }
        }
    )*};
}

on_every_cpu! {
    integer_sums_are_exact
    integer_sums_are_exact_at_the_extremes
    code_three_counts_as_two
    many_rows_are_exact_at_the_extremes
    many_rows_meet_a_single_code_three
    long_rows_do_not_overflow
    products_apply_every_kind_of_scale
    stacked_parts_keep_their_own_scales
    matmul_add_adds
    quantize_rounds_half_to_even_as_the_reference
    quantize_survives_what_is_not_finite
    norm_quantize_is_the_norm_and_then_the_quantizer
    norm_selected_packs_the_rows_that_want_logits
    embed_looks_up_every_kind_of_table
    logits_multiply_every_kind_of_head
    argmax_is_the_first_of_equals
    rotations_are_exact
    glu_applies_both_activations
    attention_reads_what_was_appended
    long_contexts_keep_their_precision
    a_step_equals_its_rows_one_by_one
    results_do_not_depend_on_threads
    the_golden_kernels_agree
}

fn cpu(threads: usize, kernels: KernelSet) -> Cpu {
    let cpu =
        Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels), ..CpuOptions::default() }).unwrap();
    assert_eq!((cpu.threads(), cpu.kernels()), (threads, kernels));
    cpu
}

fn with_every_kernel_set(threads: usize, claim: fn(&mut Cpu)) {
    for kernels in KernelSet::available() {
        println!("{kernels} kernels, {threads} threads");
        claim(&mut cpu(threads, kernels));
    }
}

// Material.

/// A small generator (xorshift64*), so that a test is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn trits(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| (self.next() % 3) as i8 - 1).collect()
    }

    fn int8(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.next() as i8).collect()
    }

    /// In [-1, 1).
    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// In [0.01, 1.01).
    fn scales(&mut self, count: usize) -> Vec<f32> {
        self.floats(count).iter().map(|v| v * 0.5 + 0.51).collect()
    }
}

fn rows(count: usize) -> Vec<Row> {
    (0..count).map(|i| Row { sequence: 0, position: i as u32, wants_logits: true }).collect()
}

/// A tensor of as many rows as fit `values`.
fn tensor<B: Backend>(backend: &mut B, cols: usize, values: &[f32]) -> B::Tensor {
    let mut tensor = backend.tensor(values.len() / cols, cols).unwrap();
    backend.write_tensor(&mut tensor, values);
    tensor
}

fn read<B: Backend>(backend: &mut B, tensor: &B::Tensor, count: usize) -> Vec<f32> {
    let mut values = vec![0.0; count];
    backend.read_tensor(tensor, &mut values).unwrap();
    values
}

/// Runs a verb on an output of one row more than the step, poisoned with NaN, and checks that this row stays NaN.
fn poisoned<B: Backend>(
    backend: &mut B,
    rows: usize,
    cols: usize,
    verb: impl FnOnce(&mut B, &mut B::Tensor),
) -> Vec<f32> {
    let mut out = tensor(backend, cols, &vec![f32::NAN; (rows + 1) * cols]);
    verb(backend, &mut out);
    let mut values = read(backend, &out, (rows + 1) * cols);
    assert!(values[rows * cols..].iter().all(|v| v.is_nan()), "a row beyond the step was written");
    values.truncate(rows * cols);
    assert!(values.iter().all(|v| !v.is_nan()), "not everything was written");
    values
}

/// Like [`poisoned`], for int8: the values and multipliers of the step's rows.
fn poisoned_int8<B: Backend>(
    backend: &mut B,
    rows: usize,
    cols: usize,
    verb: impl FnOnce(&mut B, &mut B::Quantized),
) -> (Vec<i8>, Vec<f32>) {
    let mut out = backend.quantized(rows + 1, cols).unwrap();
    backend.write_quantized(&mut out, &vec![-77; (rows + 1) * cols], &vec![f32::NAN; rows + 1]);
    verb(backend, &mut out);
    let (mut values, mut scales) = (vec![0; (rows + 1) * cols], vec![0.0; rows + 1]);
    backend.read_quantized(&out, &mut values, &mut scales).unwrap();
    assert!(values[rows * cols..].iter().all(|&v| v == -77) && scales[rows].is_nan(), "a row beyond was written");
    values.truncate(rows * cols);
    scales.truncate(rows);
    (values, scales)
}

/// `x wᵀ` of a whole step.
fn product<B: Backend>(b: &mut B, parts: &[Weights], x: &[i8], scales: &[f32]) -> Vec<f32> {
    let (count, cols) = (scales.len(), parts[0].cols());
    let outputs = parts.iter().map(Weights::rows).sum();
    let w = b.matrix(parts).unwrap();
    let mut q = b.quantized(count, cols).unwrap();
    b.write_quantized(&mut q, x, scales);
    b.begin(&rows(count));
    poisoned(b, count, outputs, |b, out| b.matmul(out, &w, &q))
}

/// Each value within `tolerance` of the other, relative to the largest of all.
#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len());
    let largest = theirs.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "place {i}: {a} is not {b} (largest {largest})");
    }
}

#[track_caller]
fn assert_same_bits(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "place {i}: {a} is not {b}");
    }
}

fn pack(rows: usize, cols: usize, trits: &[i8], scales: Scales) -> Weights {
    Weights::Ternary(Ternary::pack(rows, cols, trits, scales).unwrap())
}

// Products.

fn exact_sums(trits: &[i8], x: &[i8], cols: usize) -> Vec<f32> {
    let dot = |w: &[i8], x: &[i8]| w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>();
    let sums = x.chunks(cols).flat_map(|x| trits.chunks(cols).map(move |w| dot(w, x)));
    // Exact: every sum here is below 2^24.
    sums.map(|sum| sum as f32).collect()
}

fn integer_sums_are_exact(cpu: &mut Cpu) {
    let random = &mut Random(1);
    for (cols, outputs) in
        [(96, 67), (128, 1), (128, 130), (192, 5), (256, 33), (640, 9), (2560, 7), (2560, 130), (6912, 6), (13824, 5)]
    {
        for count in ROWS {
            let (trits, x) = (random.trits(outputs * cols), random.int8(count * cols));
            let out = product(cpu, &[pack(outputs, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
            assert_same_bits(&out, &exact_sums(&trits, &x, cols));
        }
    }
}

fn integer_sums_are_exact_at_the_extremes(cpu: &mut Cpu) {
    for cols in [96, 128, 1280, 1408, 2560, 2688, 6912, 13824, 65536] {
        for (trit, activation) in [(1, 127), (-1, -128), (1, -128), (-1, 127), (0, 127), (0, -128)] {
            for count in [1, 2, 3, 4, 8, 9] {
                let (trits, x) = (vec![trit; 5 * cols], vec![activation; count * cols]);
                let out = product(cpu, &[pack(5, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
                let sum = i32::from(trit) * i32::from(activation) * cols as i32;
                assert_same_bits(&out, &vec![sum as f32; 5 * count]);
            }
        }
    }
}

fn code_three_counts_as_two(cpu: &mut Cpu) {
    for cols in [128, 1280, 2560, 2688, 13824] {
        for activation in [127i8, -128] {
            for count in [1, 4, 8] {
                let codes = vec![0xff; 3 * cols / 4];
                let w = Ternary::new(3, cols, codes.into(), Scales::Tensor(1.0)).unwrap();
                let out = product(cpu, &[Weights::Ternary(w)], &vec![activation; count * cols], &vec![1.0; count]);
                assert_same_bits(&out, &vec![(2 * i32::from(activation) * cols as i32) as f32; 3 * count]);
            }
        }
    }
}

/// Enough weight rows and activation rows that kernel sets take their way for many, in whole tiles and beside.
fn many_rows_are_exact_at_the_extremes(cpu: &mut Cpu) {
    let outputs = 130;
    for cols in [96, 128, 2560, 6912] {
        for (trit, activation) in [(1, 127), (-1, -128), (1, -128), (-1, 127)] {
            for count in [15, 16, 35] {
                let (trits, x) = (vec![trit; outputs * cols], vec![activation; count * cols]);
                let out = product(cpu, &[pack(outputs, cols, &trits, Scales::Tensor(1.0))], &x, &vec![1.0; count]);
                let sum = i32::from(trit) * i32::from(activation) * cols as i32;
                assert_same_bits(&out, &vec![sum as f32; outputs * count]);
            }
        }
    }
}

fn many_rows_meet_a_single_code_three(cpu: &mut Cpu) {
    let (outputs, cols, count) = (300, 384, 20);
    for (byte, col) in [(0xc0u8, 0), (0x30, 32), (0x0c, 64), (0x03, 96)] {
        // Everything else is -1, code 0; the byte lies in the last block of a row in the middle.
        let mut codes = vec![0; outputs * cols / 4];
        codes[201 * cols / 4 + 64] = byte;
        let w = Ternary::new(outputs, cols, codes.into(), Scales::Tensor(1.0)).unwrap();
        let x = Random(7).int8(count * cols);
        let mut expected = exact_sums(&vec![-1; outputs * cols], &x, cols);
        for (row, x) in x.chunks(cols).enumerate() {
            expected[row * outputs + 201] += 3.0 * f32::from(x[256 + col]);
        }
        let out = product(cpu, &[Weights::Ternary(w)], &x, &vec![1.0; count]);
        assert_same_bits(&out, &expected);
    }
}

fn long_rows_do_not_overflow(cpu: &mut Cpu) {
    let cols = 1 << 20;
    for (code, activation) in [(0xffu8, -128i8), (0xff, 127), (0x00, -128), (0xaa, 127)] {
        let w = Ternary::new(1, cols, vec![code; cols / 4].into(), Scales::Tensor(1.0)).unwrap();
        let sum = (i64::from(code & 3) - 1) * i64::from(activation) * cols as i64;
        for count in [1, 2] {
            let out = product(cpu, &[Weights::Ternary(w.clone())], &vec![activation; count * cols], &vec![1.0; count]);
            assert_same_bits(&out, &vec![sum as f32; count]);
        }
    }
}

fn every_kind_of_scale(random: &mut Random, outputs: usize, cols: usize) -> Vec<Scales> {
    let mut kinds = vec![
        Scales::Tensor(random.scales(1)[0]),
        Scales::Rows(random.scales(outputs)),
        Scales::RowRanges(vec![(1, 0.5), (outputs / 2, 0.25), (outputs, 3.0)]),
    ];
    for columns in [128, 256, 1024] {
        let values = random.scales(outputs * cols.div_ceil(columns));
        kinds.push(Scales::Groups { columns, values });
    }
    kinds
}

fn products_apply_every_kind_of_scale(cpu: &mut Cpu) {
    let random = &mut Random(2);
    for (cols, outputs) in [(96, 9), (128, 70), (192, 5), (640, 130), (2560, 9), (13824, 4)] {
        for scales in every_kind_of_scale(random, outputs, cols) {
            let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
            for count in [1, 3, 8, 17] {
                let (x, factors) = (random.int8(count * cols), random.scales(count));
                let theirs = product(&mut Reference::default(), &weights, &x, &factors);
                assert_close(&product(cpu, &weights, &x, &factors), &theirs, SCALED_SUM);
            }
        }
    }
}

fn stacked_parts_keep_their_own_scales(cpu: &mut Cpu) {
    let random = &mut Random(3);
    for cols in [96, 256, 2560] {
        let mut parts = vec![pack(200, cols, &random.trits(200 * cols), Scales::Tensor(7.0))];
        for scales in every_kind_of_scale(random, 5, cols) {
            parts.push(pack(5, cols, &random.trits(5 * cols), scales));
        }
        for count in [1, 5] {
            let (x, factors) = (random.int8(count * cols), random.scales(count));
            let theirs = product(&mut Reference::default(), &parts, &x, &factors);
            assert_close(&product(cpu, &parts, &x, &factors), &theirs, SCALED_SUM);
        }
    }
}

fn matmul_add_adds(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, weights: &Weights, x: &[i8], before: &[f32], count: usize) -> Vec<f32> {
        let w = b.matrix(std::slice::from_ref(weights)).unwrap();
        let mut q = b.quantized(count, weights.cols()).unwrap();
        b.write_quantized(&mut q, x, &vec![2.0; count]);
        b.begin(&rows(count));
        poisoned(b, count, weights.rows(), |b, out| {
            b.write_tensor(out, before);
            b.matmul_add(out, &w, &q);
        })
    }
    let random = &mut Random(4);
    let (outputs, cols) = (133, 640);
    for count in ROWS {
        let weights = pack(outputs, cols, &random.trits(outputs * cols), Scales::Tensor(0.5));
        let (x, before) = (random.int8(count * cols), random.floats(count * outputs));
        let theirs = run(&mut Reference::default(), &weights, &x, &before, count);
        assert_close(&run(cpu, &weights, &x, &before, count), &theirs, SCALED_SUM);
    }
}

// Quantising and norms.

fn quantized<B: Backend>(b: &mut B, cols: usize, x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let x_tensor = tensor(b, cols, x);
    b.begin(&rows(x.len() / cols));
    poisoned_int8(b, x.len() / cols, cols, |b, out| b.quantize(out, &x_tensor))
}

fn quantize_rounds_half_to_even_as_the_reference(cpu: &mut Cpu) {
    let random = &mut Random(5);
    for cols in [96, 128, 131, 2560, 6912] {
        let mut x = random.floats(7 * cols);
        x[..cols].fill(0.0);
        x[cols..2 * cols].iter_mut().for_each(|v| *v *= 1e-7);
        x[2 * cols..3 * cols].iter_mut().for_each(|v| *v *= 1e30);
        // Ties: multiples of one half, with a scale of exactly 1.
        x[3 * cols..4 * cols].iter_mut().for_each(|v| *v = (*v * 254.0).round() / 2.0);
        x[3 * cols] = -127.0;
        let (ours, theirs) = (quantized(cpu, cols, &x), quantized(&mut Reference::default(), cols, &x));
        assert_eq!(ours.0, theirs.0);
        assert_same_bits(&ours.1, &theirs.1);
    }
}

fn quantize_survives_what_is_not_finite(cpu: &mut Cpu) {
    let cols = 200;
    let mut x = Random(6).floats(4 * cols);
    x[17] = f32::NAN;
    x[cols + 199] = f32::INFINITY;
    x[2 * cols + 3] = f32::NEG_INFINITY;
    x[3 * cols..].fill(f32::NAN);
    let (ours, theirs) = (quantized(cpu, cols, &x), quantized(&mut Reference::default(), cols, &x));
    assert_eq!(ours.0, theirs.0);
    assert_same_bits(&ours.1, &theirs.1);
}

fn norm_quantize_is_the_norm_and_then_the_quantizer(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, cols: usize, x: &[f32], gain: &[f32]) -> (Vec<i8>, Vec<f32>) {
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        b.begin(&rows(x.len() / cols));
        poisoned_int8(b, x.len() / cols, cols, |b, out| b.norm_quantize(out, &x_tensor, &gain, 1e-5))
    }
    let random = &mut Random(7);
    for cols in [96, 131, 640, 2560, 6912] {
        let (x, gain) = (random.floats(17 * cols), random.floats(cols));
        let (ours, theirs) = (run(cpu, cols, &x, &gain), run(&mut Reference::default(), cols, &x, &gain));
        // A value next to a tie may round the other way, by one.
        let moved = ours.0.iter().zip(&theirs.0).filter(|(a, b)| a != b).count();
        assert!(ours.0.iter().zip(&theirs.0).all(|(a, b)| a.abs_diff(*b) <= 1) && moved <= cols / 200 + 1, "{moved}");
        assert_close(&ours.1, &theirs.1, FLOAT_SUM);
    }
}

fn norm_selected_packs_the_rows_that_want_logits(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, cols: usize, step: &[Row], x: &[f32], gain: &[f32]) -> Vec<f32> {
        let (x_tensor, gain) = (tensor(b, cols, x), b.parameter(gain).unwrap());
        let selected = step.iter().filter(|row| row.wants_logits).count();
        b.begin(step);
        poisoned(b, selected, cols, |b, out| b.norm_selected(out, &x_tensor, &gain, 1e-6))
    }
    let random = &mut Random(8);
    for (cols, count) in [(96, 1), (131, 5), (2560, 33)] {
        let mut step = rows(count);
        step.iter_mut().enumerate().for_each(|(i, row)| row.wants_logits = i % 3 != 1);
        let (x, gain) = (random.floats(count * cols), random.floats(cols));
        let theirs = run(&mut Reference::default(), cols, &step, &x, &gain);
        assert_close(&run(cpu, cols, &step, &x, &gain), &theirs, FLOAT_SUM);
    }
}

// Embedding and head.

fn every_kind_of_dense(random: &mut Random, rows: usize, cols: usize) -> Vec<Dense> {
    let floats = random.floats(rows * cols);
    let bytes = |f: &dyn Fn(&f32) -> Vec<u8>| bytes::Bytes::from(floats.iter().flat_map(f).collect::<Vec<u8>>());
    let mut kinds = vec![
        Values::F32(bytes(&|v| v.to_le_bytes().into())),
        Values::F16(bytes(&|v| half::f16::from_f32(*v).to_le_bytes().into())),
        Values::Bf16(bytes(&|v| half::bf16::from_f32(*v).to_le_bytes().into())),
        // Bytes of a file may lie anywhere.
        Values::F16({
            let mut moved = vec![0];
            moved.extend(floats.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()));
            bytes::Bytes::from(moved).slice(1..)
        }),
    ];
    let codes: Vec<u8> = random.int8(rows * cols).iter().map(|&v| v as u8).collect();
    for columns in [cols, 4, 16, 32, 24, 1].into_iter().filter(|columns| cols.is_multiple_of(*columns)) {
        let scales = random.scales(rows * (cols / columns));
        kinds.push(Values::Int8 { columns, codes: codes.clone().into(), scales });
    }
    kinds.into_iter().map(|values| Dense::new(rows, cols, values).unwrap()).collect()
}

fn embed_looks_up_every_kind_of_table(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, table: &[Weights], ids: &[u32]) -> Vec<f32> {
        let w = b.matrix(table).unwrap();
        let mut tokens = b.tokens(ids.len() + 2).unwrap();
        b.write_tokens(&mut tokens, ids);
        b.begin(&rows(ids.len()));
        poisoned(b, ids.len(), table[0].cols(), |b, out| b.embed(out, &w, &tokens))
    }
    let random = &mut Random(9);
    for cols in [96, 640] {
        let mut tables: Vec<Weights> = every_kind_of_dense(random, 50, cols).into_iter().map(Weights::Dense).collect();
        for scales in every_kind_of_scale(random, 50, cols) {
            tables.push(pack(50, cols, &random.trits(50 * cols), scales));
        }
        for table in tables {
            for count in [1, 40] {
                let ids: Vec<u32> = (0..count).map(|i| (i * 29 + 99) % 100).collect();
                let parts = [table.clone(), table.clone()];
                assert_same_bits(&run(cpu, &parts, &ids), &run(&mut Reference::default(), &parts, &ids));
            }
        }
    }
}

fn logits_of<B: Backend>(b: &mut B, head: &[Weights], x: &[f32]) -> Vec<f32> {
    let cols = head[0].cols();
    let (w, x_tensor) = (b.matrix(head).unwrap(), tensor(b, cols, x));
    // Every other row of the step wants logits.
    let mut step = rows(2 * (x.len() / cols));
    step.iter_mut().for_each(|row| row.wants_logits = row.position % 2 == 0);
    b.begin(&step);
    let outputs = head.iter().map(Weights::rows).sum();
    poisoned(b, x.len() / cols, outputs, |b, out| b.logits(out, &w, &x_tensor))
}

fn logits_multiply_every_kind_of_head(cpu: &mut Cpu) {
    let random = &mut Random(10);
    for cols in [96, 128, 135, 200, 2560] {
        let heads = every_kind_of_dense(random, 301, cols);
        for head in heads {
            for count in [1, 2, 3, 5, 8, 9] {
                let x = random.floats(count * cols);
                let parts = [Weights::Dense(head.clone())];
                let theirs = logits_of(&mut Reference::default(), &parts, &x);
                assert_close(&logits_of(cpu, &parts, &x), &theirs, FLOAT_SUM);
            }
        }
    }
}

fn argmax_is_the_first_of_equals(cpu: &mut Cpu) {
    let cols = 1003;
    let nan = f32::NAN;
    let mut logits = Random(11).floats(6 * cols);
    logits[cols + 700] = 2.0;
    logits[cols + 300] = 2.0;
    logits[2 * cols..3 * cols].fill(nan);
    logits[3 * cols] = nan;
    logits[4 * cols + 5] = nan;
    logits[5 * cols..].fill(f32::NEG_INFINITY);
    fn argmax<B: Backend>(b: &mut B, cols: usize, logits: &[f32]) -> Vec<u32> {
        let count = logits.len() / cols;
        let (mut tokens, logits) = (b.tokens(count + 1).unwrap(), tensor(b, cols, logits));
        b.begin(&rows(count));
        b.argmax(&mut tokens, &logits);
        let mut ids = vec![0; count + 1];
        b.read_tokens(&tokens, &mut ids).unwrap();
        assert_eq!(ids.pop(), Some(u32::MAX), "nothing is written beyond the selected rows");
        ids
    }
    let ours = argmax(cpu, cols, &logits);
    assert_eq!(ours, argmax(&mut Reference::default(), cols, &logits));
    assert_eq!((ours[1], ours[2], ours[5]), (300, 0, 0));
}

// Attention and the rest.

fn rope(pairs: RopePairs, count: usize, head_dim: usize) -> Rope {
    let frequencies = (0..count).map(|i| 500_000f64.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    Rope { pairs, frequencies }
}

fn rotations_are_exact(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, step: &[Row], rope: &Rope) -> Vec<f32> {
        b.begin(step);
        poisoned(b, step.len(), 2 * rope.frequencies.len(), |b, out| b.rotations(out, rope))
    }
    let mut step = rows(300);
    step.iter_mut().for_each(|row| row.position *= 431);
    let rope = rope(RopePairs::Half, 64, 128);
    assert_same_bits(&run(cpu, &step, &rope), &run(&mut Reference::default(), &step, &rope));
}

fn glu_applies_both_activations(cpu: &mut Cpu) {
    fn run<B: Backend>(b: &mut B, cols: usize, gate_up: &[f32], activation: Activation) -> Vec<f32> {
        let gate_up_tensor = tensor(b, 2 * cols, gate_up);
        let count = gate_up.len() / (2 * cols);
        b.begin(&rows(count));
        poisoned(b, count, cols, |b, out| b.glu(out, &gate_up_tensor, activation))
    }
    let random = &mut Random(12);
    for (cols, count) in [(96, 1), (131, 3), (6912, 5)] {
        for size in [1.0, 20.0, 300.0] {
            let gate_up: Vec<f32> = random.floats(count * 2 * cols).iter().map(|v| v * size).collect();
            for activation in [Activation::SquaredRelu, Activation::Silu] {
                let theirs = run(&mut Reference::default(), cols, &gate_up, activation);
                assert_close(&run(cpu, cols, &gate_up, activation), &theirs, SCALED_SUM);
            }
        }
    }
}

/// Several steps of several sequences through one cache: the outputs of all, and the `qkv` after rotation.
struct Attention {
    heads: Heads,
    rope: Rope,
    shape: CacheShape,
    steps: Vec<Vec<Row>>,
    qkv: Vec<Vec<f32>>, // of each step
}

impl Attention {
    fn run<B: Backend>(&self, b: &mut B) -> Vec<Vec<f32>> {
        let mut cache = b.cache(self.shape).unwrap();
        let mut outputs = Vec::new();
        for (step, qkv) in self.steps.iter().zip(&self.qkv) {
            let count = step.len();
            let mut rotations = b.tensor(count, 2 * self.rope.frequencies.len()).unwrap();
            b.begin(step);
            b.rotations(&mut rotations, &self.rope);
            let mut qkv = tensor(b, self.heads.qkv_cols(), qkv);
            b.rope_append(&mut qkv, &mut cache, &rotations, self.heads, self.rope.pairs);
            let out = poisoned(b, count, self.heads.query_cols(), |b, out| b.attend(out, &qkv, &cache, self.heads));
            outputs.push(out);
            let mut queries = read(b, &qkv, count * self.heads.qkv_cols());
            // What becomes of keys and values in `qkv` is the backend's business.
            queries.chunks_mut(self.heads.qkv_cols()).for_each(|row| row[self.heads.query_cols()..].fill(0.0));
            outputs.push(queries);
        }
        outputs
    }
}

/// A ragged batch: prompts of different lengths in different slots, then single tokens of all, then both mixed.
fn ragged(random: &mut Random, heads: Heads, rope: Rope, precision: CachePrecision) -> Attention {
    let run = |sequence, begin, end| (begin..end).map(move |p| Row { sequence, position: p, wants_logits: true });
    let steps: Vec<Vec<Row>> = vec![
        run(2, 0, 33).collect(),
        run(0, 0, 1).collect(),
        run(1, 0, 7).chain(run(2, 33, 34)).chain(run(0, 1, 2)).collect(),
        run(0, 2, 3).chain(run(1, 7, 8)).chain(run(2, 34, 35)).collect(),
        run(2, 35, 100).collect(),
        // A slot is used again from the start.
        run(1, 0, 5).chain(run(2, 100, 150)).collect(),
    ];
    let qkv = steps.iter().map(|step| random.floats(step.len() * heads.qkv_cols())).collect();
    let shape = CacheShape { slots: 3, positions: 150, kv_heads: heads.kv_heads, head_dim: heads.head_dim, precision };
    Attention { heads, rope, shape, steps, qkv }
}

fn some_heads() -> [Heads; 7] {
    [(1, 1, 64), (4, 2, 64), (6, 2, 80), (20, 5, 128), (3, 3, 100), (18, 2, 36), (2, 1, 6)]
        .map(|(heads, kv_heads, head_dim)| Heads { heads, kv_heads, head_dim })
}

fn attention_reads_what_was_appended(cpu: &mut Cpu) {
    let random = &mut Random(13);
    for heads in some_heads() {
        for precision in [CachePrecision::F16, CachePrecision::F32] {
            for pairs in [RopePairs::Half, RopePairs::Interleaved] {
                // All features turned, and only some.
                for turned in [heads.head_dim / 2, heads.head_dim / 3] {
                    let case = ragged(random, heads, rope(pairs, turned, heads.head_dim), precision);
                    for (ours, theirs) in case.run(cpu).iter().zip(case.run(&mut Reference::default())) {
                        assert_close(ours, &theirs, FLOAT_SUM);
                    }
                }
            }
        }
    }
}

fn long_contexts_keep_their_precision(cpu: &mut Cpu) {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 64 };
    let prompt: Vec<Row> = (0..1500).map(|p| Row { sequence: 0, position: p, wants_logits: false }).collect();
    let mut qkv = Random(14).floats(1501 * heads.qkv_cols());
    // Scores that grow along the way, so that sums are scaled down again and again.
    for (position, row) in qkv.chunks_mut(heads.qkv_cols()).enumerate() {
        row[heads.query_cols()..][..heads.head_dim].iter_mut().for_each(|k| *k *= 1.0 + position as f32 / 100.0);
    }
    let last = qkv.split_off(1500 * heads.qkv_cols());
    let shape = CacheShape { slots: 1, positions: 2048, kv_heads: 1, head_dim: 64, precision: CachePrecision::F32 };
    let rope = rope(RopePairs::Half, 32, 64);
    let steps = vec![prompt, vec![Row { sequence: 0, position: 1500, wants_logits: true }]];
    let case = Attention { heads, rope, shape, steps, qkv: vec![qkv, last] };
    let (ours, theirs) = (case.run(cpu), case.run(&mut Reference::default()));
    assert_close(&ours[2], &theirs[2], 5e-5); // scores reach 100, so an f32 score is off by up to 1e-5
}

// What holds between runs.

/// Everything that adds floats, in a step of all rows at once: the bits that must not change.
fn all_float_verbs(cpu: &mut Cpu, chunks: &[usize]) -> Vec<f32> {
    let random = &mut Random(15);
    let total: usize = chunks.iter().sum();
    let heads = Heads { heads: 6, kv_heads: 2, head_dim: 100 };
    let cols = heads.query_cols();
    let (x, gain) = (random.floats(total * cols), random.floats(cols));
    let groups = Scales::Groups { columns: 128, values: random.scales(heads.qkv_cols() * cols.div_ceil(128)) };
    let w = cpu.matrix(&[pack(heads.qkv_cols(), cols, &random.trits(heads.qkv_cols() * cols), groups)]).unwrap();
    let head = cpu.matrix(&[Weights::Dense(every_kind_of_dense(random, 97, cols).swap_remove(1))]).unwrap();
    let gain = cpu.parameter(&gain).unwrap();
    let shape = CacheShape { slots: 1, positions: total, kv_heads: 2, head_dim: 100, precision: CachePrecision::F16 };
    let (mut cache, rope) = (cpu.cache(shape).unwrap(), rope(RopePairs::Half, 50, 100));
    let mut collected = vec![Vec::new(); 5];
    let mut begin = 0;
    for &count in chunks {
        let step = &rows(total)[begin..begin + count];
        let x = tensor(cpu, cols, &x[begin * cols..(begin + count) * cols]);
        begin += count;
        cpu.begin(step);
        let mut q = cpu.quantized(count, cols).unwrap();
        cpu.norm_quantize(&mut q, &x, &gain, 1e-5);
        let mut qkv = cpu.tensor(count, heads.qkv_cols()).unwrap();
        cpu.matmul(&mut qkv, &w, &q);
        collected[0].extend(read(cpu, &qkv, count * heads.qkv_cols()));
        let mut rotations = cpu.tensor(count, 100).unwrap();
        cpu.rotations(&mut rotations, &rope);
        cpu.rope_append(&mut qkv, &mut cache, &rotations, heads, RopePairs::Half);
        collected[1].extend(poisoned(cpu, count, cols, |cpu, out| cpu.attend(out, &qkv, &cache, heads)));
        collected[2].extend(poisoned(cpu, count, cols, |cpu, out| cpu.norm_selected(out, &x, &gain, 1e-5)));
        collected[3].extend(poisoned(cpu, count, 97, |cpu, out| cpu.logits(out, &head, &x)));
        collected[4].extend(poisoned(cpu, count, cols / 2, |cpu, out| cpu.glu(out, &x, Activation::Silu)));
    }
    collected.concat()
}

fn a_step_equals_its_rows_one_by_one(cpu: &mut Cpu) {
    let at_once = all_float_verbs(cpu, &[75]);
    assert_same_bits(&all_float_verbs(cpu, &[1; 75]), &at_once);
    assert_same_bits(&all_float_verbs(cpu, &[2, 33, 7, 8, 4, 3, 17, 1]), &at_once);
}

fn results_do_not_depend_on_threads(cpu: &mut Cpu) {
    let alone = all_float_verbs(&mut self::cpu(1, cpu.kernels()), &[75]);
    assert_same_bits(&all_float_verbs(cpu, &[75]), &alone);
}

#[test]
fn integers_and_elementwise_floats_are_the_same_bits_in_every_kernel_set() {
    let random = &mut Random(16);
    let (cols, outputs, count) = (2560, 70, 5);
    let (x, factors) = (random.int8(count * cols), random.scales(count));
    for scales in every_kind_of_scale(random, outputs, cols) {
        let weights = [pack(outputs, cols, &random.trits(outputs * cols), scales)];
        let portable = product(&mut cpu(1, KernelSet::Portable), &weights, &x, &factors);
        for kernels in KernelSet::available() {
            assert_same_bits(&product(&mut cpu(1, kernels), &weights, &x, &factors), &portable);
        }
    }
}

// Numbers that another implementation wrote.

fn the_golden_kernels_agree(cpu: &mut Cpu) {
    let file = std::fs::read("tests/data/golden/kernels.safetensors").unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let bytes = |name: &str| file.tensor(name).unwrap().data().to_vec();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    let int8 = |name: &str| bytes(name).iter().map(|&b| b as i8).collect::<Vec<i8>>();
    let words = |name: &str| bytes(name).as_chunks().0.to_vec();
    let floats = |name: &str| words(name).into_iter().map(f32::from_le_bytes).collect::<Vec<f32>>();
    let int32 = |name: &str| words(name).into_iter().map(i32::from_le_bytes).collect::<Vec<i32>>();

    let mut cases = 0;
    for name in file.names().iter().filter_map(|name| name.strip_suffix(".w")).filter(|name| *name != "rms") {
        let [outputs, cols] = shape(&format!("{name}.w"))[..] else { panic!("{name} is no matrix") };
        let weights = pack(outputs, cols, &int8(&format!("{name}.w")), Scales::Tensor(1.0));
        let x = int8(&format!("{name}.x"));
        let out = product(cpu, &[weights], &x, &vec![1.0; x.len() / cols]);
        let sums: Vec<f32> = int32(&format!("{name}.y")).iter().map(|&sum| sum as f32).collect();
        assert_same_bits(&out, &sums);
        cases += 1;
    }
    assert_eq!(cases, 16);

    let (values, scales) = quantized(cpu, 256, &floats("actq.x"));
    assert_eq!(values, int8("actq.q"));
    assert_same_bits(&scales, &floats("actq.scale"));

    let (x, gain) = (tensor(cpu, 256, &floats("rms.x")), cpu.parameter(&floats("rms.w")).unwrap());
    cpu.begin(&rows(4));
    let out = poisoned(cpu, 4, 256, |cpu, out| cpu.norm_selected(out, &x, &gain, 1e-5));
    assert_close(&out, &floats("rms.y"), SCALED_SUM);
}

// Options and limits.

#[test]
fn options_out_of_range_are_refused() {
    for threads in [0, 1025, usize::MAX] {
        let options = CpuOptions { threads: Some(threads), ..CpuOptions::default() };
        assert!(matches!(Cpu::new(&options), Err(sterna::Error::Input(_))), "{threads} threads");
    }
}

#[test]
fn kernel_sets_have_names_and_portable_is_everywhere() {
    assert_eq!(KernelSet::available()[0], KernelSet::Portable);
    assert!(KernelSet::available().contains(&KernelSet::best()));
    for set in [KernelSet::Portable, KernelSet::Avx2, KernelSet::AvxVnni, KernelSet::Avx512Vnni] {
        assert_eq!(set.to_string().parse::<KernelSet>().unwrap(), set);
    }
    assert!(matches!("quantum".parse::<KernelSet>(), Err(sterna::Error::Input(_))));
}

#[test]
fn impossible_sizes_are_errors() {
    let mut cpu = cpu(1, KernelSet::Portable);
    for positions in [usize::MAX, usize::MAX / 512, 1 << 50] {
        let shape = CacheShape { slots: 2, positions, kv_heads: 1, head_dim: 128, precision: CachePrecision::F16 };
        assert!(matches!(cpu.cache(shape), Err(sterna::Error::Device(_))), "{positions} positions");
        assert!(matches!(cpu.tensor(positions, 128), Err(sterna::Error::Device(_))), "{positions} rows");
        assert!(matches!(cpu.quantized(positions, 128), Err(sterna::Error::Device(_))), "{positions} rows");
    }
}
