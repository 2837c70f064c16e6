//! What lies on the device: buffers with an identity, and the types of the verbs made of them.

use std::ops::Range;

use crate::backend::{CachePlace, CacheShape, Numerics, Storage};
use crate::format::ternary::{BLOCK, padded};
use crate::gpu::rotation::Rotated;
use crate::gpu::{Gpu, Matrix};

/// A storage buffer. The identity tells bind groups apart.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) id: u64,
    pub(crate) raw: wgpu::Buffer,
}

/// f32 `[max_rows, cols]`.
#[derive(Debug)]
pub struct Tensor {
    pub(crate) max_rows: usize,
    pub(crate) cols: usize,
    pub(crate) buffer: Buffer,
}

/// The input of linear layers `[max_rows, padded columns]`: int8, and of each row or block the bits of its scale and the sums of
/// its values; or f32.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) numerics: Numerics,
    pub(crate) max_rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Buffer,           // [max_rows, words], four int8 a word, or an f32
    pub(crate) facts: Buffer,            // [max_rows, scales_a_row, 2]
    pub(crate) rotated: Option<Rotated>, // where rows are turned before
}

impl Storage for Gpu {
    type Tensor = Tensor;
    type Quantized = Quantized;
    type Matrix = Matrix;
}

impl Quantized {
    /// Words of a row: its columns are padded to whole blocks.
    pub(crate) fn words(&self) -> usize {
        words(self.cols, self.numerics)
    }

    /// Scales of a row.
    pub(crate) fn scales_a_row(&self) -> usize {
        scales_a_row(self.cols, self.numerics)
    }
}

pub(crate) fn words(cols: usize, numerics: Numerics) -> usize {
    match numerics {
        Numerics::Int8Rows | Numerics::Int8Groups => padded(cols) / 4,
        Numerics::Float => padded(cols),
    }
}

pub(crate) fn scales_a_row(cols: usize, numerics: Numerics) -> usize {
    match numerics {
        Numerics::Int8Rows => 1,
        Numerics::Int8Groups => padded(cols) / BLOCK,
        Numerics::Float => 0,
    }
}

/// What shaders know of some values with one scale, beside it: their sum; or, of a block, the sums of those whose columns lie in
/// the first and in the second half of a block of weights, 16 bits each.
pub(crate) fn sums(values: &[i8], numerics: Numerics) -> u32 {
    let sum = |values: &mut dyn Iterator<Item = &i8>| values.map(|&v| i32::from(v)).sum::<i32>();
    if numerics == Numerics::Int8Rows {
        return sum(&mut values.iter()) as u32;
    }
    let [first, second] = [0, 1].map(|half| sum(&mut values.chunks(BLOCK / 8).skip(half).step_by(2).flatten()));
    (first as u32 & 0xffff) | (second as u32) << 16
}

/// Keys and values of one layer, `[slots, kv_heads, positions, head_dim]` each.
#[derive(Debug)]
pub struct Cache {
    pub(crate) shape: CacheShape,
    pub(crate) keys: Buffer,
    pub(crate) values: Buffer,
}

impl Cache {
    /// Where the first positions of a head lie, in bytes, among the keys as among the values.
    pub(crate) fn bytes_of(&self, place: CachePlace) -> Range<u64> {
        let CacheShape { slots, positions, kv_heads, head_dim, precision, .. } = self.shape;
        let (slot, entry_bytes) = (place.slot as usize, precision.bytes());
        assert!(
            slot < slots && place.kv_head < kv_heads && place.positions <= positions,
            "{place:?} of {:?}",
            self.shape
        );
        let begin = (slot * kv_heads + place.kv_head) * positions * head_dim * entry_bytes;
        begin as u64..(begin + place.positions * head_dim * entry_bytes) as u64
    }
}

/// Token ids `[max_rows]`.
#[derive(Debug)]
pub struct Tokens {
    pub(crate) max_rows: usize,
    pub(crate) buffer: Buffer,
}
