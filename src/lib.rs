//! Sterna runs ternary (1.58-bit) language models from their published files.

pub mod backend;
pub mod cpu;
pub mod decision;
pub mod error;
pub mod format;
pub mod reference;
pub mod tokenizer;

pub use decision::Decision;
pub use error::{Error, Result};
