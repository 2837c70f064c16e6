//! Tensor encodings: one file each, with the bit layout drawn at its head, a decoder and, for those that are written,
//! an encoder.
//!
//! Every ternary encoding holds the same information, trits and scales, so all of them are decoded once, at load, to
//! [`Ternary`](super::Ternary); the rest becomes [`Dense`](super::Dense). Decoding loses nothing, except that dense
//! encodings with offsets (Q4_1, Q5_1, Q2_K, Q4_K, Q5_K) are rounded to f16. What already lies in the file as it is
//! needed (floats, and I2_S with whole blocks a row) is not copied.
//!
//! Which encoding a tensor of a GGUF file has is told by its type number, or, where several programs use one number, by
//! [`resolve`](super::gguf::resolve).

pub mod absmean;
mod base_3;
mod blocks;
mod dense_blocks;
mod encode;
pub mod float;
pub mod hidden;
pub mod i2_s;
mod iq1_bn;
mod iq2_bn;
pub mod mlx;
pub mod packed_rows;
mod ptq1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4;
mod q4_k;
mod q5;
pub mod q6_k;
pub mod q8_0;
mod repack;
mod sample;
mod stq1_0;
mod tl;
mod tl1;
mod tl2;
pub mod tq1_0;
pub mod tq2_0;
pub(crate) mod type_numbers;
mod vlut;

use std::fmt;

use bytes::Bytes;

use super::Weights;
use crate::error::{Error, Result};

pub use i2_s::I2sLayout;
pub use tl::TlScale;

/// How a GGUF file stores the weights of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 4-bit integers with an f16 scale for 32 columns.
    Q4_0,
    /// 4-bit integers with an f16 scale and offset for 32 columns.
    Q4_1,
    /// 5-bit integers with an f16 scale for 32 columns.
    Q5_0,
    /// 5-bit integers with an f16 scale and offset for 32 columns.
    Q5_1,
    /// int8 with an f16 scale for 32 columns.
    Q8_0,
    /// 2-bit integers with a scale and an offset for 16 columns under two f16 for 256.
    Q2K,
    /// 3-bit integers with a 6-bit scale for 16 columns and an f16 scale for 256.
    Q3K,
    /// 4-bit integers with a scale and an offset for 32 columns under two f16 for 256.
    Q4K,
    /// 5-bit integers with a scale and an offset for 32 columns under two f16 for 256.
    Q5K,
    /// 6-bit integers with an int8 scale for 16 columns and an f16 scale for 256.
    Q6K,
    /// Trits, 2 bits each, and one f32 scale for the tensor (Microsoft).
    I2S,
    /// Trits, five in a byte, and an f16 scale for 256 columns (ggml).
    Tq1_0,
    /// Trits, 2 bits each, and an f16 scale for 256 columns (ggml).
    Tq2_0,
    /// Trits, 2 bits each, and an f16 scale for 64 columns (ggml).
    Q2_0,
    /// Trits, 2 bits each, and an f16 scale for 128 columns (PrismML; it was called Q2_0 at first).
    Pq2_0,
    /// Trits, five in a byte, and an f16 scale for 128 columns (PrismML).
    Ptq1_0,
    /// Trits, five in a byte, and an f16 scale for each row (ik_llama.cpp).
    Iq1Bn,
    /// Trits, 2 bits each, and an f32 scale for each row (ik_llama.cpp).
    Iq2Bn,
    /// IQ2_BN of four rows together (ik_llama.cpp).
    Iq2BnR4,
    /// Trits of which one in four is zero, four in five bits, and an f16 scale for 256 columns (AngelSlim).
    Stq1_0,
    /// Pairs of trits as indices of a table, in tiles, and one f32 scale for the tensor (bitnet.cpp on ARM).
    Tl1(TlScale),
    /// Triples of trits as signs and indices of a table, in tiles, and one f32 scale for the tensor (bitnet.cpp on
    /// x86).
    Tl2(TlScale),
    /// Trits, four in a byte, column by column; the scale is another tensor (vlut.cpp).
    I2V,
    /// I2_V with four groups of columns side by side (vlut.cpp).
    I2V4,
    /// I2_V with eight groups of columns side by side (vlut.cpp).
    I2V8,
    /// Trits, five in a byte, column by column; the scale is another tensor (vlut.cpp).
    I1V,
    /// I1_V with two groups of columns side by side (vlut.cpp).
    I1V2,
}

impl Encoding {
    /// The name that the program which writes it prints.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::F32 => "F32",
            Encoding::F16 => "F16",
            Encoding::Bf16 => "BF16",
            Encoding::Q4_0 => "Q4_0",
            Encoding::Q4_1 => "Q4_1",
            Encoding::Q5_0 => "Q5_0",
            Encoding::Q5_1 => "Q5_1",
            Encoding::Q8_0 => "Q8_0",
            Encoding::Q2K => "Q2_K",
            Encoding::Q3K => "Q3_K",
            Encoding::Q4K => "Q4_K",
            Encoding::Q5K => "Q5_K",
            Encoding::Q6K => "Q6_K",
            Encoding::I2S => "I2_S",
            Encoding::Tq1_0 => "TQ1_0",
            Encoding::Tq2_0 => "TQ2_0",
            Encoding::Q2_0 => "Q2_0",
            Encoding::Pq2_0 => "PQ2_0",
            Encoding::Ptq1_0 => "PTQ1_0",
            Encoding::Iq1Bn => "IQ1_BN",
            Encoding::Iq2Bn => "IQ2_BN",
            Encoding::Iq2BnR4 => "IQ2_BN_R4",
            Encoding::Stq1_0 => "STQ1_0",
            Encoding::Tl1(_) => "TL1",
            Encoding::Tl2(_) => "TL2",
            Encoding::I2V => "I2_V",
            Encoding::I2V4 => "I2_V_4",
            Encoding::I2V8 => "I2_V_8",
            Encoding::I1V => "I1_V",
            Encoding::I1V2 => "I1_V_2",
        }
    }

    /// Whether it stores trits, so that it decodes to [`Ternary`](super::Ternary).
    pub fn is_ternary(self) -> bool {
        use Encoding::*;
        !matches!(self, F32 | F16 | Bf16 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K)
    }

    /// Whether a tensor of it has all of its scales. Where not, it decodes to the scale 1, and a tensor of one float
    /// beside it (`….scale` or `….weight_scale`) holds the factor.
    pub fn holds_scale(self) -> bool {
        use Encoding::*;
        !matches!(self, Tl1(TlScale::Beside) | Tl2(TlScale::Beside) | I2V | I2V4 | I2V8 | I1V | I1V2)
    }

    /// Columns and bytes of a block, of which rows are made; none where a tensor is no sequence of blocks.
    pub(crate) fn block(self) -> Option<(usize, usize)> {
        Some(match self {
            Encoding::F32 => (1, 4),
            Encoding::F16 | Encoding::Bf16 => (1, 2),
            Encoding::Q4_0 => (q4::COLUMNS, q4::BYTES_0),
            Encoding::Q4_1 => (q4::COLUMNS, q4::BYTES_1),
            Encoding::Q5_0 => (q5::COLUMNS, q5::BYTES_0),
            Encoding::Q5_1 => (q5::COLUMNS, q5::BYTES_1),
            Encoding::Q8_0 => (q8_0::COLUMNS, q8_0::BYTES),
            Encoding::Q2K => (q2_k::COLUMNS, q2_k::BYTES),
            Encoding::Q3K => (q3_k::COLUMNS, q3_k::BYTES),
            Encoding::Q4K => (q4_k::COLUMNS, q4_k::BYTES_4),
            Encoding::Q5K => (q4_k::COLUMNS, q4_k::BYTES_5),
            Encoding::Q6K => (q6_k::COLUMNS, q6_k::BYTES),
            Encoding::Tq1_0 => (repack::TQ_COLUMNS, tq1_0::BYTES),
            Encoding::Tq2_0 => (repack::TQ_COLUMNS, tq2_0::BYTES),
            Encoding::Q2_0 => q2_0::BLOCK_64,
            Encoding::Pq2_0 => q2_0::BLOCK_128,
            Encoding::Ptq1_0 => (ptq1_0::COLUMNS, ptq1_0::BYTES),
            Encoding::Stq1_0 => (stq1_0::COLUMNS, stq1_0::BYTES),
            _ => return None,
        })
    }

    /// Bytes of a tensor `[rows, cols]`, without the padding that a container may add.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the shape is empty, does not divide into blocks, or has more bytes than can be counted;
    /// [`Error::Unsupported`] for TL1 and TL2 of a shape whose tiles are not known.
    pub fn size(self, rows: usize, cols: usize) -> Result<usize> {
        let name = self.name();
        if rows == 0 || cols == 0 {
            return Err(Error::Malformed(format!("a {name} tensor [{rows}, {cols}] is empty")));
        }
        let (columns, block_bytes) = match self {
            Encoding::I2S => return i2_s::size(rows, cols),
            Encoding::Tl1(_) => return tl1::size(self, rows, cols),
            Encoding::Tl2(_) => return tl2::size(self, rows, cols),
            Encoding::Iq1Bn => (iq1_bn::COLUMNS, None),
            Encoding::Iq2Bn | Encoding::Iq2BnR4 => (iq2_bn::COLUMNS, None),
            Encoding::I2V | Encoding::I2V4 | Encoding::I2V8 | Encoding::I1V | Encoding::I1V2 => (vlut::COLUMNS, None),
            blocks => blocks.block().map(|(columns, bytes)| (columns, Some(bytes))).expect("all others are blocks"),
        };
        if !cols.is_multiple_of(columns) {
            return Err(Error::Malformed(format!(
                "{name} stores {columns} columns in a block, but a row of this tensor has {cols}"
            )));
        }
        if self == Encoding::Iq2BnR4 && !rows.is_multiple_of(iq2_bn::TOGETHER) {
            return Err(Error::Malformed(format!("{name} stores four rows together, but this tensor has {rows}")));
        }
        let size = match (self, block_bytes) {
            (_, Some(bytes)) => rows.checked_mul(cols / columns).and_then(|blocks| blocks.checked_mul(bytes)),
            (Encoding::Iq1Bn, _) => iq1_bn::row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows)),
            (Encoding::Iq2Bn | Encoding::Iq2BnR4, _) => {
                iq2_bn::row_bytes(cols).and_then(|bytes| bytes.checked_mul(rows))
            }
            _ => vlut::size(self, rows, cols)?,
        };
        size.ok_or_else(|| too_large(name, rows, cols))
    }

    /// Decodes a tensor `[rows, cols]` (`rows` = output features) from the front of `bytes`, which may be longer.
    ///
    /// Floats share the memory of `bytes`, and so does I2_S in the default layout if `cols` is a multiple of 128; all
    /// else is repacked, on all cores if it is large. `layout` matters to I2_S alone.
    ///
    /// # Errors
    /// [`Error::Malformed`] if [`size`](Self::size) fails or there are fewer bytes, if codes are no trits, or if a
    /// scale is not finite. In I2_S that is not copied, only a sample of the codes is looked at. [`Error::Unsupported`]
    /// for Q2_0 with two scales in one block of 128 columns.
    pub fn decode(self, bytes: &Bytes, rows: usize, cols: usize, layout: I2sLayout) -> Result<Weights> {
        let size = self.size(rows, cols)?;
        if bytes.len() < size {
            return Err(Error::Malformed(format!(
                "a {} tensor [{rows}, {cols}] needs {size} bytes, but there are {}",
                self.name(),
                bytes.len()
            )));
        }
        let bytes = bytes.slice(..size);
        let shape = (rows, cols);
        Ok(match self {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => Weights::Dense(float::decode(self, bytes, rows, cols)?),
            Encoding::Q4_0 => Weights::Dense(q4::decode_0(&bytes, shape)?),
            Encoding::Q4_1 => Weights::Dense(q4::decode_1(&bytes, shape)?),
            Encoding::Q5_0 => Weights::Dense(q5::decode_0(&bytes, shape)?),
            Encoding::Q5_1 => Weights::Dense(q5::decode_1(&bytes, shape)?),
            Encoding::Q8_0 => Weights::Dense(q8_0::decode(&bytes, rows, cols)?),
            Encoding::Q2K => Weights::Dense(q2_k::decode(&bytes, shape)?),
            Encoding::Q3K => Weights::Dense(q3_k::decode(&bytes, shape)?),
            Encoding::Q4K => Weights::Dense(q4_k::decode_4(&bytes, shape)?),
            Encoding::Q5K => Weights::Dense(q4_k::decode_5(&bytes, shape)?),
            Encoding::Q6K => Weights::Dense(q6_k::decode(&bytes, rows, cols)?),
            Encoding::I2S => Weights::Ternary(i2_s::decode(&bytes, rows, cols, layout)?),
            Encoding::Tq1_0 => Weights::Ternary(tq1_0::decode(&bytes, rows, cols)?),
            Encoding::Tq2_0 => Weights::Ternary(tq2_0::decode(&bytes, rows, cols)?),
            Encoding::Q2_0 | Encoding::Pq2_0 => Weights::Ternary(q2_0::decode(self, &bytes, rows, cols)?),
            Encoding::Ptq1_0 => Weights::Ternary(ptq1_0::decode(&bytes, rows, cols)?),
            Encoding::Iq1Bn => Weights::Ternary(iq1_bn::decode(&bytes, rows, cols)?),
            Encoding::Iq2Bn | Encoding::Iq2BnR4 => Weights::Ternary(iq2_bn::decode(self, &bytes, rows, cols)?),
            Encoding::Stq1_0 => Weights::Ternary(stq1_0::decode(&bytes, rows, cols)?),
            Encoding::Tl1(_) => Weights::Ternary(tl1::decode(self, &bytes, rows, cols)?),
            Encoding::Tl2(_) => Weights::Ternary(tl2::decode(self, &bytes, rows, cols)?),
            Encoding::I2V | Encoding::I2V4 | Encoding::I2V8 | Encoding::I1V | Encoding::I1V2 => {
                Weights::Ternary(vlut::decode(self, &bytes, rows, cols)?)
            }
        })
    }
}

fn too_large(name: &str, rows: usize, cols: usize) -> Error {
    Error::Malformed(format!("a {name} tensor [{rows}, {cols}] has more bytes than this machine can count"))
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
