//! The verbs in plain loops: the definition of each, and the oracle that every other backend is tested against.
//!
//! Nothing here is fast, and nothing here is offered as a device. Sums of floats are kept in f64, so that what a test
//! measures is the other backend's rounding and not this one's.

mod data;
mod experts;
mod recurrence;
mod rotation;
mod rows;

pub use data::{Basis, Cache, Matrix, Quantized, Recurrent, Routing, Tensor};

use std::cmp::Ordering;
use std::f64::consts::PI;
use std::ops::Range;

use crate::backend::{
    Activation, Backend, CachePlace, CacheShape, HeadNormOrder, Heads, NO_TOKEN, Norm, Numerics, Rope, RopePairs,
    Rotary, Row, Storage,
};
use crate::error::Result;
use crate::format::Weights;
use crate::reference::data::{MatrixRow, TernaryRow};
use crate::reference::rows::rms_norm;

/// The oracle.
#[derive(Debug, Default)]
pub struct Reference {
    rows: Vec<Row>,
    selected: Range<usize>, // of the rows that want logits, in their order
}

impl Reference {
    fn selected(&self) -> impl Iterator<Item = usize> + '_ {
        let wanting = self.rows.iter().enumerate().filter(|(_, row)| row.wants_logits).map(|(i, _)| i);
        wanting.skip(self.selected.start).take(self.selected.len())
    }

    fn product(&self, w: &Matrix, x: &Quantized, mut store: impl FnMut(usize, usize, f32)) {
        assert_eq!(w.cols, x.cols);
        for row in 0..self.rows.len() {
            for (out, weights) in w.rows.iter().enumerate() {
                store(row, out, x.product(row, weights.ternary()));
            }
        }
    }
}

impl Storage for Reference {
    type Tensor = Tensor;
    type Quantized = Quantized;
    type Matrix = Matrix;
}

impl Backend for Reference {
    type Cache = Cache;
    type Tokens = Vec<u32>;

    fn sibling(&self) -> Self {
        Self::default()
    }

    fn tensor(&mut self, max_rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor { cols, values: vec![f32::NAN; max_rows * cols] })
    }

    fn parameter(&mut self, values: &[f32]) -> Result<Tensor> {
        Ok(Tensor { cols: values.len(), values: values.to_vec() })
    }

    fn quantized(&mut self, max_rows: usize, cols: usize, numerics: Numerics) -> Result<Quantized> {
        Ok(Quantized::new(max_rows, cols, numerics))
    }

    fn matrix(&mut self, parts: &[Weights]) -> Result<Matrix> {
        Ok(Matrix::new(parts))
    }

    fn prepare_head(&mut self, head: &mut Matrix, numerics: Numerics) -> Result<()> {
        head.numerics = numerics;
        Ok(())
    }

    fn head_room(&mut self, _head: &Matrix, _selected: usize, _numerics: Numerics) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: CacheShape) -> Result<Cache> {
        Ok(Cache::new(shape))
    }

    fn tokens(&mut self, max_rows: usize) -> Result<Vec<u32>> {
        Ok(vec![u32::MAX; max_rows])
    }

    fn begin(&mut self, rows: &[Row]) {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.selected = 0..rows.iter().filter(|row| row.wants_logits).count();
    }

    fn select(&mut self, selected: Range<usize>) {
        self.selected = selected;
    }

    fn copy_tokens(&mut self, tokens: &mut Vec<u32>, chosen: &Vec<u32>, count: usize) {
        tokens[..count].copy_from_slice(&chosen[..count]);
    }

    fn embed(&mut self, out: &mut Tensor, table: &Matrix, tokens: &Vec<u32>) {
        for (row, &token) in tokens.iter().enumerate().take(self.rows.len()) {
            let values: Vec<f32> = match &table.rows[token as usize] {
                MatrixRow::Dense(values) => values.clone(),
                MatrixRow::Ternary(TernaryRow { trits, scales, .. }) => {
                    trits.iter().zip(scales).map(|(&t, s)| f32::from(t) * s).collect()
                }
            };
            out.row_mut(row).copy_from_slice(&values);
        }
    }

    fn norm(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        for row in 0..self.rows.len() {
            out.row_mut(row).copy_from_slice(&rms_norm(x.row(row), norm.gain.row(0), norm.epsilon));
        }
    }

    fn norm_add(&mut self, out: &mut Tensor, x: &Tensor, norm: Norm<'_, Self>) {
        for row in 0..self.rows.len() {
            let normed = rms_norm(x.row(row), norm.gain.row(0), norm.epsilon);
            out.row_mut(row).iter_mut().zip(normed).for_each(|(o, v)| *o += v);
        }
    }

    fn place(&mut self, out: &mut Tensor, first_col: usize, x: &Tensor) {
        for row in 0..self.rows.len() {
            out.row_mut(row)[first_col..first_col + x.cols].copy_from_slice(x.row(row));
        }
    }

    fn norm_quantize(&mut self, out: &mut Quantized, x: &Tensor, gain: &Tensor, epsilon: f32) {
        for row in 0..self.rows.len() {
            out.set_row(row, &rms_norm(x.row(row), gain.row(0), epsilon));
        }
    }

    fn quantize(&mut self, out: &mut Quantized, x: &Tensor) {
        for row in 0..self.rows.len() {
            out.set_row(row, x.row(row));
        }
    }

    fn matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        assert_eq!(out.cols, w.rows.len());
        self.product(w, x, |row, place, value| out.row_mut(row)[place] = value);
    }

    fn matmul_add(&mut self, out: &mut Tensor, w: &Matrix, x: &Quantized) {
        assert_eq!(out.cols, w.rows.len());
        self.product(w, x, |row, place, value| out.row_mut(row)[place] += value);
    }

    fn rotations(&mut self, out: &mut Tensor, rope: &Rope) {
        let pairs = rope.frequencies.len();
        assert_eq!(out.cols, 2 * pairs);
        for (row, at) in self.rows.iter().enumerate() {
            for (pair, frequency) in rope.frequencies.iter().enumerate() {
                let (sin, cos) = (f64::from(at.position) * frequency).sin_cos();
                out.row_mut(row)[pair] = (cos * rope.magnitude) as f32;
                out.row_mut(row)[pairs + pair] = (sin * rope.magnitude) as f32;
            }
        }
    }

    fn rope_append(&mut self, qkv: &mut Tensor, cache: &mut Cache, rotary: Rotary<'_, Self>, heads: Heads) {
        let Rotary { rotations, pairs, norm } = rotary;
        let head_dim = heads.head_dim;
        let normed = |place: usize, head: &mut [f32], order: HeadNormOrder| {
            if let Some(norm) = norm.filter(|norm| norm.order == order) {
                let gain = if place < heads.heads { norm.query_gain } else { norm.key_gain };
                head.copy_from_slice(&rms_norm(head, gain.row(0), norm.epsilon));
            }
        };
        for (row, at) in self.rows.iter().enumerate() {
            let (cosines, sines) = rotations.row(row).split_at(rotations.cols / 2);
            let vectors = qkv.row_mut(row);
            for (place, head) in vectors.chunks_exact_mut(head_dim).take(heads.heads + heads.kv_heads).enumerate() {
                normed(place, head, HeadNormOrder::BeforeRope);
                for (pair, (cos, sin)) in cosines.iter().zip(sines).enumerate() {
                    let (a, b) = match pairs {
                        RopePairs::Half => (pair, pair + cosines.len()),
                        RopePairs::Interleaved => (2 * pair, 2 * pair + 1),
                    };
                    let (x, y) = (head[a], head[b]);
                    head[a] = x * cos - y * sin;
                    head[b] = x * sin + y * cos;
                }
                normed(place, head, HeadNormOrder::AfterRope);
            }
            let (keys, values) = vectors[heads.query_cols()..].split_at(heads.kv_cols());
            for head in 0..heads.kv_heads {
                let place = cache.place(at.sequence, at.position as usize, head);
                let features = head * head_dim..(head + 1) * head_dim;
                cache.put(place, &keys[features.clone()], &values[features]);
            }
        }
    }

    fn attend(&mut self, out: &mut Tensor, qkv: &Tensor, cache: &Cache, heads: Heads) {
        let head_dim = heads.head_dim;
        for (row, at) in self.rows.iter().enumerate() {
            for head in 0..heads.heads {
                let kv_head = head / (heads.heads / heads.kv_heads);
                let query = &qkv.row(row)[head * head_dim..][..head_dim];
                let first = cache.shape.first_seen(at.position as usize);
                let seen = first..=at.position as usize;
                let of_head = |store, position| cache.head(store, at.sequence, position, kv_head);
                let scores: Vec<f64> = seen
                    .clone()
                    .map(|position| {
                        let products = query.iter().zip(of_head(&cache.keys, position));
                        let dot: f64 = products.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                        dot / (head_dim as f64).sqrt()
                    })
                    .collect();
                let largest = match scores.iter().all(|&score| (score as f32).is_finite()) {
                    true => scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    false => f64::NAN,
                };
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sums = vec![0.0; head_dim];
                for (weight, position) in weights.iter().zip(seen) {
                    let values = of_head(&cache.values, position);
                    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += weight * f64::from(value));
                }
                let out = &mut out.row_mut(row)[head * head_dim..][..head_dim];
                out.iter_mut().zip(sums).for_each(|(o, sum)| *o = (sum / total) as f32);
            }
        }
    }

    fn glu(&mut self, out: &mut Tensor, gate_up: &Tensor, activation: Activation) {
        assert_eq!(gate_up.cols, 2 * out.cols);
        for row in 0..self.rows.len() {
            let (gates, ups) = gate_up.row(row).split_at(out.cols);
            for ((o, &gate), up) in out.row_mut(row).iter_mut().zip(gates).zip(ups) {
                *o = up
                    * match activation {
                        Activation::SquaredRelu => gate.max(0.0) * gate.max(0.0),
                        Activation::Silu => gate / (1.0 + (-gate).exp()),
                        Activation::Gelu => {
                            let x = f64::from(gate);
                            let inner = (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x);
                            (x / 2.0 * (1.0 + inner.tanh())) as f32
                        }
                    };
            }
        }
    }

    fn norm_selected(&mut self, out: &mut Tensor, x: &Tensor, gain: &Tensor, epsilon: f32) {
        for (packed, row) in self.selected().enumerate() {
            out.row_mut(packed).copy_from_slice(&rms_norm(x.row(row), gain.row(0), epsilon));
        }
    }

    fn logits(&mut self, out: &mut Tensor, head: &Matrix, x: &Tensor) {
        assert_eq!((out.cols, head.cols), (head.rows.len(), x.cols));
        for packed in 0..self.selected().count() {
            let mut input = Quantized::new(1, x.cols, head.numerics);
            input.set_row(0, x.row(packed));
            for (place, weights) in head.rows.iter().enumerate() {
                let dot = |w: &[f32]| -> f64 {
                    w.iter().zip(x.row(packed)).map(|(&w, &v)| f64::from(w) * f64::from(v)).sum()
                };
                out.row_mut(packed)[place] = match weights {
                    MatrixRow::Dense(w) => dot(w) as f32,
                    MatrixRow::Ternary(w) => input.product(0, w),
                };
            }
        }
    }

    fn argmax(&mut self, tokens: &mut Vec<u32>, logits: &Tensor) {
        let selected = self.selected().count();
        for (token, row) in tokens.iter_mut().zip(logits.values.chunks_exact(logits.cols)).take(selected) {
            let (mut best, mut largest) = (NO_TOKEN, f32::NEG_INFINITY);
            for (id, &logit) in (0..).zip(row) {
                if logit > largest {
                    (best, largest) = (id, logit);
                }
            }
            *token = if row.iter().all(|logit| logit.is_finite()) { best } else { NO_TOKEN };
        }
    }

    fn top(&mut self, tokens: &mut Vec<u32>, values: &mut Tensor, count: usize, logits: &Tensor) {
        for packed in 0..self.selected().count() {
            let row = logits.row(packed);
            let finite = row.iter().all(|logit| logit.is_finite());
            let mut order: Vec<usize> = (0..row.len()).collect();
            // A stable sort: equals stay in the order of their tokens.
            order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap_or(Ordering::Equal));
            let first = packed * values.cols;
            for place in 0..count {
                let best = match order.get(place) {
                    _ if !finite => (NO_TOKEN, f32::NAN),
                    Some(&i) => (i as u32, row[i]),
                    None => (0, f32::NEG_INFINITY),
                };
                (tokens[first + place], values.values[first + place]) = best;
            }
        }
    }

    fn totals(&mut self, out: &mut Tensor, logits: &Tensor, factors: &Tensor) {
        for packed in 0..self.selected().count() {
            if logits.row(packed).iter().any(|logit| !logit.is_finite()) {
                out.row_mut(packed).fill(f32::NAN);
                continue;
            }
            let numbers: Vec<f64> = logits.row(packed).iter().map(|&v| f64::from(v)).collect();
            let largest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            for (place, factor) in [1.0, f64::from(factors.row(packed)[0])].into_iter().enumerate() {
                let odds = numbers.iter().map(|logit| ((logit - largest) * factor).exp());
                out.row_mut(packed)[place] = odds.sum::<f64>() as f32;
            }
        }
    }

    fn end(&mut self) {}

    fn read_cache(&mut self, cache: &Cache, place: CachePlace, keys: &mut [f32], values: &mut [f32]) -> Result<()> {
        let head_dim = cache.shape.head_dim;
        let entries = keys.chunks_exact_mut(head_dim).zip(values.chunks_exact_mut(head_dim));
        for (position, (key, value)) in entries.enumerate().take(place.positions) {
            let begin = cache.place(place.slot, position, place.kv_head);
            key.copy_from_slice(&cache.keys[begin..begin + head_dim]);
            value.copy_from_slice(&cache.values[begin..begin + head_dim]);
        }
        Ok(())
    }

    fn write_cache(&mut self, cache: &mut Cache, place: CachePlace, keys: &[f32], values: &[f32]) {
        let head_dim = cache.shape.head_dim;
        let entries = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (position, (key, value)) in entries.enumerate().take(place.positions) {
            let begin = cache.place(place.slot, position, place.kv_head);
            for i in 0..head_dim {
                (cache.keys[begin + i], cache.values[begin + i]) = (cache.round(key[i]), cache.round(value[i]));
            }
        }
    }

    fn cache_shape(&self, cache: &Cache) -> CacheShape {
        cache.shape
    }

    fn matrix_bytes(&self, matrix: &Matrix) -> u64 {
        matrix.rows.iter().map(MatrixRow::bytes).sum()
    }

    fn cache_bytes(&self, cache: &Cache) -> u64 {
        (size_of_val(&cache.keys[..]) + size_of_val(&cache.values[..])) as u64
    }

    fn write_tokens(&mut self, tokens: &mut Vec<u32>, ids: &[u32]) {
        tokens[..ids.len()].copy_from_slice(ids);
    }

    fn read_tokens(&mut self, tokens: &Vec<u32>, ids: &mut [u32]) -> Result<()> {
        ids.copy_from_slice(&tokens[..ids.len()]);
        Ok(())
    }

    fn read_rows(&mut self, tensor: &Tensor, first_row: usize, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&tensor.values[first_row * tensor.cols..][..values.len()]);
        Ok(())
    }

    fn write_tensor(&mut self, tensor: &mut Tensor, values: &[f32]) {
        tensor.values[..values.len()].copy_from_slice(values);
    }

    fn read_quantized(&mut self, q: &Quantized, values: &mut [i8], scales: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&q.values[..values.len()]);
        scales.copy_from_slice(&q.scales[..scales.len()]);
        Ok(())
    }

    fn write_quantized(&mut self, q: &mut Quantized, values: &[i8], scales: &[f32]) {
        q.values[..values.len()].copy_from_slice(values);
        q.scales[..scales.len()].copy_from_slice(scales);
    }
}
