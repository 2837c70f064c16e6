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
///
/// Opening a model asks for its beginning and for places of its tensors, few or all as [`Model::from_ranges`](crate::Model::from_ranges)
/// tells; loading asks for each tensor as a whole, once. A source for which a request is dear, as over a network, had better read more than
/// it is asked for, and keep it for the next request.
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
    /// Read when they are needed.
    Pieces(Pieces),
}

/// A file of which pieces are read, but for its beginning, which is kept: its keys are windows of that.
#[derive(Clone)]
pub(crate) struct Pieces {
    source: Arc<dyn Ranges>,
    length: usize, // of the file, in bytes
    head: Bytes,
}

impl Store {
    /// # Errors
    /// [`Error::Unsupported`] if the file is longer than memory can address.
    pub(crate) fn of_ranges(source: Arc<dyn Ranges>) -> Result<Self> {
        let size = source.size();
        match usize::try_from(size) {
            Ok(length) => Ok(Self::Pieces(Pieces { source, length, head: Bytes::new() })),
            Err(_) => {
                Err(Error::Unsupported(format!("a file of {size} bytes, which are more than memory can address")))
            }
        }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Pieces(pieces) => pieces.length,
        }
    }

    /// A window of the bytes, or a copy of pieces. The range lies within the file.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read, [`Error::Device`] if there is no memory for them.
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Bytes> {
        match self {
            Self::Whole(bytes) => Ok(bytes.slice(range)),
            Self::Pieces(pieces) => pieces.read(range),
        }
    }

    /// The first bytes of the file, which are kept, so that they are not read again.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub(crate) fn keep_head(&mut self, length: usize) -> Result<Bytes> {
        let head = self.read(0..length)?;
        if let Self::Pieces(pieces) = self {
            pieces.head = head.clone();
        }
        Ok(head)
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

impl Pieces {
    fn read(&self, range: Range<usize>) -> Result<Bytes> {
        let Self { source, length, head } = self;
        assert!(range.start <= range.end && range.end <= *length, "{range:?} of {length} bytes");
        if range.end <= head.len() {
            return Ok(head.slice(range));
        }
        let kept = head.get(range.start..).unwrap_or_default();
        let mut bytes = filled(range.len(), 0)?;
        let (first, rest) = bytes.split_at_mut(kept.len());
        first.copy_from_slice(kept);
        let read = source.read((range.start + kept.len()) as u64, rest);
        read.map_err(|cause| Error::io(PathBuf::from("the model file"), cause))?;
        Ok(bytes.into())
    }
}

/// Some bytes of a file, such as a tensor's, of which not all need be read.
#[derive(Clone)]
pub(crate) struct Section {
    store: Store,
    place: Range<usize>,
}

impl Section {
    pub(crate) fn new(store: &Store, place: Range<usize>) -> Self {
        Self { store: store.clone(), place }
    }

    /// How many bytes they are.
    pub(crate) fn len(&self) -> usize {
        self.place.len()
    }

    /// The first of them, at most so many.
    pub(crate) fn first(&self, length: usize) -> Self {
        let end = self.place.start + length.min(self.len());
        Self { store: self.store.clone(), place: self.place.start..end }
    }

    /// Some of them, counted from the first.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub(crate) fn read(&self, range: Range<usize>) -> Result<Bytes> {
        assert!(range.end <= self.len(), "{range:?} of {} bytes", self.len());
        self.store.read(self.place.start + range.start..self.place.start + range.end)
    }

    /// All of them.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub(crate) fn read_all(&self) -> Result<Bytes> {
        self.store.read(self.place.clone())
    }
}

impl From<Bytes> for Section {
    fn from(bytes: Bytes) -> Self {
        let place = 0..bytes.len();
        Self { store: Store::Whole(bytes), place }
    }
}
