//! What TL1 and TL2 of bitnet.cpp share: weights in tiles whose sizes are compiled into the program that wrote the
//! file, and nowhere in the file. The program has one set of sizes for each model it was built for, and a set for each
//! shape of that model's layers; no two models have a shape in common, so the shape tells the tile.
//!
//! ```text
//! Order of the bytes, from outer to inner:
//!   blocks of BM rows · blocks of BY columns · of each, strips of `bm` rows · of each, strips of `by` columns
//! ```
//!
//! Source: `utils/codegen_tl1.py`, `codegen_tl2.py` and `setup_env.py` of bitnet.cpp.

use super::Encoding;
use super::entry::counted;
use crate::error::{Error, Result};

/// Where the scale of a TL tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlScale {
    /// In the file's tensor: one f32 behind the codes, in a tail of 32 bytes (`llama-quantize` of bitnet.cpp).
    Inside,
    /// In a tensor beside it, `….weight_scale` (Python converters of bitnet.cpp); there is no tail.
    Beside,
}

/// Bytes behind the codes where the scale is inside.
const TAIL: usize = 32;

/// How a matrix is cut: blocks of rows and columns, strips of rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    pub(super) block_rows: usize,
    pub(super) block_cols: usize,
    pub(super) strip_rows: usize,
    pub(super) strip_cols: usize,
}

impl Tiles {
    /// The number of the strip of columns that holds a place of a matrix with `cols` columns.
    pub(super) fn strip(&self, cols: usize, row: usize, col: usize) -> usize {
        let block = row / self.block_rows * (cols / self.block_cols) + col / self.block_cols;
        let strip_row = block * (self.block_rows / self.strip_rows) + row % self.block_rows / self.strip_rows;
        strip_row * (self.block_cols / self.strip_cols) + col % self.block_cols / self.strip_cols
    }
}

/// The sizes for one shape.
pub(super) struct Preset {
    rows: usize,
    cols: usize,
    /// TL1: BM, BY and bm; by is 256 / bm.
    pub(super) tl1: (usize, usize, usize),
    /// TL2: BM and BY; bm is 32.
    pub(super) tl2: (usize, usize),
}

const fn preset(rows: usize, cols: usize, tl1: (usize, usize, usize), tl2: (usize, usize)) -> Preset {
    Preset { rows, cols, tl1, tl2 }
}

/// bitnet_b1_58-large, bitnet_b1_58-3B and Llama3-8B-1.58.
const PRESETS: [Preset; 10] = [
    preset(1536, 4096, (256, 128, 32), (256, 96)),
    preset(1536, 1536, (128, 64, 64), (128, 192)),
    preset(4096, 1536, (256, 128, 32), (256, 96)),
    preset(3200, 8640, (160, 64, 32), (160, 96)),
    preset(3200, 3200, (320, 128, 64), (320, 96)),
    preset(8640, 3200, (320, 64, 32), (320, 96)),
    preset(14336, 4096, (256, 128, 64), (256, 96)),
    preset(4096, 14336, (256, 128, 32), (128, 96)),
    preset(1024, 4096, (128, 64, 64), (256, 96)),
    preset(4096, 4096, (128, 64, 32), (128, 96)),
];

/// The sizes for a shape.
pub(super) fn preset_of(encoding: Encoding, rows: usize, cols: usize) -> Result<&'static Preset> {
    PRESETS.iter().find(|preset| (preset.rows, preset.cols) == (rows, cols)).ok_or_else(|| {
        Error::Unsupported(format!(
            "{encoding} stores weights in tiles whose sizes only the program knows that wrote them; they are known for the \
             layers of bitnet_b1_58-large, bitnet_b1_58-3B and Llama3-8B-1.58, but not for a matrix [{rows}, {cols}]; \
             convert the model to I2_S instead"
        ))
    })
}

/// Bytes of a tensor with so many bytes of codes.
pub(super) fn with_tail(encoding: Encoding, codes: Option<usize>, rows: usize, cols: usize) -> Result<usize> {
    let tail = if encoding.holds_scale() { TAIL } else { 0 };
    counted(encoding, codes.and_then(|bytes| bytes.checked_add(tail)), rows, cols)
}

/// The scale behind the codes, or 1 where it is beside the tensor.
pub(super) fn scale(encoding: Encoding, tail: &[u8]) -> Result<f32> {
    let Some(bytes) = tail.first_chunk().filter(|_| encoding.holds_scale()) else { return Ok(1.0) };
    match f32::from_le_bytes(*bytes) {
        scale if scale.is_finite() => Ok(scale),
        scale => Err(Error::Malformed(format!("{encoding}: the scale is {scale}, not finite"))),
    }
}

/// The inverse of [`scale`].
pub(super) fn write_tail(tail: &mut [u8], scale: f32) {
    if let Some(bytes) = tail.first_chunk_mut() {
        *bytes = scale.to_le_bytes();
    }
}
