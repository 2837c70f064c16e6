//! The verbs of recurrent layers in plain loops.

use crate::backend::{Decay, DeltaHeads, HeadGain, HeadOrder, LENGTH_EPSILON, Recurrence, RecurrentShape};
use crate::error::Result;
use crate::reference::data::{Matrix, MatrixRow, Recurrent, Tensor};
use crate::reference::{Reference, rms_norm};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// A vector brought to length 1, times a factor.
fn unit(x: &[f32], factor: f64) -> Vec<f64> {
    let squares: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    x.iter().map(|&v| f64::from(v) / (squares + f64::from(LENGTH_EPSILON)).sqrt() * factor).collect()
}

impl Recurrence for Reference {
    type Recurrent = Recurrent;

    fn recurrent(&mut self, shape: RecurrentShape) -> Result<Recurrent> {
        Ok(Recurrent::new(shape))
    }

    fn dense_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Tensor) {
        assert_eq!((out.cols, w.cols), (w.rows.len(), x.cols));
        for row in 0..self.rows.len() {
            for (place, weights) in w.rows.iter().enumerate() {
                let MatrixRow::Dense(weights) = weights else { panic!("the weights are dense") };
                let terms = weights.iter().zip(x.row(row)).map(|(&w, &v)| f64::from(w) * f64::from(v));
                out.row_mut(row)[place] = terms.sum::<f64>() as f32;
            }
        }
    }

    fn convolve(&mut self, out: &mut Tensor, x: &Tensor, weights: &Tensor, state: &mut Recurrent) {
        let (taps, channels) = (state.shape.taps, state.shape.heads.qkv_cols());
        assert_eq!((out.cols, x.cols, weights.cols), (channels, channels, taps * channels));
        for (row, at) in self.rows.iter().enumerate() {
            let earlier = state.earlier_mut(at.sequence);
            if at.position == 0 {
                earlier.fill(0.0);
            }
            for channel in 0..channels {
                let seen = |tap: usize| match tap + 1 < taps {
                    true => earlier[tap * channels + channel],
                    false => x.row(row)[channel],
                };
                let weight = |tap: usize| f64::from(weights.values[tap * channels + channel]);
                let sum: f64 = (0..taps).map(|tap| weight(tap) * f64::from(seen(tap))).sum();
                out.row_mut(row)[channel] = (sum * sigmoid(sum)) as f32;
            }
            earlier.copy_within(channels.., 0);
            let last = earlier.len() - channels;
            earlier[last..].copy_from_slice(x.row(row));
        }
    }

    fn delta_rule(
        &mut self,
        out: &mut Tensor,
        qkv: &Tensor,
        steps: &Tensor,
        decay: Decay<'_, Self>,
        state: &mut Recurrent,
    ) {
        let heads = state.shape.heads;
        let DeltaHeads { key_heads, value_heads, head_dim } = heads;
        assert_eq!((out.cols, qkv.cols, steps.cols), (heads.value_cols(), heads.qkv_cols(), 2 * value_heads));
        for (row, at) in self.rows.iter().enumerate() {
            for head in 0..value_heads {
                let part = |first: usize, head: usize| &qkv.row(row)[first + head * head_dim..][..head_dim];
                let q = unit(part(0, head % key_heads), (head_dim as f64).sqrt().recip());
                let k = unit(part(heads.key_cols(), head % key_heads), 1.0);
                let v = part(2 * heads.key_cols(), head);
                let step = |place: usize| f64::from(steps.row(row)[place]);
                let (rate, bias) = (f64::from(decay.rate.values[head]), f64::from(decay.bias.values[head]));
                let (fade, beta) = ((rate * softplus(step(head) + bias)).exp(), sigmoid(step(value_heads + head)));
                let memory = state.memory_mut(at.sequence, head);
                for value in 0..head_dim {
                    let mut column: Vec<f64> = (0..head_dim)
                        .map(|key| if at.position == 0 { 0.0 } else { f64::from(memory[key * head_dim + value]) })
                        .collect();
                    column.iter_mut().for_each(|s| *s *= fade);
                    let recalled: f64 = column.iter().zip(&k).map(|(s, k)| s * k).sum();
                    let update = beta * (f64::from(v[value]) - recalled);
                    column.iter_mut().zip(&k).for_each(|(s, k)| *s += k * update);
                    let answer: f64 = column.iter().zip(&q).map(|(s, q)| s * q).sum();
                    column.iter().enumerate().for_each(|(key, s)| memory[key * head_dim + value] = *s as f32);
                    out.row_mut(row)[head * head_dim + value] = answer as f32;
                }
            }
        }
    }

    fn norm_gate(&mut self, out: &mut Tensor, x: &Tensor, gates: &Tensor, norm: HeadGain<'_, Self>, order: HeadOrder) {
        assert_eq!((out.cols, gates.cols), (x.cols, x.cols));
        let (head_dim, heads) = (norm.gain.cols, x.cols / norm.gain.cols);
        for row in 0..self.rows.len() {
            for head in 0..heads {
                let columns = head * head_dim..(head + 1) * head_dim;
                let normed = rms_norm(&x.row(row)[columns.clone()], norm.gain.row(0), norm.epsilon);
                let out = &mut out.row_mut(row)[order.place(head, heads) * head_dim..][..head_dim];
                for ((o, normed), &gate) in out.iter_mut().zip(normed).zip(&gates.row(row)[columns]) {
                    *o = (f64::from(normed) * f64::from(gate) * sigmoid(gate.into())) as f32;
                }
            }
        }
    }

    fn gate(&mut self, x: &mut Tensor, gates: &Tensor) {
        assert_eq!(x.cols, gates.cols);
        for row in 0..self.rows.len() {
            for (x, &gate) in x.row_mut(row).iter_mut().zip(gates.row(row)) {
                *x = (f64::from(*x) * sigmoid(gate.into())) as f32;
            }
        }
    }

    fn copy_recurrent(&mut self, state: &mut Recurrent, from: u32, to: u32) -> Result<()> {
        let earlier = state.earlier_mut(from).to_vec();
        state.earlier_mut(to).copy_from_slice(&earlier);
        for head in 0..state.shape.heads.value_heads {
            let memory = state.memory_mut(from, head).to_vec();
            state.memory_mut(to, head).copy_from_slice(&memory);
        }
        Ok(())
    }

    fn read_recurrent(
        &mut self,
        state: &Recurrent,
        slot: u32,
        earlier: &mut [f32],
        memories: &mut [f32],
    ) -> Result<()> {
        earlier.copy_from_slice(&state.earlier[slot as usize * earlier.len()..][..earlier.len()]);
        memories.copy_from_slice(&state.memories[slot as usize * memories.len()..][..memories.len()]);
        Ok(())
    }

    fn recurrent_bytes(&self, state: &Recurrent) -> u64 {
        (size_of_val(&state.earlier[..]) + size_of_val(&state.memories[..])) as u64
    }
}
