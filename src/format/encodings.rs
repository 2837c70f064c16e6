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
//!
//! A file exports the `Entry` of each of its encodings, and the table below is the one list of them: the names, the sizes,
//! the decoders, the encoders and the type numbers are all read from there.

pub mod absmean;
mod base_3;
mod blocks;
mod dense_blocks;
mod encode;
mod entry;
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
pub(crate) mod sample;
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
use entry::{Entry, Kind, Size, Stored, check_whole, counted};

pub(crate) use entry::ScalePlaces;
pub use i2_s::I2sLayout;
pub(crate) use sample::{Suspicion, suspect_codes};
pub use tl::TlScale;

/// Makes the enum of encodings and the list of their entries of one table. A variant with a choice within it has an entry
/// for each choice.
macro_rules! encodings {
    ($(
        $(#[$doc:meta])*
        $name:ident $(($of:ident: $($choice:ident = $chosen:path),+))? $(= $entry:path)?,
    )+) => {
        /// How a GGUF file stores the weights of one tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Encoding {
            $($(#[$doc])* $name $(($of))?,)+
        }

        /// Every encoding with its entry.
        static TABLE: &[(Encoding, &Entry)] = &[$(
            $((Encoding::$name, &$entry),)?
            $($((Encoding::$name($of::$choice), &$chosen),)+)?
        )+];

        impl Encoding {
            fn entry(self) -> &'static Entry {
                match self {$(
                    $(Encoding::$name => &$entry,)?
                    $($(Encoding::$name($of::$choice) => &$chosen,)+)?
                )+}
            }
        }
    };
}

encodings! {
    /// 32-bit floats.
    F32 = float::F32,
    /// IEEE half precision.
    F16 = float::F16,
    /// bfloat16.
    Bf16 = float::BF16,
    /// 4-bit integers with an f16 scale for 32 columns.
    Q4_0 = q4::Q4_0,
    /// 4-bit integers with an f16 scale and offset for 32 columns.
    Q4_1 = q4::Q4_1,
    /// 5-bit integers with an f16 scale for 32 columns.
    Q5_0 = q5::Q5_0,
    /// 5-bit integers with an f16 scale and offset for 32 columns.
    Q5_1 = q5::Q5_1,
    /// int8 with an f16 scale for 32 columns.
    Q8_0 = q8_0::Q8_0,
    /// 2-bit integers with a scale and an offset for 16 columns under two f16 for 256.
    Q2K = q2_k::Q2_K,
    /// 3-bit integers with a 6-bit scale for 16 columns and an f16 scale for 256.
    Q3K = q3_k::Q3_K,
    /// 4-bit integers with a scale and an offset for 32 columns under two f16 for 256.
    Q4K = q4_k::Q4_K,
    /// 5-bit integers with a scale and an offset for 32 columns under two f16 for 256.
    Q5K = q4_k::Q5_K,
    /// 6-bit integers with an int8 scale for 16 columns and an f16 scale for 256.
    Q6K = q6_k::Q6_K,
    /// Trits, 2 bits each, and one f32 scale for the tensor (Microsoft).
    I2S = i2_s::I2_S,
    /// Trits, five in a byte, and an f16 scale for 256 columns (ggml).
    Tq1_0 = tq1_0::TQ1_0,
    /// Trits, 2 bits each, and an f16 scale for 256 columns (ggml).
    Tq2_0 = tq2_0::TQ2_0,
    /// Trits, 2 bits each, and an f16 scale for 64 columns (ggml).
    Q2_0 = q2_0::Q2_0,
    /// Trits, 2 bits each, and an f16 scale for 128 columns (PrismML; it was called Q2_0 at first).
    Pq2_0 = q2_0::PQ2_0,
    /// Trits, five in a byte, and an f16 scale for 128 columns (PrismML).
    Ptq1_0 = ptq1_0::PTQ1_0,
    /// Trits, five in a byte, and an f16 scale for each row (ik_llama.cpp).
    Iq1Bn = iq1_bn::IQ1_BN,
    /// Trits, 2 bits each, and an f32 scale for each row (ik_llama.cpp).
    Iq2Bn = iq2_bn::IQ2_BN,
    /// IQ2_BN of four rows together (ik_llama.cpp).
    Iq2BnR4 = iq2_bn::IQ2_BN_R4,
    /// Trits of which one in four is zero, four in five bits, and an f16 scale for 256 columns (AngelSlim).
    Stq1_0 = stq1_0::STQ1_0,
    /// Pairs of trits as indices of a table, in tiles, and one f32 scale for the tensor (bitnet.cpp on ARM).
    Tl1(TlScale: Inside = tl1::INSIDE, Beside = tl1::BESIDE),
    /// Triples of trits as signs and indices of a table, in tiles, and one f32 scale for the tensor (bitnet.cpp on
    /// x86).
    Tl2(TlScale: Inside = tl2::INSIDE, Beside = tl2::BESIDE),
    /// Trits, four in a byte, column by column; the scale is another tensor (vlut.cpp).
    I2V = vlut::I2_V,
    /// I2_V with four groups of columns side by side (vlut.cpp).
    I2V4 = vlut::I2_V_4,
    /// I2_V with eight groups of columns side by side (vlut.cpp).
    I2V8 = vlut::I2_V_8,
    /// Trits, five in a byte, column by column; the scale is another tensor (vlut.cpp).
    I1V = vlut::I1_V,
    /// I1_V with two groups of columns side by side (vlut.cpp).
    I1V2 = vlut::I1_V_2,
}

impl Encoding {
    /// The name that the program which writes it prints.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Whether it stores trits, so that it decodes to [`Ternary`](super::Ternary).
    pub fn is_ternary(self) -> bool {
        self.scale_places().is_some()
    }

    /// Whether a tensor of it has all of its scales. Where not, it decodes to the scale 1, and a tensor of one float
    /// beside it (`….scale` or `….weight_scale`) holds the factor.
    pub fn holds_scale(self) -> bool {
        self.scale_places() != Some(ScalePlaces::Beside)
    }

    /// Where it has places for scales, if it is ternary.
    pub(crate) fn scale_places(self) -> Option<ScalePlaces> {
        match self.entry().kind {
            Kind::Ternary { scales, .. } => Some(scales),
            Kind::Dense { .. } => None,
        }
    }

    /// Bytes of a tensor `[rows, cols]`, without the padding that a container may add.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the shape is empty, does not divide into blocks, or has more bytes than can be counted;
    /// [`Error::Unsupported`] for TL1 and TL2 of a shape whose tiles are not known.
    pub fn size(self, rows: usize, cols: usize) -> Result<usize> {
        if rows == 0 || cols == 0 {
            return Err(Error::Malformed(format!("a {self} tensor [{rows}, {cols}] is empty")));
        }
        match self.entry().size {
            Size::Blocks { columns, bytes } => {
                check_whole(self, cols, columns)?;
                let blocks = rows.checked_mul(cols / columns);
                counted(self, blocks.and_then(|blocks| blocks.checked_mul(bytes)), rows, cols)
            }
            Size::Computed { size, .. } => size(self, rows, cols),
        }
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
                "a {self} tensor [{rows}, {cols}] needs {size} bytes, but there are {}",
                bytes.len()
            )));
        }
        let stored = Stored { encoding: self, bytes: &bytes.slice(..size), rows, cols, layout };
        match self.entry().kind {
            Kind::Ternary { decode, .. } => decode(&stored).map(Weights::Ternary),
            Kind::Dense { decode, .. } => decode(&stored).map(Weights::Dense),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
