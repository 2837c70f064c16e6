//! The library's one error type, split by what the caller can do next.

use std::path::PathBuf;

/// Why a call failed. Each variant is one kind of way out; the text names the thing and the mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file. Way out: the path or its permissions.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The bytes break the rules of their format: cut off, damaged or hostile. Way out: another copy of the file.
    #[error("malformed file: {0}")]
    Malformed(String),
    /// The file is sound, but asks for something this version cannot do. Way out: another file, or another option.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Keys, tensors and shapes of the model do not fit together. Way out: whoever made the file.
    #[error("inconsistent model: {0}")]
    Model(String),
    /// An argument of the call is out of range. Way out: the caller.
    #[error("{0}")]
    Input(String),
    /// The device is not there, lacks a capability or ran out of memory. Way out: another device or smaller sizes.
    #[error("device: {0}")]
    Device(String),
}

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
