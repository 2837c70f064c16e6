//! The GGUF container (versions 2 and 3): typed key/value metadata and a directory of tensors over a mapped file.

mod metadata;

pub use metadata::{Array, Metadata, Value};
