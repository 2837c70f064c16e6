//! Recurrent layers: states on the device, and the verbs that work on them. A workgroup goes through the rows of one sequence in
//! their order; sequences, heads and channels are computed at once.

use crate::backend::{Decay, DeltaHeads, HeadGain, HeadOrder, Recurrence, RecurrentShape};
use crate::error::{Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::layout::elementwise;
use crate::gpu::limits::MOST_GROUPS;
use crate::gpu::shader::Shader;
use crate::gpu::{Gpu, Matrix, Tensor};

/// The states of one layer.
#[derive(Debug)]
pub struct Recurrent {
    shape: RecurrentShape,
    earlier: Buffer,  // [slots, taps - 1, heads.qkv_cols()]
    memories: Buffer, // [slots, value_heads, head_dim of keys, head_dim of values]
}

/// Values of a memory that a workgroup has: as `delta_rule.wgsl` says it.
const COLUMNS: usize = 32;

impl Gpu {
    /// Sequences of the step.
    fn sequences(&self) -> usize {
        let is_first = |row: usize| self.rows[..row].iter().all(|other| other.sequence != self.rows[row].sequence);
        (0..self.rows.len()).filter(|&row| is_first(row)).count()
    }

    fn assert_states(&self, state: &Recurrent, tensors: &[&Tensor]) {
        assert!(tensors.iter().all(|tensor| self.rows.len() <= tensor.max_rows));
        assert!(
            self.rows.iter().all(|row| (row.sequence as usize) < state.shape.slots),
            "a row lies outside the slots"
        );
    }
}

impl Recurrence for Gpu {
    type Recurrent = Recurrent;

    fn recurrent(&mut self, shape: RecurrentShape) -> Result<Recurrent> {
        let head_dim = shape.heads.head_dim;
        if !head_dim.is_multiple_of(4) || head_dim > DeltaHeads::LARGEST {
            return Err(Error::Unsupported(format!("recurrent heads of {head_dim} features on a GPU")));
        }
        let heads = shape.heads.value_heads;
        if heads * head_dim.div_ceil(COLUMNS) > MOST_GROUPS as usize {
            return Err(Error::Unsupported(format!("{heads} recurrent heads of {head_dim} features on a GPU")));
        }
        shape.bytes().ok_or_else(|| Error::out_of_memory("states of more bytes than can be counted"))?;
        let bytes = |a_slot: usize| (shape.slots * a_slot * 4) as u64;
        let earlier = self.storage("states", bytes(shape.earlier()))?;
        Ok(Recurrent { shape, earlier, memories: self.storage("states", bytes(shape.memories()))? })
    }

    fn dense_matmul(&mut self, out: &mut Tensor, w: &Matrix, x: &Tensor) {
        let rows = self.rows.len();
        assert!(rows <= out.max_rows && rows <= x.max_rows);
        self.dense_product(out, w, x, rows, true);
    }

    fn convolve(&mut self, out: &mut Tensor, x: &Tensor, weights: &Tensor, state: &mut Recurrent) {
        let RecurrentShape { taps, heads, .. } = state.shape;
        let channels = heads.qkv_cols();
        assert_eq!((out.cols, x.cols, weights.cols), (channels, channels, taps * channels));
        self.assert_states(state, &[out, x]);
        let shader = Shader::Convolve { taps: taps as u32 };
        let buffers = [&self.step(), &x.buffer, &weights.buffer, &state.earlier, &out.buffer];
        self.run(shader, &[channels as u32], &buffers, elementwise(self.sequences(), channels), 0);
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
        self.assert_states(state, &[out, qkv, steps]);
        let sequences = self.sequences();
        let bytes = (sequences * state.shape.memories() * 4) as u64;
        let groups = [value_heads * head_dim.div_ceil(COLUMNS), sequences, 1];
        let (rate, bias) = (&decay.rate.buffer, &decay.bias.buffer);
        let buffers = [&self.step(), &qkv.buffer, &steps.buffer, rate, bias, &state.memories, &out.buffer];
        let shader = Shader::DeltaRule { head_dim: head_dim as u32 };
        self.run(shader, &[key_heads as u32, value_heads as u32], &buffers, groups, bytes);
    }

    fn norm_gate(&mut self, out: &mut Tensor, x: &Tensor, gates: &Tensor, norm: HeadGain<'_, Self>, order: HeadOrder) {
        let (rows, head_dim) = (self.rows.len(), norm.gain.cols);
        assert!(x.cols == gates.cols && out.cols == x.cols && x.cols.is_multiple_of(head_dim));
        assert!([&*out, x, gates].iter().all(|tensor| rows <= tensor.max_rows));
        let heads = x.cols / head_dim;
        // Of as many key heads as heads, each is where it is.
        let key_heads = if let HeadOrder::Grouped { key_heads } = order { key_heads } else { heads };
        let params = [head_dim as u32, heads as u32, key_heads as u32, norm.epsilon.to_bits()];
        let buffers = [&gates.buffer, &norm.gain.buffer, &x.buffer, &out.buffer];
        self.run(Shader::NormGate, &params, &buffers, [heads, rows, 1], 0);
    }

    fn gate(&mut self, x: &mut Tensor, gates: &Tensor) {
        let rows = self.rows.len();
        assert!(x.cols == gates.cols && rows <= x.max_rows && rows <= gates.max_rows);
        let groups = elementwise(rows, x.cols);
        self.run(Shader::Gate, &[x.cols as u32], &[&gates.buffer, &x.buffer], groups, 0);
    }

    fn copy_recurrent(&mut self, state: &mut Recurrent, from: u32, to: u32) -> Result<()> {
        let RecurrentShape { slots, .. } = state.shape;
        assert!((from as usize) < slots && (to as usize) < slots);
        for (buffer, a_slot) in [(&state.earlier, state.shape.earlier()), (&state.memories, state.shape.memories())] {
            let begin = |slot: u32| u64::from(slot) * a_slot as u64 * 4;
            self.copy_within(buffer, begin(from)..begin(from + 1), begin(to));
        }
        self.recorder.submit();
        self.device.0.check()
    }

    fn read_recurrent(
        &mut self,
        state: &Recurrent,
        slot: u32,
        earlier: &mut [f32],
        memories: &mut [f32],
    ) -> Result<()> {
        for (out, buffer) in [(earlier, &state.earlier), (memories, &state.memories)] {
            let begin = u64::from(slot) * out.len() as u64 * 4;
            self.recorder.read(buffer, begin, bytemuck::cast_slice_mut(out))?;
        }
        Ok(())
    }

    fn recurrent_bytes(&self, state: &Recurrent) -> u64 {
        state.earlier.raw.size() + state.memories.raw.size()
    }
}
