//! One head and some hidden vectors: the tokens that are chosen, and the bits of their logits.

use sterna::backend::{Backend, NO_TOKEN, Numerics, Row};
use sterna::cpu::{Cpu, CpuOptions, KernelSet, Screening};
use sterna::format::{Dense, Values, Weights};

use crate::material::{KINDS, Kind, Random, f16_head, hidden_of_trained};

fn cpu(kernels: KernelSet, threads: usize, screening: Screening) -> Cpu {
    Cpu::new(&CpuOptions { threads: Some(threads), kernels: Some(kernels), screening, ..CpuOptions::default() })
        .unwrap()
}

/// What a head tells at a step that has a screen: the best token, and the `count` best with the bits of their logits, of each row.
#[derive(Debug, PartialEq)]
pub struct Choice {
    pub best: Vec<u32>,
    pub tokens: Vec<u32>,
    pub logits: Vec<u32>,
}

/// With room for `most` candidates of each row.
pub fn choose<B: Backend>(b: &mut B, head: &Weights, hidden: &[f32], count: usize, most: usize) -> Choice {
    let selected = hidden.len() / head.cols();
    let rows: Vec<Row> = (0..selected as u32).map(|i| Row { sequence: 0, position: i, wants_logits: true }).collect();
    let mut matrix = b.matrix(std::slice::from_ref(head)).unwrap();
    b.prepare_head(&mut matrix, Numerics::Int8Rows).unwrap();
    b.head_room(&matrix, 1, Numerics::Int8Rows).unwrap();
    let mut x = b.tensor(selected, head.cols()).unwrap();
    b.write_tensor(&mut x, hidden);
    let mut scratch = b.tensor(selected, head.rows()).unwrap();
    let (mut best, mut tokens) = (b.tokens(selected).unwrap(), b.tokens(selected * most).unwrap());
    let mut values = b.tensor(selected, most).unwrap();
    b.begin(&rows);
    // The first look at a head is without a screen on the CPU.
    let mut by_all = b.tokens(selected).unwrap();
    b.best(&mut by_all, &mut scratch, &matrix, &x);
    b.best(&mut best, &mut scratch, &matrix, &x);
    b.candidates(&mut tokens, &mut values, count, &mut scratch, &matrix, &x);
    b.end();
    let (mut chosen, mut first_chosen, mut ids) = (vec![0; selected], vec![0; selected], vec![0; selected * most]);
    b.read_tokens(&best, &mut chosen).unwrap();
    b.read_tokens(&by_all, &mut first_chosen).unwrap();
    assert_eq!(chosen, first_chosen);
    b.read_tokens(&tokens, &mut ids).unwrap();
    let mut logits = vec![0.0; selected * most];
    b.read_tensor(&values, &mut logits).unwrap();
    let first = |row: usize| row * most..row * most + count;
    Choice {
        best: chosen,
        tokens: (0..selected).flat_map(|row| ids[first(row)].to_vec()).collect(),
        logits: (0..selected).flat_map(|row| logits[first(row)].to_vec()).map(f32::to_bits).collect(),
    }
}

#[track_caller]
fn assert_chooses_as_the_exact_head(head: &Weights, hidden: &[f32], count: usize, what: &str) {
    for kernels in KernelSet::available() {
        let exact = choose(&mut cpu(kernels, 1, Screening::Never), head, hidden, count, count);
        for threads in [1, 2, 3] {
            let screened = choose(&mut cpu(kernels, threads, Screening::Always), head, hidden, count, count);
            assert!(screened == exact, "{what}, the best {count}, {kernels}, {threads} threads");
        }
    }
}

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
        hidden[selected / 2 * 256] = 1e16;
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
        let choice = choose(&mut cpu(kernels, 2, Screening::Always), &head, &hidden, 4, 4);
        assert_eq!((choice.best, choice.tokens), (vec![3], vec![3, 76, 77, 4999]));
    }
}

#[test]
fn a_nan_in_a_row_leaves_no_token() {
    let random = &mut Random(6);
    let mut values = Kind::Gaussian.rows(random, 1000, 128);
    values[5] = f32::NAN;
    let hidden = Kind::Gaussian.rows(random, 1, 128);
    let head = f16_head(128, &values);
    let choice = choose(&mut cpu(KernelSet::best(), 2, Screening::Always), &head, &hidden, 3, 3);
    assert_eq!((choice.best, choice.tokens), (vec![NO_TOKEN], vec![NO_TOKEN; 3]));
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
        choose(&mut cpu, &head, &hidden, 40, 40);
        assert!((41..1000).contains(&cpu.exact_logits()), "{} of {rows} twice", cpu.exact_logits());
    }
}

/// Where no bound rules a token out, a screen only costs: steps are made without it, more and more of them until it is tried again.
#[test]
fn a_screen_that_rules_nothing_out_is_left_alone() {
    let (rows, cols, steps) = (3000, 640, 40);
    let head = f16_head(cols, &Kind::Equal.rows(&mut Random(11), rows, cols));
    let mut cpu = cpu(KernelSet::best(), 2, Screening::Always);
    let mut matrix = cpu.matrix(std::slice::from_ref(&head)).unwrap();
    cpu.prepare_head(&mut matrix, Numerics::Int8Rows).unwrap();
    cpu.head_room(&matrix, 1, Numerics::Int8Rows).unwrap();
    let (mut x, mut scratch) = (cpu.tensor(1, cols).unwrap(), cpu.tensor(1, rows).unwrap());
    let mut best = cpu.tokens(1).unwrap();
    cpu.write_tensor(&mut x, &Kind::Gaussian.rows(&mut Random(12), 1, cols));
    cpu.begin(&[Row { sequence: 0, position: 0, wants_logits: true }]);
    for _ in 0..steps {
        cpu.best(&mut best, &mut scratch, &matrix, &x);
    }
    cpu.end();
    let mut chosen = [NO_TOKEN];
    cpu.read_tokens(&best, &mut chosen).unwrap();
    assert_eq!(chosen, [0], "the first of equals");
    let work = cpu.work();
    let estimates = work.kernels.iter().find(|kernel| kernel.name == "estimate").unwrap().calls;
    assert!((1..=7).contains(&estimates), "{estimates} of {steps} steps read the screen");
}

/// On a head with a mean row and outlier columns, and hidden vectors of few directions, as trained models have them.
#[test]
fn a_screen_reads_little_more_than_half_of_eight_bits() {
    let random = &mut Random(9);
    let (rows, cols, selected) = (30_000, 2560, 16);
    let values = Kind::Trained.rows(random, rows, cols);
    let head = f16_head(cols, &values);
    let seen = hidden_of_trained(random, 1 + selected, cols, &values);
    let eight_bits = (selected * rows * cols) as f64;
    for (count, most) in [(1, 0.6), (40, 0.7)] {
        let mut cpu = cpu(KernelSet::best(), 2, Screening::Always);
        let mut matrix = cpu.matrix(std::slice::from_ref(&head)).unwrap();
        cpu.prepare_head(&mut matrix, Numerics::Int8Rows).unwrap();
        cpu.head_room(&matrix, 1, Numerics::Int8Rows).unwrap();
        let mut x = cpu.tensor(1, cols).unwrap();
        let mut scratch = cpu.tensor(1, rows).unwrap();
        let (mut tokens, mut logits) = (cpu.tokens(count).unwrap(), cpu.tensor(1, count).unwrap());
        for hidden in seen.chunks_exact(cols) {
            cpu.write_tensor(&mut x, hidden);
            cpu.begin(&[Row { sequence: 0, position: 0, wants_logits: true }]);
            cpu.candidates(&mut tokens, &mut logits, count, &mut scratch, &matrix, &x);
            cpu.end();
        }
        let work = cpu.work();
        let read =
            |name| work.kernels.iter().filter(|kernel| kernel.name == name).map(|kernel| kernel.bytes).sum::<u64>();
        let share = (read("estimate") + read("refine")) as f64 / eight_bits;
        println!("the best {count}: {share:.3} of 8 bits, {} exact", cpu.exact_logits());
        assert!((0.5..most).contains(&share), "the best {count}: {share:.3}");
        assert!(cpu.exact_logits() < (selected * 4 * (count + 100)) as u64, "{} exact logits", cpu.exact_logits());
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
        choose(&mut cpu, head, &hidden, 5, 5);
        assert_eq!(cpu.exact_logits(), 0);
    }
}
