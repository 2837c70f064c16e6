//! The library's one error type, split by what the caller can do next.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a call failed. Each variant is one kind of way out; the text names the thing and the mend.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file. Way out: the path or its permissions.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        cause: Arc<std::io::Error>,
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
    /// The device is not there, lacks a capability or ran out of memory. Way out: as its [kind](DeviceError::kind) says.
    #[error("device: {0}")]
    Device(DeviceError),
    /// What the network computed left the numbers: a NaN or an infinity in the weights, or sums beyond f32 or beyond what a cache
    /// holds. Nothing is made of that. Way out: as the text says, a cache in f32 or another copy of the file.
    #[error("the network computed numbers that are not finite{0}")]
    NotFinite(String),
    /// An [`Interrupt`](crate::Interrupt) was set, or whoever was told of the progress had enough. What was done before stays done.
    #[error("interrupted")]
    Interrupted,
    /// A session has no room for another sequence at present. Way out: later, or a session with more room.
    #[error("busy: {0}")]
    Busy(String),
}

/// What is wrong with a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct DeviceError {
    /// What a program can do about it.
    pub kind: DeviceErrorKind,
    /// The device and the mend, for people.
    pub message: String,
}

/// The kinds of a [`DeviceError`], by their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceErrorKind {
    /// There is no such device, or none with what was asked for. Way out: another device, or a driver.
    Absent,
    /// It has too little memory. Way out: smaller sizes, or a larger device.
    OutOfMemory,
    /// It was lost while it worked, and whatever was loaded with it. Way out: open it again and load again.
    Lost,
    /// It refuses what was asked of it. Way out: another option, or another device.
    Refused,
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>, cause: std::io::Error) -> Self {
        Self::Io { path: path.into(), cause: Arc::new(cause) }
    }

    pub(crate) fn absent(message: impl fmt::Display) -> Self {
        Self::device(DeviceErrorKind::Absent, message)
    }

    pub(crate) fn out_of_memory(message: impl fmt::Display) -> Self {
        Self::device(DeviceErrorKind::OutOfMemory, message)
    }

    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "a CPU is not lost while it works"))]
    pub(crate) fn lost(message: impl fmt::Display) -> Self {
        Self::device(DeviceErrorKind::Lost, message)
    }

    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self::device(DeviceErrorKind::Refused, message)
    }

    fn device(kind: DeviceErrorKind, message: impl fmt::Display) -> Self {
        Self::Device(DeviceError { kind, message: message.to_string() })
    }

    /// Without where it began, which [`Engine::why_not_finite`](crate::engine::Engine) finds.
    pub(crate) fn not_finite() -> Self {
        Self::NotFinite(String::new())
    }
}

/// `Result` with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
