//! Recurrent layers: the state of each slot, and the verbs that work on it, step by step also where a step has many rows of a
//! sequence. A head's memory (64 KiB at 128 features) stays in the second cache while all rows pass over it, so that chunks, which
//! take more operations, would win nothing before the steps are a large part of a prompt.

use crate::allocation::area;
use crate::backend::{Decay, DeltaHeads, HeadGain, HeadOrder, LENGTH_EPSILON, Recurrence, RecurrentShape, Row};
use crate::cpu::counts::Kernel;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::kernels::Kernels;
use crate::cpu::tensor::{Tensor, norm_factor};
use crate::cpu::{Cpu, Matrix};
use crate::error::{Error, Result};

/// Channels of a convolution that one task computes.
const CHANNELS: usize = 512;

/// The states of one layer.
#[derive(Debug)]
pub struct Recurrent {
    shape: RecurrentShape,
    earlier: Box<[f32]>,  // [slots, taps - 1, heads.qkv_cols()]
    memories: Box<[f32]>, // [slots, value_heads, head_dim of keys, head_dim of values]
}

impl Recurrent {
    fn new(shape: RecurrentShape) -> Result<Self> {
        let no_memory = || Error::out_of_memory(format!("no memory for states of {shape:?}: fewer slots need less"));
        shape.bytes().filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(no_memory)?;
        let zeros =
            |a_slot| bytemuck::allocation::try_zeroed_slice_box(area(shape.slots, a_slot)?).map_err(|()| no_memory());
        Ok(Self { shape, earlier: zeros(shape.earlier())?, memories: zeros(shape.memories())? })
    }

    fn check(&self, rows: &[Row]) {
        let slots = self.shape.slots;
        assert!(rows.iter().all(|row| (row.sequence as usize) < slots), "a row lies outside {slots} slots");
    }
}

/// One step of one head's memory.
struct Step<'a> {
    query: &'a [f32], // [head_dim], as is the key
    key: &'a [f32],
    value: &'a [f32], // [head_dim]
    fade: f32,
    beta: f32,
}

impl Step<'_> {
    /// `out: [head_dim]`.
    fn run(&self, kernels: &dyn Kernels, out: &mut [f32], memory: &mut [f32]) {
        let head_dim = out.len();
        let (mut query, mut key) = ([0.0f32; DeltaHeads::LARGEST], [0.0f32; DeltaHeads::LARGEST]);
        let (query, key) = (&mut query[..head_dim], &mut key[..head_dim]);
        unit(kernels, query, self.query, 1.0 / (head_dim as f32).sqrt());
        unit(kernels, key, self.key, 1.0);
        let mut recalled = [0.0f32; DeltaHeads::LARGEST];
        let recalled = &mut recalled[..head_dim];
        // The answer is that of the memory as it will be: Sᵀq of the old one fades, and the update comes with the weight k · q.
        kernels.recall(recalled, out, memory, key, query);
        let alike: f32 = key.iter().zip(&*query).map(|(k, q)| k * q).sum();
        for ((recalled, answer), value) in recalled.iter_mut().zip(&mut *out).zip(self.value) {
            *recalled = self.beta * (value - self.fade * *recalled); // what is to be added from here on
            *answer = self.fade * *answer + alike * *recalled;
        }
        kernels.remember(memory, self.fade, key, recalled);
    }
}

/// `out` is `x` brought to the length `length`.
fn unit(kernels: &dyn Kernels, out: &mut [f32], x: &[f32], length: f32) {
    let factor = (length as f64 / (kernels.sum_squares(x) + f64::from(LENGTH_EPSILON)).sqrt()) as f32;
    out.iter_mut().zip(x).for_each(|(o, v)| *o = v * factor);
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

impl Recurrence for Cpu {
    type Recurrent = Recurrent;

    fn recurrent(&mut self, shape: RecurrentShape) -> Result<Recurrent> {
        Recurrent::new(shape)
    }

    fn dense_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Tensor) {
        self.counts.ran(Kernel::DenseMatmul);
        self.dense_rows(out, w, x, 0..self.rows.len());
    }

    fn convolve(&mut self, out: &mut Tensor, x: &Tensor, weights: &Tensor, state: &mut Recurrent) {
        let (taps, channels) = (state.shape.taps, state.shape.heads.qkv_cols());
        assert_eq!((out.cols, x.cols, weights.cols), (channels, channels, taps * channels));
        state.check(&self.rows);
        self.counts.ran(Kernel::Convolve);
        let (kernels, rows, weights) = (self.kernels, &self.rows[..], weights.row(0));
        let (out, earlier) = (Disjoint::new(out.rows_mut(rows.len())), Disjoint::new(&mut state.earlier));
        self.workers.share(rows.len() * channels * taps, channels.div_ceil(CHANNELS), &|task, _| {
            let some = task * CHANNELS..channels.min((task + 1) * CHANNELS);
            let (mut sums, ones) = ([0.0f32; CHANNELS], [1.0f32; CHANNELS]);
            let sums = &mut sums[..some.len()];
            for (place, row) in rows.iter().enumerate() {
                let now = &x.row(place)[some.clone()];
                let weights = |tap: usize| &weights[tap * channels..][some.clone()];
                // SAFETY: these channels belong to this task, of each slot and in each row.
                let seen = |tap: usize| unsafe {
                    let begin = (row.sequence as usize * (taps - 1) + tap) * channels;
                    earlier.cut(begin + some.start..begin + some.end)
                };
                sums.iter_mut().zip(weights(taps - 1)).zip(now).for_each(|((sum, w), v)| *sum = w * v);
                for tap in 0..taps - 1 {
                    if row.position == 0 {
                        seen(tap).fill(0.0);
                    }
                    sums.iter_mut().zip(weights(tap)).zip(&*seen(tap)).for_each(|((sum, w), v)| *sum += w * v);
                }
                for tap in 1..taps - 1 {
                    seen(tap - 1).copy_from_slice(seen(tap));
                }
                seen(taps - 2).copy_from_slice(now);
                // SAFETY: as above.
                let out = unsafe { out.cut(place * channels + some.start..place * channels + some.end) };
                kernels.silu(out, sums, &ones[..some.len()]);
            }
        });
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
        assert_eq!((decay.rate.cols, decay.bias.cols), (value_heads, value_heads));
        state.check(&self.rows);
        let area = head_dim * head_dim;
        self.counts.read(Kernel::DeltaRule, self.rows.len() * value_heads * area * size_of::<f32>());
        let (kernels, rows, cols) = (self.kernels, &self.rows[..], out.cols);
        let (rates, biases) = (decay.rate.row(0), decay.bias.row(0));
        let (out, memories) = (Disjoint::new(out.rows_mut(rows.len())), Disjoint::new(&mut state.memories));
        self.workers.share(rows.len() * value_heads * area, value_heads, &|head, _| {
            for (place, row) in rows.iter().enumerate() {
                let memory = (row.sequence as usize * value_heads + head) * area;
                let answer = place * cols + head * head_dim;
                // SAFETY: this head belongs to this task, of each slot and in each row.
                let (memory, out) =
                    unsafe { (memories.cut(memory..memory + area), out.cut(answer..answer + head_dim)) };
                if row.position == 0 {
                    memory.fill(0.0);
                }
                let part = |first: usize, head: usize| &qkv.row(place)[first + head * head_dim..][..head_dim];
                let step = steps.row(place);
                let step = Step {
                    query: part(0, head % key_heads),
                    key: part(heads.key_cols(), head % key_heads),
                    value: part(2 * heads.key_cols(), head),
                    fade: (rates[head] * softplus(step[head] + biases[head])).exp(),
                    beta: sigmoid(step[value_heads + head]),
                };
                step.run(kernels, out, memory);
            }
        });
    }

    fn norm_gate(&mut self, out: &mut Tensor, x: &Tensor, gates: &Tensor, norm: HeadGain<'_, Self>, order: HeadOrder) {
        let (head_dim, cols) = (norm.gain.cols, x.cols);
        assert!(cols.is_multiple_of(head_dim) && head_dim <= DeltaHeads::LARGEST);
        assert_eq!((out.cols, gates.cols), (cols, cols));
        self.counts.ran(Kernel::Gate);
        let kernels = self.kernels;
        self.workers.share_rows(out.rows_mut(self.rows.len()), cols, &|row, out| {
            let mut normed = [0.0f32; DeltaHeads::LARGEST];
            let normed = &mut normed[..head_dim];
            let heads = x.row(row).chunks_exact(head_dim).zip(gates.row(row).chunks_exact(head_dim));
            for (head, (x, gates)) in heads.enumerate() {
                kernels.norm(normed, x, norm_factor(kernels, x, norm.epsilon), norm.gain.row(0));
                let place = order.place(head, cols / head_dim);
                kernels.silu(&mut out[place * head_dim..][..head_dim], gates, normed);
            }
        });
    }

    fn gate(&mut self, x: &mut Tensor, gates: &Tensor) {
        assert_eq!(x.cols, gates.cols);
        self.counts.ran(Kernel::Gate);
        let cols = x.cols;
        self.workers.share_rows(x.rows_mut(self.rows.len()), cols, &|row, x| {
            x.iter_mut().zip(gates.row(row)).for_each(|(x, &gate)| *x *= sigmoid(gate));
        });
    }

    fn copy_recurrent(&mut self, state: &mut Recurrent, from: u32, to: u32) -> Result<()> {
        let (from, to) = (from as usize, to as usize);
        for (values, a_slot) in
            [(&mut state.earlier, state.shape.earlier()), (&mut state.memories, state.shape.memories())]
        {
            values.copy_within(from * a_slot..(from + 1) * a_slot, to * a_slot);
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
        for (out, values) in [(earlier, &state.earlier), (memories, &state.memories)] {
            out.copy_from_slice(&values[slot as usize * out.len()..][..out.len()]);
        }
        Ok(())
    }

    fn recurrent_bytes(&self, state: &Recurrent) -> u64 {
        (size_of_val(&state.earlier[..]) + size_of_val(&state.memories[..])) as u64
    }
}
