//! Sterna runs ternary (1.58-bit) language models from their published files.

pub mod backend;
pub mod cpu;
pub mod decision;
pub mod device;
mod engine;
pub mod error;
pub mod format;
pub mod generate;
pub mod measure;
pub mod model;
pub mod reference;
pub mod tokenizer;
pub mod transformer;

pub use decision::Decision;
pub use device::Device;
pub use error::{Error, Result};
pub use generate::{GenerateOptions, Sampling, Session, SessionOptions};
pub use model::Model;
