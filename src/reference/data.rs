//! What the verbs work on, each in the plainest form: a number is a float or a trit, and its scale stands beside it.

use half::f16;

use crate::backend::{CachePrecision, CacheShape, ExpertShape, Misfit, Numerics, RecurrentShape};
use crate::format::ternary::BLOCK;
use crate::format::{Dense, Ternary, Weights};
use crate::reference::rows::{float_sum, integer_sum, quantize_row};

/// f32 `[rows, cols]`.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(super) cols: usize,
    pub(super) values: Vec<f32>,
}

/// int8 `[rows, cols]` and the multipliers of each row, or f32 `[rows, cols]`.
#[derive(Clone, Debug)]
pub struct Quantized {
    pub(super) cols: usize,
    /// Columns that have one multiplier; none where the values are f32.
    pub(super) group: Option<usize>,
    pub(super) values: Vec<i8>,
    pub(super) scales: Vec<f32>,     // [rows, cols.div_ceil(group)]
    pub(super) floats: Vec<f32>,     // [rows, cols]
    pub(super) basis: Option<Basis>, // by which rows are turned before
}

/// A rotated basis.
#[derive(Clone, Debug)]
pub struct Basis {
    pub(super) block: usize,
    pub(super) signs: Vec<f32>, // [cols]
}

/// Weights, row by row.
#[derive(Debug)]
pub struct Matrix {
    pub(super) cols: usize,
    pub(super) numerics: Numerics, // of its inputs, where it is a ternary head
    pub(super) rows: Vec<MatrixRow>,
}

#[derive(Debug)]
pub(super) enum MatrixRow {
    Ternary(TernaryRow),
    Dense(Vec<f32>), // [cols]
}

#[derive(Debug)]
pub(super) struct TernaryRow {
    pub(super) trits: Vec<i8>,   // [cols]
    pub(super) scales: Vec<f32>, // [cols]
    /// The ends of the runs of columns whose scales are equal.
    ends: Vec<usize>,
}

/// Keys and values, `[slots, positions, kv_heads, head_dim]` each.
#[derive(Debug)]
pub struct Cache {
    pub(super) shape: CacheShape,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

/// Which rows go to which experts.
#[derive(Debug)]
pub struct Routing {
    pub(super) shape: ExpertShape,
    pub(super) experts: Vec<u32>, // [rows, used], the best first
    pub(super) weights: Vec<f32>, // [rows, used]
}

/// The states of a recurrent layer.
#[derive(Debug)]
pub struct Recurrent {
    pub(super) shape: RecurrentShape,
    pub(super) earlier: Vec<f32>,  // [slots, taps - 1, heads.qkv_cols()]
    pub(super) memories: Vec<f32>, // [slots, value_heads, head_dim of keys, head_dim of values]
}

impl MatrixRow {
    /// Bytes of the row as it is kept here.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            MatrixRow::Ternary(TernaryRow { trits, scales, ends }) => {
                (size_of_val(&trits[..]) + size_of_val(&scales[..]) + size_of_val(&ends[..])) as u64
            }
            MatrixRow::Dense(values) => size_of_val(&values[..]) as u64,
        }
    }

    /// # Panics
    /// Of another row: a linear layer is ternary.
    pub(super) fn ternary(&self) -> &TernaryRow {
        match self {
            MatrixRow::Ternary(row) => row,
            MatrixRow::Dense(_) => panic!("a linear layer is ternary"),
        }
    }
}

impl TernaryRow {
    /// The product of the columns from `first` on with int8: exact integer sums of each run of equal scale, then floats.
    fn product(&self, first: usize, x: &[i8]) -> f64 {
        let last = first + x.len();
        let (mut begin, mut product) = (first, 0.0);
        for &end in &self.ends[self.ends.partition_point(|&end| end <= first)..] {
            let run = begin..end.min(last);
            let sum = integer_sum(&self.trits[run.clone()], &x[run.start - first..run.end - first]);
            product += f64::from(sum) * f64::from(self.scales[begin]);
            begin = run.end;
            if begin == last {
                break;
            }
        }
        product
    }
}

impl Tensor {
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.cols..][..self.cols]
    }
}

impl Quantized {
    pub(super) fn new(rows: usize, cols: usize, numerics: Numerics) -> Self {
        let group = match numerics {
            Numerics::Int8Rows => Some(cols),
            Numerics::Int8Groups => Some(BLOCK),
            Numerics::Float => None,
        };
        let scales = group.map_or(0, |group| rows * cols.div_ceil(group));
        let (values, floats) = (vec![0; rows * cols], vec![f32::NAN; rows * cols]);
        Self { cols, group, values, scales: vec![f32::NAN; scales], floats, basis: None }
    }

    /// Takes one row of floats.
    pub(super) fn set_row(&mut self, row: usize, x: &[f32]) {
        assert_eq!(x.len(), self.cols);
        let turned = self.basis.as_ref().map(|basis| basis.rotated(x));
        let x = turned.as_deref().unwrap_or(x);
        let places = row * self.cols..(row + 1) * self.cols;
        let Some(group) = self.group else { return self.floats[places].copy_from_slice(x) };
        let groups = self.cols.div_ceil(group);
        let scales = &mut self.scales[row * groups..(row + 1) * groups];
        for ((values, x), scale) in self.values[places].chunks_mut(group).zip(x.chunks(group)).zip(scales) {
            *scale = quantize_row(values, x);
        }
    }

    /// The product of one row with one weight row.
    pub(super) fn product(&self, row: usize, weights: &TernaryRow) -> f32 {
        let places = row * self.cols..(row + 1) * self.cols;
        let Some(group) = self.group else {
            return float_sum(&weights.trits, &weights.scales, &self.floats[places]) as f32;
        };
        let groups = self.cols.div_ceil(group);
        let multipliers = &self.scales[row * groups..(row + 1) * groups];
        let parts = self.values[places].chunks(group).zip((0..).step_by(group)).zip(multipliers);
        parts.map(|((x, first), &multiplier)| weights.product(first, x) / f64::from(multiplier)).sum::<f64>() as f32
    }
}

impl Matrix {
    pub(super) fn new(parts: &[Weights]) -> Self {
        let cols = parts[0].cols();
        let mut rows = Vec::new();
        for part in parts {
            assert_eq!(part.cols(), cols, "stacked parts have the same columns");
            match part {
                Weights::Ternary(ternary) => rows.extend((0..ternary.rows()).map(|row| ternary_row(ternary, row))),
                Weights::Dense(dense) => rows.extend((0..dense.rows()).map(|row| dense_row(dense, row))),
            }
        }
        Self { cols, numerics: Numerics::Int8Rows, rows }
    }
}

fn ternary_row(ternary: &Ternary, row: usize) -> MatrixRow {
    let scales: Vec<f32> = (0..ternary.cols()).map(|col| ternary.scale(row, col)).collect();
    let mut end = 0;
    let run = |run: &[f32]| {
        end += run.len();
        end
    };
    let ends = scales.chunk_by(|a, b| a == b).map(run).collect();
    MatrixRow::Ternary(TernaryRow { trits: ternary.row_trits(row).collect(), scales, ends })
}

fn dense_row(dense: &Dense, row: usize) -> MatrixRow {
    let mut values = vec![0.0; dense.cols()];
    dense.row_to_f32(row, &mut values);
    MatrixRow::Dense(values)
}

impl Cache {
    pub(super) fn new(shape: CacheShape) -> Self {
        let entries = shape.slots * shape.positions * shape.kv_heads * shape.head_dim;
        Self { shape, keys: vec![f32::NAN; entries], values: vec![f32::NAN; entries] }
    }

    /// Where the entry of one head begins.
    pub(super) fn place(&self, sequence: u32, position: usize, head: usize) -> usize {
        let CacheShape { positions, kv_heads, head_dim, .. } = self.shape;
        assert!((sequence as usize) < self.shape.slots && position < positions, "the row lies outside the cache");
        ((sequence as usize * positions + position) * kv_heads + head) * head_dim
    }

    /// The features of one head that stand in `store`, the keys or the values.
    pub(super) fn head<'a>(&self, store: &'a [f32], sequence: u32, position: usize, head: usize) -> &'a [f32] {
        &store[self.place(sequence, position, head)..][..self.shape.head_dim]
    }

    /// Takes the key and the value of one head.
    pub(super) fn put(&mut self, place: usize, key: &[f32], value: &[f32]) {
        let precision = self.shape.precision;
        let rounded = |head: &[f32]| -> Vec<f32> {
            let absmax = head.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let is_number = head.iter().all(|v| v.is_finite());
            match Misfit::of(absmax).filter(|_| is_number && precision == CachePrecision::F16) {
                Some(misfit) => vec![f16::from_bits(misfit.f16_bits()).to_f32(); head.len()],
                None => head.iter().map(|&v| self.round(v)).collect(),
            }
        };
        let (key, value) = (rounded(key), rounded(value));
        self.keys[place..place + key.len()].copy_from_slice(&key);
        self.values[place..place + value.len()].copy_from_slice(&value);
    }

    pub(super) fn round(&self, x: f32) -> f32 {
        match self.shape.precision {
            CachePrecision::F16 => f16::from_f32(x).to_f32(),
            CachePrecision::F32 => x,
        }
    }
}

impl Recurrent {
    pub(super) fn new(shape: RecurrentShape) -> Self {
        let RecurrentShape { slots, .. } = shape;
        let (earlier, memories) = (vec![f32::NAN; slots * shape.earlier()], vec![f32::NAN; slots * shape.memories()]);
        Self { shape, earlier, memories }
    }

    /// The earlier rows of a slot, the oldest first.
    pub(super) fn earlier_mut(&mut self, slot: u32) -> &mut [f32] {
        let len = self.shape.earlier();
        &mut self.earlier[slot as usize * len..][..len]
    }

    /// The memory of one head of a slot.
    pub(super) fn memory_mut(&mut self, slot: u32, head: usize) -> &mut [f32] {
        let len = self.shape.heads.head_dim * self.shape.heads.head_dim;
        &mut self.memories[(slot as usize * self.shape.heads.value_heads + head) * len..][..len]
    }
}
