//! Heads and hidden vectors, ordinary ones and such as might mislead a screen.

use half::f16;
use sterna::format::{Dense, Values, Weights};

/// A small generator (xorshift64*), so that a test is the same everywhere.
pub struct Random(pub u64);

impl Random {
    /// In [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// About normal: the sum of twelve uniform values has variance 4.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((self.uniform() + 1.0) / 2.0 * end as f32) as usize % end
    }
}

/// Distributions of weights and of hidden vectors.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Gaussian,
    HeavyTailed,
    Equal,
    OneHot,
    HugeRange,
    Tiny,
    Zero,
    Ties,
    NotFinite,
    Trained,
}

pub const KINDS: [Kind; 10] = [
    Kind::Gaussian,
    Kind::HeavyTailed,
    Kind::Equal,
    Kind::OneHot,
    Kind::HugeRange,
    Kind::Tiny,
    Kind::Zero,
    Kind::Ties,
    Kind::NotFinite,
    Kind::Trained,
];

/// What all rows of a trained head have in common: more than what sets them apart.
fn common(col: usize) -> f32 {
    ((col * 7919 % 1009) as f32 / 504.5 - 1.0) * 3.5
}

/// How far they lie apart in a column: in a few, eight times as far.
fn spread(col: usize) -> f32 {
    if col % 41 == 3 { 8.0 } else { 0.9 }
}

/// Hidden vectors of a trained model: nearly half of their length is the same for all, and a quarter lies in few directions; each leans to
/// one row of the head.
pub fn hidden_of_trained(random: &mut Random, rows: usize, cols: usize, head: &[f32]) -> Vec<f32> {
    const FEW: usize = 16;
    let few: Vec<f32> = (0..FEW * cols).map(|_| random.normal()).collect();
    let mut hidden = Vec::with_capacity(rows * cols);
    for _ in 0..rows {
        let along: Vec<f32> = (0..FEW).map(|_| random.normal() * 0.2).collect();
        let chosen = random.below(head.len() / cols) * cols;
        for col in 0..cols {
            let in_few: f32 = along.iter().zip(few[col..].iter().step_by(cols)).map(|(a, few)| a * few).sum();
            let leaning = (head[chosen + col] - common(col)) / spread(col);
            let x = 0.5 * common(col) + in_few + 0.6 * random.normal() + 0.1 * leaning;
            hidden.push(x * if col % 41 == 3 { 3.0 } else { 1.0 });
        }
    }
    hidden
}

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
                Kind::Trained => common(col) + spread(col) * random.normal(),
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

    pub fn rows(self, random: &mut Random, rows: usize, cols: usize) -> Vec<f32> {
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

pub fn f16_head(cols: usize, values: &[f32]) -> Weights {
    let bytes: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
    Weights::Dense(Dense::new(values.len() / cols, cols, Values::F16(bytes.into())).unwrap())
}
