//! What a model file holds, independent of any device: containers ([`gguf`], [`safetensors`]), tensor [`encodings`], and
//! the two forms that every encoding is decoded to, [`Ternary`] and [`Dense`].
//!
//! Everything in a file is untrusted: sizes, counts, offsets and strings are checked against the file before use.

pub mod contents;
pub mod dense;
pub mod encodings;
pub(crate) mod file;
pub mod gguf;
mod locate;
pub(crate) mod ranges;
pub mod safetensors;
pub mod ternary;

pub use contents::{Contents, Counts};
pub use dense::{Dense, Values};
use encodings::hidden::hidden_ternary;
pub use locate::locate;
pub use ranges::Ranges;
pub use ternary::{Scales, Ternary};

/// One decoded weight tensor `[rows, cols]` (`rows` = output features, `cols` = input features).
#[derive(Clone, Debug)]
pub enum Weights {
    /// Trits and scales: the linear layers of a ternary model.
    Ternary(Ternary),
    /// Floats or int8 with scales: embeddings, heads, norms.
    Dense(Dense),
}

impl Weights {
    /// The first `rows` rows, at least one; all if there are no more.
    pub(crate) fn first_rows(self, rows: usize) -> Self {
        match self {
            Weights::Ternary(w) => Weights::Ternary(w.first_rows(rows)),
            Weights::Dense(w) => Weights::Dense(w.first_rows(rows)),
        }
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        match self {
            Weights::Ternary(w) => w.rows(),
            Weights::Dense(w) => w.rows(),
        }
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        match self {
            Weights::Ternary(w) => w.cols(),
            Weights::Dense(w) => w.cols(),
        }
    }

    /// Writes one row as f32 to `out` (`[cols]`).
    pub(crate) fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match self {
            Weights::Dense(dense) => dense.row_to_f32(row, out),
            Weights::Ternary(ternary) => {
                for (col, (out, trit)) in out.iter_mut().zip(ternary.row_trits(row)).enumerate() {
                    *out = f32::from(trit) * ternary.scale(row, col);
                }
            }
        }
    }

    /// The trits, also where they are hidden in dense weights; none if these are no trits.
    ///
    /// # Errors
    /// As [`hidden_ternary`].
    pub(crate) fn into_ternary(self) -> crate::Result<Option<Ternary>> {
        match self {
            Weights::Ternary(ternary) => Ok(Some(ternary)),
            Weights::Dense(dense) => Ok(hidden_ternary(&dense)?.map(|hidden| hidden.ternary)),
        }
    }
}
