//! Tensor encodings: one file each, with the bit layout drawn at its head, a decoder and an encoder.
//!
//! Every ternary encoding holds the same information, trits and scales, so all of them are decoded once, at load, to
//! [`Ternary`](super::Ternary); the rest becomes [`Dense`](super::Dense). Decoding loses nothing. What already lies in
//! the file as it is needed (floats, and I2_S with whole blocks a row) is not copied.

pub mod absmean;
pub mod float;
pub mod hidden;
pub mod i2_s;
pub mod q6_k;
pub mod q8_0;
mod repack;
pub mod tq1_0;
pub mod tq2_0;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use super::Weights;
use crate::error::{Error, Result};

/// How a GGUF file stores the weights of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// int8 with an f16 scale for 32 columns.
    Q8_0,
    /// 6-bit integers with an int8 scale for 16 columns and an f16 scale for 256.
    Q6K,
    /// Trits, 2 bits each, and one f32 scale for the tensor (Microsoft).
    I2S,
    /// Trits, five in a byte, and an f16 scale for 256 columns (ggml).
    Tq1_0,
    /// Trits, 2 bits each, and an f16 scale for 256 columns (ggml).
    Tq2_0,
}

/// The order of the codes in an I2_S tensor, drawn in [`i2_s`]. Nothing in a file says which one it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum I2sLayout {
    /// 128 weights in 32 bytes: all published files, and what bitnet.cpp writes on x86 by default.
    #[default]
    Block128,
    /// 64 weights in 16 bytes: written by ARM builds of bitnet.cpp since November 2025.
    Block64,
    /// Four rows of one column in a byte: written by x86 builds of bitnet.cpp without `ACT_PARALLEL` since then.
    Row4,
}

impl Encoding {
    /// The encoding with this ggml type number.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for every other number, with the type's name where it is known. Forks of ggml have given
    /// some numbers several meanings; the text then lists them.
    pub fn from_ggml(type_id: u32) -> Result<Encoding> {
        Ok(match type_id {
            0 => Encoding::F32,
            1 => Encoding::F16,
            8 => Encoding::Q8_0,
            14 => Encoding::Q6K,
            30 => Encoding::Bf16,
            34 => Encoding::Tq1_0,
            35 => Encoding::Tq2_0,
            36 => Encoding::I2S,
            other => {
                let name = unsupported_name(other).unwrap_or("an unknown type");
                return Err(Error::Unsupported(format!(
                    "tensor type {other} ({name}) cannot be read by this version; convert the file to I2_S, TQ1_0, \
                     TQ2_0, Q8_0, Q6_K or floats"
                )));
            }
        })
    }

    /// The name that ggml and bitnet.cpp print.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::F32 => "F32",
            Encoding::F16 => "F16",
            Encoding::Bf16 => "BF16",
            Encoding::Q8_0 => "Q8_0",
            Encoding::Q6K => "Q6_K",
            Encoding::I2S => "I2_S",
            Encoding::Tq1_0 => "TQ1_0",
            Encoding::Tq2_0 => "TQ2_0",
        }
    }

    /// Whether it stores trits, so that it decodes to [`Ternary`](super::Ternary).
    pub fn is_ternary(self) -> bool {
        matches!(self, Encoding::I2S | Encoding::Tq1_0 | Encoding::Tq2_0)
    }

    /// Bytes of a tensor `[rows, cols]`, without the padding that a container may add.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the shape is empty, does not divide into blocks, or has more bytes than can be counted.
    pub fn size(self, rows: usize, cols: usize) -> Result<usize> {
        let name = self.name();
        if rows == 0 || cols == 0 {
            return Err(Error::Malformed(format!("a {name} tensor [{rows}, {cols}] is empty")));
        }
        let (columns, block_bytes) = match self {
            Encoding::F32 => (1, 4),
            Encoding::F16 | Encoding::Bf16 => (1, 2),
            Encoding::Q8_0 => (q8_0::COLUMNS, q8_0::BYTES),
            Encoding::Q6K => (q6_k::COLUMNS, q6_k::BYTES),
            Encoding::Tq1_0 => (repack::TQ_COLUMNS, tq1_0::BYTES),
            Encoding::Tq2_0 => (repack::TQ_COLUMNS, tq2_0::BYTES),
            Encoding::I2S => return i2_s::size(rows, cols),
        };
        if !cols.is_multiple_of(columns) {
            return Err(Error::Malformed(format!(
                "{name} stores {columns} columns in a block, but a row of this tensor has {cols}"
            )));
        }
        let size = rows.checked_mul(cols / columns).and_then(|blocks| blocks.checked_mul(block_bytes));
        size.ok_or_else(|| too_large(name, rows, cols))
    }

    /// Decodes a tensor `[rows, cols]` (`rows` = output features) from the front of `bytes`, which may be longer.
    ///
    /// Floats share the memory of `bytes`, and so does I2_S in the default layout if `cols` is a multiple of 128; all
    /// else is repacked, on all cores if it is large. `layout` matters to I2_S alone.
    ///
    /// # Errors
    /// [`Error::Malformed`] if [`size`](Self::size) fails or there are fewer bytes, if a 2-bit code is 3, or if a
    /// scale is not finite. In I2_S that is not copied, only a sample of the codes is looked at.
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
        Ok(match self {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => Weights::Dense(float::decode(self, bytes, rows, cols)?),
            Encoding::Q8_0 => Weights::Dense(q8_0::decode(&bytes, rows, cols)?),
            Encoding::Q6K => Weights::Dense(q6_k::decode(&bytes, rows, cols)?),
            Encoding::I2S => Weights::Ternary(i2_s::decode(&bytes, rows, cols, layout)?),
            Encoding::Tq1_0 => Weights::Ternary(tq1_0::decode(&bytes, rows, cols)?),
            Encoding::Tq2_0 => Weights::Ternary(tq2_0::decode(&bytes, rows, cols)?),
        })
    }
}

fn too_large(name: &str, rows: usize, cols: usize) -> Error {
    Error::Malformed(format!("a {name} tensor [{rows}, {cols}] has more bytes than this machine can count"))
}

/// Names of types that are not decoded, so that the error says what the file is. Owners other than ggml are named.
fn unsupported_name(type_id: u32) -> Option<&'static str> {
    Some(match type_id {
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        37 => "I8_S of bitnet.cpp",
        38 => "TL1 of bitnet.cpp",
        39 => "MXFP4, or TL2 of bitnet.cpp",
        40 => "NVFP4, or I2_V of vlut.cpp",
        41 => "Q1_0",
        42 => "Q2_0 in groups of 64 or 128, or STQ1_0 of AngelSlim, or I2_V_4 of vlut.cpp",
        43 => "STQ1_0 of AngelSlim, or I2_V_8 of vlut.cpp",
        45 => "I1_V of vlut.cpp",
        46 => "I1_V_2 of vlut.cpp",
        134 => "IQ1_BN of ik_llama.cpp",
        135 => "IQ2_BN of ik_llama.cpp",
        142 => "PQ2_0 of PrismML",
        143 => "PTQ1_0 of PrismML",
        335 => "IQ2_BN_R4 of ik_llama.cpp",
        _ => return None,
    })
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for I2sLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            I2sLayout::Block128 => "128",
            I2sLayout::Block64 => "64",
            I2sLayout::Row4 => "row4",
        })
    }
}

impl FromStr for I2sLayout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "128" => Ok(I2sLayout::Block128),
            "64" => Ok(I2sLayout::Block64),
            "row4" => Ok(I2sLayout::Row4),
            _ => Err(Error::Input(format!("{text:?} is no I2_S layout; there are 128 (the default), 64 and row4"))),
        }
    }
}
