//! What lies on the device: buffers with an identity, and the types of the verbs made of them.

use crate::backend::CacheShape;

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

/// int8 `[max_rows, padded columns]`, and of each row the bits of its scale and the sum of its values.
#[derive(Debug)]
pub struct Quantized {
    pub(crate) max_rows: usize,
    pub(crate) cols: usize,
    pub(crate) values: Buffer, // [max_rows, words], four int8 a word
    pub(crate) facts: Buffer,  // [max_rows, 2]
}

impl Quantized {
    /// Words of a row: its columns are padded to whole blocks.
    pub(crate) fn words(&self) -> usize {
        crate::format::ternary::padded(self.cols) / 4
    }
}

/// Keys and values of one layer, `[slots, kv_heads, positions, head_dim]` each.
#[derive(Debug)]
pub struct Cache {
    pub(crate) shape: CacheShape,
    pub(crate) keys: Buffer,
    pub(crate) values: Buffer,
}

/// Token ids `[max_rows]`.
#[derive(Debug)]
pub struct Tokens {
    pub(crate) max_rows: usize,
    pub(crate) buffer: Buffer,
}
