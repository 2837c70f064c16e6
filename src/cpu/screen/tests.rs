//! Bounds, against what each kernel set computes and against the exact product.

use proptest::prelude::*;

use super::*;
use crate::cpu::HugePages;
use crate::cpu::KernelSet;
use crate::cpu::floats::LEVELS;
use crate::cpu::kernels::DenseRow;
use crate::cpu::workers::Workers;

fn head_of(rows: &[Vec<f32>]) -> Dense {
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    Dense::new(rows.len(), rows[0].len(), Values::F32(bytes.into())).expect("the sizes fit")
}

fn screen_of(head: &Dense, seen: &[f32], kernels: &dyn Kernels) -> Screen {
    let workers = Workers::start(1, kernels).expect("it starts no threads");
    let screen = Screen::new(head, seen, kernels, &workers, HugePages::WhereGiven);
    screen.expect("it is small").expect("nobody interrupts")
}

/// Bounds of all rows for one hidden vector, for each kernel set.
fn check(rows: &[Vec<f32>], seen: &[f32], x: &[f32]) -> Result<(), TestCaseError> {
    let head = head_of(rows);
    for kernels in KernelSet::available().iter().filter_map(|set| set.table()) {
        let screen = screen_of(&head, seen, kernels);
        let size = *screen.size();
        let (mut outliers, mut others) = (vec![0; size.outliers], vec![0; 2 * size.others]);
        let (high, low) = others.split_at_mut(size.others);
        let scratch = Scratch { outliers: &mut outliers, high, low, y: &mut vec![0.0; size.cols] };
        let Some(probe) = Probe::new(&screen, scratch, x) else { continue };
        // Beside two other vectors, of which nothing is known.
        let other: Vec<i8> = others.iter().rev().copied().collect();
        let vectors = [&other[..], &others, &other].concat();
        let outliers = [&outliers[..]; 3].concat();
        let integers = Integers { outliers: &outliers, others: &vectors };
        let bounds_by = |planes| {
            let (mut estimates, mut uppers) = (vec![0.0; 3 * rows.len()], vec![0.0; 3 * rows.len()]);
            let (all, above) = (Disjoint::new(&mut estimates), Disjoint::new(&mut uppers));
            let bounds = Bounds { estimates: all, first: 0, uppers: above };
            for strip in 0..size.strips() {
                // SAFETY: one call after the other.
                unsafe { screen.estimate(kernels, &bounds, integers, &[None, Some(probe), None], planes, strip) };
            }
            let of_the_second = rows.len()..2 * rows.len();
            (estimates[of_the_second.clone()].to_vec(), uppers[of_the_second].to_vec())
        };
        let ((estimates, uppers), (_, by_both)) = (bounds_by(Planes::First), bounds_by(Planes::Both));
        for (row, w) in rows.iter().enumerate() {
            let mut computed = [0.0];
            kernels.dot_dense(&mut computed, DenseRow::new(&head, row), x);
            let exact: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            let coarse = (estimates[row], uppers[row]);
            let fine = screen.refined(kernels, (row, rows.len() - 1), estimates[row], &others, &probe);
            for upper in [uppers[row], fine, by_both[row]] {
                let holds = computed[0] <= upper && exact <= f64::from(upper);
                prop_assert!(holds || upper == f32::INFINITY, "{computed:?}, {exact}: {coarse:?}, {fine}");
            }
            // What is below is bounded as what is above.
            let lower = f64::from(coarse.0) - (f64::from(coarse.1) - f64::from(coarse.0)) * (1.0 + 1e-6);
            prop_assert!(exact >= lower || coarse.1 == f32::INFINITY, "{exact}: {coarse:?}");
        }
    }
    Ok(())
}

#[test]
fn nibbles_times_bytes_are_the_same_in_every_set_and_for_any_number_of_rows() {
    for (lines, outputs) in [(1, 1), (2, 7), (3, 300), (20, 30)] {
        // A line lies between the rows.
        let weights =
            |line: usize, byte: usize| if line.is_multiple_of(2) { 255 } else { (line * 89 + byte * 37) as u8 };
        let w: Vec<u8> = (0..outputs * (lines + 1) * 64 - 64).map(|place| weights(place / 64, place % 64)).collect();
        let w = NibbleRows::new(&w, outputs, lines * 64, (lines + 1) * 64);
        for rows in (1..=33).step_by(if outputs > 100 { 8 } else { 1 }) {
            let x: Vec<i8> = (0..rows * lines * 128)
                .map(|place| match place / (lines * 128) % 3 {
                    0 => 127,
                    1 => -127,
                    _ => ((place * 73 + 19) % 255) as i16 as u8 as i8,
                })
                .map(|x| x.max(-127))
                .collect();
            let product = |output: usize, row: usize| {
                let column = |column: usize| {
                    let byte = w.row(output)[column / 128 * 64 + column % 64];
                    let w = if column % 128 < 64 { byte & 15 } else { byte >> 4 };
                    i32::from(w) * i32::from(x[row * lines * 128 + column])
                };
                (0..lines * 128).map(column).sum::<i32>()
            };
            let expected: Vec<i32> = (0..outputs)
                .flat_map(|output| (0..rows).map(move |row| (output, row)))
                .map(|(o, r)| product(o, r))
                .collect();
            for kernels in KernelSet::available().iter().filter_map(|set| set.table()) {
                let mut sums = vec![0; outputs * rows];
                kernels.dot_nibbles(&mut sums, w, &x);
                assert_eq!(sums, expected, "{}, {outputs} rows of {lines} lines, {rows} rows", kernels.set());
            }
        }
    }
}

/// Numbers of one size, or of very different sizes, with some zeros.
fn numbers(len: usize) -> impl Strategy<Value = Vec<f32>> {
    (0i32..3, -40i32..30).prop_flat_map(move |(spread, size)| {
        let number = (-1.0f32..1.0, -20 * spread..=0, 0..8)
            .prop_map(move |(value, exponent, zero)| if zero == 0 { 0.0 } else { value * 2f32.powi(size + exponent) });
        prop::collection::vec(number, len)
    })
}

fn rows(len: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(numbers(len), 1..5)
}

/// Every value is rounded up by the most that one can be, and every integer of the hidden vector, or of its second digit, is wrong by
/// nearly half in the same direction; nothing else has a size.
#[test]
fn logits_lie_within_their_bounds_where_codes_stand_for_more_than_twice_their_values() {
    for cols in [1024, 2560, 8192usize] {
        for (value, largest) in [(7.505 * (1e-5 / LEVELS), 0.0), (7.51, 119.0)] {
            let mut row = vec![value; cols];
            (row[0], row[1]) = (1e-12, if largest > 0.0 { largest } else { value });
            let other: Vec<f32> = row.iter().map(|w| -w).collect();
            for step in [1.0, 1.0 / 254.0] {
                // Of the columns that are no outliers, the last has the largest value of the hidden vector: a step of the digit is `step`.
                let (mut x, mut seen) = (vec![-0.501 * step; cols], vec![0.0; cols]);
                (x[0], x[cols - 1], seen[0]) = (127.0, 127.0, 1.0);
                check(&[row.clone(), other.clone()], &seen, &x).expect("within its bounds");
            }
        }
    }
}

proptest! {
    #[test]
    fn logits_lie_within_their_bounds(
        (rows, seen, x) in (1usize..700).prop_flat_map(|len| (rows(len), numbers(len), numbers(len))),
    ) {
        check(&rows, &seen, &x)?;
    }

    /// As where many tokens were seen: the hidden vector lies near the directions.
    #[test]
    fn logits_lie_within_their_bounds_of_hidden_vectors_that_were_seen(
        (rows, seen, part) in (65usize..400).prop_flat_map(|len| (rows(len), numbers(2 * len), -2.0f32..2.0)),
    ) {
        let (one, other) = seen.split_at(seen.len() / 2);
        let x: Vec<f32> = one.iter().zip(other).map(|(one, other)| one + part * other).collect();
        check(&rows, &seen, &x)?;
    }

    /// The bounds at their tightest: signs are such that all errors of one kind add up.
    #[test]
    fn logits_lie_within_their_bounds_when_all_errors_add_up(rows in rows(300), seen in numbers(300), flip in any::<bool>()) {
        let head = head_of(&rows);
        let kernels = KernelSet::best().table().expect("the best is available");
        let screen = screen_of(&head, &seen, kernels);
        for (row, w) in rows.iter().enumerate() {
            for with_fine in [false, true] {
                let residual: Vec<f32> = (0..300usize).map(|column| {
                    let size = screen.size();
                    let byte = column / 128 * 64 + column % 64;
                    let half = |plane: &[u8]| i32::from(if column % 128 < 64 { plane[byte] & 15 } else { plane[byte] >> 4 }) - 8;
                    let c = half(&screen.coarse[row * size.coarse_row() + size.outliers..]);
                    let f = if with_fine { half(&screen.fine[row * size.fine_row()..]) } else { 0 };
                    if screen.places.contains(&(column as u32)) { return 0.0 }
                    w[column] - screen.mean[column] - screen.scales[row] * (16 * c + f) as f32
                }).collect();
                let sign = if flip { -1.0 } else { 1.0 };
                check(&rows, &seen, &residual.iter().map(|e| sign * e).collect::<Vec<_>>())?;
                check(&rows, &seen, &residual.iter().map(|e| sign * e.signum()).collect::<Vec<_>>())?;
            }
        }
    }
}
