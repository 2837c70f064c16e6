//! Sterna runs ternary (1.58-bit) language models from their published files.

pub mod error;
pub mod format;

pub use error::{Error, Result};
