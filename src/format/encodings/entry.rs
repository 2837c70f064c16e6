//! What an encoding is: the entry that its file exports and the table in `encodings.rs` lists. Everything that is asked of
//! an encoding is read here, so that it is described in its own file and nowhere else.

use bytes::Bytes;

use super::{Encoding, I2sLayout};
use crate::error::{Error, Result};
use crate::format::{Dense, Ternary, Weights};

/// An entry of the table of encodings.
pub(super) struct Entry {
    /// The name that the program which writes it prints.
    pub(super) name: &'static str,
    pub(super) size: Size,
    pub(super) kind: Kind,
    /// The type number that the program which owns it writes.
    pub(super) number: TypeNumber,
    /// Other numbers that files have for it.
    pub(super) also: &'static [TypeNumber],
}

/// How many bytes a tensor has.
pub(super) enum Size {
    /// Each row is a sequence of blocks.
    Blocks {
        /// Columns in one block.
        columns: usize,
        /// Bytes of one block.
        bytes: usize,
    },
    /// A tensor is no sequence of blocks.
    Computed {
        /// Bytes of a tensor `[rows, cols]`, neither of them 0, or why there is none.
        size: fn(Encoding, usize, usize) -> Result<usize>,
        /// What tells the encoding from others that use its number.
        look: Option<Look>,
    },
}

/// A look at bytes in a few places, where there are no blocks to decode.
pub(super) struct Look {
    /// How many bytes from the first on are codes for certain, of a tensor of so many weights in so many bytes.
    pub(super) codes: fn(usize, usize) -> usize,
    /// Whether a byte is no code.
    pub(super) is_wrong: fn(u8) -> bool,
}

/// What a tensor becomes.
pub(super) enum Kind {
    /// Trits and scales.
    Ternary {
        scales: ScalePlaces,
        decode: fn(&Stored) -> Result<Ternary>,
        /// The inverse of `decode`.
        encode: fn(Encoding, &Ternary) -> Result<Vec<u8>>,
    },
    /// Numbers of many values.
    Dense { decode: fn(&Stored) -> Result<Dense>, encoder: Option<DenseEncoder> },
}

/// Where a ternary encoding has places for scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalePlaces {
    /// One f32 in the tensor.
    Tensor,
    /// One float in a tensor beside it; in the tensor itself the scale is 1.
    Beside,
    /// One for each row.
    Rows {
        /// Whether it is f16; f32 otherwise.
        is_half: bool,
    },
    /// One f16 for each so many columns of a row.
    Columns(usize),
}

impl ScalePlaces {
    /// Whether scales are rounded to f16.
    pub(crate) fn are_half(self) -> bool {
        match self {
            ScalePlaces::Tensor | ScalePlaces::Beside => false,
            ScalePlaces::Rows { is_half } => is_half,
            ScalePlaces::Columns(_) => true,
        }
    }
}

/// How weights of any kind are written.
pub(super) struct DenseEncoder {
    pub(super) encode: fn(Encoding, &Weights) -> Result<Vec<u8>>,
    /// Whether there is a place for exactly this value; none where the values beside it have a say.
    pub(super) holds: Option<fn(f32) -> bool>,
    /// The largest change of a value by rounding, relative to the largest of its row.
    pub(super) largest_change: f32,
}

/// A tensor `[rows, cols]` as a decoder gets it.
pub(super) struct Stored<'a> {
    /// For errors, and where several encodings have one decoder.
    pub(super) encoding: Encoding,
    /// Exactly the bytes of the tensor.
    pub(super) bytes: &'a Bytes,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Matters to I2_S alone.
    pub(super) layout: I2sLayout,
}

/// A number that files give to an encoding, and what tells its use from others of the same number.
#[derive(Clone, Copy)]
pub(crate) struct TypeNumber {
    pub(super) id: u32,
    /// How a list of the number's meanings calls it, if not by the encoding's name.
    pub(super) name: Option<&'static str>,
    /// Values of `general.file_type` that files of it have, the one first that its own program writes.
    pub(crate) file_types: &'static [u64],
    /// Values of `general.architecture` that only files of it have.
    pub(crate) architectures: &'static [&'static str],
    /// Whether its files may have keys that begin with `prism.`.
    pub(crate) is_prism: bool,
}

impl TypeNumber {
    pub(super) const fn new(id: u32) -> Self {
        Self { id, name: None, file_types: &[], architectures: &[], is_prism: false }
    }

    /// With a name that says whose it is, where programs share the number.
    pub(super) const fn called(self, name: &'static str) -> Self {
        Self { name: Some(name), ..self }
    }

    pub(super) const fn file_types(self, file_types: &'static [u64]) -> Self {
        Self { file_types, ..self }
    }

    pub(super) const fn only(self, architectures: &'static [&'static str]) -> Self {
        Self { architectures, ..self }
    }

    pub(super) const fn prism(self) -> Self {
        Self { is_prism: true, ..self }
    }
}

/// Refuses rows that are no whole blocks of so many columns.
pub(super) fn check_whole(encoding: Encoding, cols: usize, columns: usize) -> Result<()> {
    match cols.is_multiple_of(columns) {
        true => Ok(()),
        false => Err(Error::Malformed(format!(
            "{encoding} stores {columns} columns in a block, but a row of this tensor has {cols}"
        ))),
    }
}

/// The bytes of a tensor, if they could be counted.
pub(super) fn counted(encoding: Encoding, bytes: Option<usize>, rows: usize, cols: usize) -> Result<usize> {
    bytes.ok_or_else(|| {
        Error::Malformed(format!("a {encoding} tensor [{rows}, {cols}] has more bytes than this machine can count"))
    })
}
