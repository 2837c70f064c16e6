//! A file that is neither mapped nor in memory: pieces of it are read when they are needed. A page in a browser has such files, in
//! its own storage or as the user gave them, and a model of which is loaded tensor by tensor, so that it is never held twice.

use std::io::Error as IoError;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::allocation::filled;
use crate::error::{Error, Result};

/// Where pieces of a file come from.
pub trait Ranges: Send + Sync {
    /// Bytes of the whole file.
    fn size(&self) -> u64;

    /// Fills `bytes` with those of the file from `offset` on, all of them. Never asked for what lies beyond the end.
    ///
    /// # Errors
    /// Whatever keeps it from that.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), IoError>;
}

/// The bytes of one file.
#[derive(Clone)]
pub(crate) enum Store {
    /// In memory, or mapped.
    Whole(Bytes),
    /// Read when they are needed; with the length of the file.
    Pieces(Arc<dyn Ranges>, usize),
}

impl Store {
    /// # Errors
    /// [`Error::Unsupported`] if the file is longer than memory can address.
    pub(crate) fn of_ranges(source: Arc<dyn Ranges>) -> Result<Self> {
        let size = source.size();
        match usize::try_from(size) {
            Ok(length) => Ok(Self::Pieces(source, length)),
            Err(_) => {
                Err(Error::Unsupported(format!("a file of {size} bytes, which are more than memory can address")))
            }
        }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Pieces(_, length) => *length,
        }
    }

    /// A window of the bytes, or a copy of pieces. The range lies within the file.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read, [`Error::Device`] if there is no memory for them.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Bytes> {
        match self {
            Self::Whole(bytes) => Ok(bytes.slice(range)),
            Self::Pieces(source, length) => {
                assert!(range.start <= range.end && range.end <= *length, "{range:?} of {length} bytes");
                let mut bytes = filled(range.len(), 0)?;
                let read = source.read(range.start as u64, &mut bytes);
                read.map_err(|cause| Error::io(PathBuf::from("the model file"), cause))?;
                Ok(bytes.into())
            }
        }
    }

    /// Bytes of 0 at the end of the file, as far as they can be read.
    pub(crate) fn zero_tail(&self) -> usize {
        const PIECE: usize = 1 << 20;
        let mut end = self.len();
        while end > 0 {
            let first = end.saturating_sub(PIECE);
            let Ok(piece) = self.read(first..end) else { break };
            let zeros = piece.iter().rev().take_while(|byte| **byte == 0).count();
            end -= zeros;
            if zeros < piece.len() {
                break;
            }
        }
        self.len() - end
    }
}
