//! What the values of a tensor are, counted: each trit, zeros, numbers that are none, rows of one value. Bytes that are
//! there and mean nothing show here: a tensor of zeros, codes that are no trits, a part that was never written.

use std::ops::ControlFlow;

use super::ternary::{Scales, Ternary, padded};
use super::{Dense, Values, Weights};

/// What the values of a tensor are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// Rows.
    pub rows: u64,
    /// Rows in which every value is the same, 0 or another.
    pub uniform_rows: u64,
    /// Rows in which every value is 0; they count as uniform too.
    pub zero_rows: u64,
    /// What values there are.
    pub values: Counts,
}

/// How many of a tensor's values are what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counts {
    /// Of trits and scales.
    Trits {
        /// How many trits are −1, 0 and +1.
        trits: [u64; 3],
        /// Codes that are no trit.
        wrong: u64,
        /// Trits −1 and +1 whose scale is 0, so that the weight is 0 all the same.
        unscaled: u64,
    },
    /// Of floats, and integers with a scale.
    Floats {
        /// All values.
        count: u64,
        /// Those that are 0.
        zero: u64,
        /// Those that are infinite or no number.
        not_finite: u64,
    },
}

impl Default for Counts {
    fn default() -> Self {
        Counts::Floats { count: 0, zero: 0, not_finite: 0 }
    }
}

impl Contents {
    /// Counts all values. `go_on` is told how many more were counted, some times a second, and may stop the work: then
    /// there is no result.
    pub(crate) fn of(weights: &Weights, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Option<Self> {
        const VALUES_AT_ONCE: usize = 1 << 22;
        let (rows, cols) = (weights.rows(), weights.cols());
        let mut contents = match weights {
            Weights::Ternary(_) => {
                let values = Counts::Trits { trits: [0; 3], wrong: 0, unscaled: 0 };
                Self { rows: rows as u64, values, ..Self::default() }
            }
            Weights::Dense(_) => Self { rows: rows as u64, ..Self::default() },
        };
        let at_once = (VALUES_AT_ONCE / cols).max(1);
        for first in (0..rows).step_by(at_once) {
            let end = rows.min(first + at_once);
            match weights {
                Weights::Ternary(ternary) => (first..end).for_each(|row| contents.add_trits(ternary, row)),
                Weights::Dense(dense) => (first..end).for_each(|row| contents.add_floats(dense, row)),
            }
            if go_on(((end - first) * cols) as u64).is_break() {
                return None;
            }
        }
        Some(contents)
    }

    /// Whether every weight is 0.
    pub fn is_zero(&self) -> bool {
        match self.values {
            Counts::Trits { trits: [negative, _, positive], wrong, unscaled } => {
                wrong == 0 && unscaled == negative + positive
            }
            Counts::Floats { count, zero, .. } => zero == count,
        }
    }

    fn add_trits(&mut self, ternary: &Ternary, row: usize) {
        let cols = ternary.cols();
        let codes = &ternary.codes()[row * ternary.row_bytes()..][..ternary.row_bytes()];
        let mut found = count_codes(codes);
        found[1] -= (padded(cols) - cols) as u64; // the padding is zeros
        let unscaled_here = match ternary.scales() {
            Scales::Groups { columns, .. } => {
                let empty = (0..cols).step_by(*columns).filter(|&col| ternary.scale(row, col) == 0.0);
                empty.map(|col| not_zero(&codes[col / 4..(col + columns).min(padded(cols)) / 4])).sum()
            }
            _ if ternary.scale(row, 0) == 0.0 => found[0] + found[2],
            _ => 0,
        };
        let is_zero = found[3] == 0 && unscaled_here == found[0] + found[2];
        self.zero_rows += u64::from(is_zero);
        self.uniform_rows += u64::from(is_zero || found.contains(&(cols as u64)));
        if let Counts::Trits { trits, wrong, unscaled } = &mut self.values {
            trits.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
            *wrong += found[3];
            *unscaled += unscaled_here;
        }
    }

    fn add_floats(&mut self, dense: &Dense, row: usize) {
        let cols = dense.cols();
        let places = row * cols..(row + 1) * cols;
        let (zeros, odd, is_uniform) = match dense.values() {
            Values::F32(bytes) => {
                floats::<4>(&bytes[places.start * 4..places.end * 4], u32::from_le_bytes, 0x7f80_0000, 0x7fff_ffff)
            }
            Values::F16(bytes) => half_floats(&bytes[places.start * 2..places.end * 2], 0x7c00),
            Values::Bf16(bytes) => half_floats(&bytes[places.start * 2..places.end * 2], 0x7f80),
            Values::Int8 { columns, codes, scales } => {
                let codes = &codes[places.clone()];
                let groups = codes.chunks(*columns).zip(&scales[places.start / columns..]);
                let zero = |(codes, scale): (&[u8], &f32)| match *scale == 0.0 {
                    true => codes.len() as u64,
                    false => codes.iter().filter(|code| **code == 0).count() as u64,
                };
                let zeros = groups.map(zero).sum();
                (zeros, 0, zeros == cols as u64) // scales differ, so other values are not compared
            }
        };
        self.uniform_rows += u64::from(is_uniform);
        self.zero_rows += u64::from(zeros == cols as u64);
        if let Counts::Floats { count, zero, not_finite } = &mut self.values {
            *count += cols as u64;
            *zero += zeros;
            *not_finite += odd;
        }
    }
}

/// How often each 2-bit code occurs.
fn count_codes(codes: &[u8]) -> [u64; 4] {
    const LOW: u64 = 0x5555_5555_5555_5555;
    let mut counts = [0; 4];
    let (words, rest) = codes.as_chunks::<8>();
    let mut add = |word: u64, fields: u64| {
        let (low, high) = (word & LOW, word >> 1 & LOW);
        let [one, two, three] = [low & !high, high & !low, low & high].map(|bits| u64::from(bits.count_ones()));
        counts[0] += fields - one - two - three;
        counts[1] += one;
        counts[2] += two;
        counts[3] += three;
    };
    words.iter().for_each(|word| add(u64::from_le_bytes(*word), 32));
    rest.iter().for_each(|&byte| add(byte.into(), 4));
    counts
}

/// How many codes are not that of 0.
fn not_zero(codes: &[u8]) -> u64 {
    let [negative, _, positive, wrong] = count_codes(codes);
    negative + positive + wrong
}

/// Zeros, values that are not finite, and whether all have the same bits.
fn floats<const WIDTH: usize>(
    bytes: &[u8],
    read: impl Fn([u8; WIDTH]) -> u32,
    exponent: u32,
    magnitude: u32,
) -> (u64, u64, bool) {
    let (values, _) = bytes.as_chunks::<WIDTH>();
    let first = values.first().map_or(0, |value| read(*value));
    let (mut zeros, mut odd, mut others) = (0, 0, 0);
    for value in values {
        let bits = read(*value);
        zeros += u32::from(bits & magnitude == 0);
        odd += u32::from(bits & exponent == exponent);
        others |= bits ^ first;
    }
    (zeros.into(), odd.into(), others == 0 || zeros as usize == values.len())
}

fn half_floats(bytes: &[u8], exponent: u32) -> (u64, u64, bool) {
    floats::<2>(bytes, |b| u16::from_le_bytes(b).into(), exponent, 0x7fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(weights: &Weights) -> Contents {
        Contents::of(weights, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn ternary(rows: usize, cols: usize, trit: impl Fn(usize, usize) -> i8, scales: Scales) -> Weights {
        let trits: Vec<i8> =
            (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))).map(|(r, c)| trit(r, c)).collect();
        Weights::Ternary(Ternary::pack(rows, cols, &trits, scales).unwrap())
    }

    #[test]
    fn trits_are_counted_without_the_padding() {
        for cols in [1, 3, 127, 128, 129, 200, 256, 300] {
            let trit = |row: usize, col: usize| ((row + 2 * col + col / 7) % 3) as i8 - 1;
            let found = contents(&ternary(5, cols, trit, Scales::Tensor(0.5)));
            let count =
                |wanted| (0..5).flat_map(|r| (0..cols).map(move |c| trit(r, c))).filter(|t| *t == wanted).count();
            let trits = [-1, 0, 1].map(|trit| count(trit) as u64);
            assert_eq!(found.values, Counts::Trits { trits, wrong: 0, unscaled: 0 }, "{cols}");
            assert_eq!(found.is_zero(), trits[1] == 5 * cols as u64);
        }
    }

    #[test]
    fn weights_of_no_scale_are_zero_whatever_their_trits() {
        let zero_scales = [
            Scales::Tensor(0.0),
            Scales::Rows(vec![0.0; 4]),
            Scales::RowRanges(vec![(2, 0.0), (4, -0.0)]),
            Scales::Groups { columns: 128, values: vec![0.0; 12] },
        ];
        for scales in zero_scales {
            let found = contents(&ternary(4, 300, |r, c| ((r + c) % 3) as i8 - 1, scales));
            assert!(found.is_zero() && found.zero_rows == 4, "{found:?}");
        }
        let mut values = vec![0.0; 12];
        values[5] = 0.25; // the last 44 columns of the second row
        let found = contents(&ternary(4, 300, |_, _| 1, Scales::Groups { columns: 128, values }));
        assert!(!found.is_zero() && found.zero_rows == 3, "{found:?}");
        assert_eq!(found.values, Counts::Trits { trits: [0, 0, 1200], wrong: 0, unscaled: 1200 - 44 });
    }

    #[test]
    fn codes_that_are_no_trits_are_counted() {
        let mut codes = vec![0b01_01_01_01; 64];
        codes[40] = 0b11_01_10_00;
        let found = contents(&Weights::Ternary(Ternary::new(2, 128, codes.into(), Scales::Tensor(1.0)).unwrap()));
        assert_eq!(found.values, Counts::Trits { trits: [1, 253, 1], wrong: 1, unscaled: 0 });
        assert!(!found.is_zero() && found.zero_rows == 1 && found.uniform_rows == 1);
    }

    #[test]
    fn rows_of_one_value_are_counted() {
        let found =
            contents(&ternary(6, 200, |row, col| if row < 4 { -1 } else { (col % 2) as i8 }, Scales::Tensor(0.5)));
        assert_eq!((found.rows, found.uniform_rows, found.zero_rows), (6, 4, 0));
    }

    #[test]
    fn floats_of_every_form_are_counted() {
        let values = [1.0, 0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-7, -3.0];
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let bf16s: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        for values in [Values::F32(f32s.into()), Values::F16(f16s.into()), Values::Bf16(bf16s.into())] {
            let found = contents(&Weights::Dense(Dense::new(2, 4, values).unwrap()));
            assert_eq!(found.values, Counts::Floats { count: 8, zero: 2, not_finite: 3 });
            assert_eq!((found.uniform_rows, found.is_zero()), (0, false));
        }
        let codes = vec![0, 0, 5, 6, 7, 8, 0, 1];
        let values = Values::Int8 { columns: 2, codes: codes.into(), scales: vec![1.0, 1.0, 0.0, 1.0] };
        let found = contents(&Weights::Dense(Dense::new(2, 4, values).unwrap()));
        assert_eq!(found.values, Counts::Floats { count: 8, zero: 5, not_finite: 0 });
        let zeros = contents(&Weights::Dense(Dense::new(4, 4, Values::F16(vec![0; 32].into())).unwrap()));
        assert!(zeros.is_zero() && zeros.zero_rows == 4 && zeros.uniform_rows == 4);
    }

    #[test]
    fn whoever_stops_it_gets_no_counts() {
        let weights = ternary(4, 128, |_, _| 1, Scales::Tensor(1.0));
        assert_eq!(Contents::of(&weights, &mut |_| ControlFlow::Break(())), None);
    }
}
