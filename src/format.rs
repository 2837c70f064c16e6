//! What a model file holds, independent of any device: containers ([`gguf`], [`safetensors`]), tensor [`encodings`], and
//! the two forms that every encoding is decoded to, [`Ternary`] and [`Dense`].
//!
//! Everything in a file is untrusted: sizes, counts, offsets and strings are checked against the file before use.

pub mod dense;
pub mod encodings;
pub(crate) mod file;
pub mod gguf;
pub mod safetensors;
pub mod ternary;

pub use dense::{Dense, Values};
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
}
