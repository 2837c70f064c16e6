//! The GGUF container (versions 2 and 3): typed key/value metadata and a directory of tensors over the bytes of a file.
//! Nothing in the file is believed: each count, length and offset is compared with the bytes that are really there
//! before it is used, so that a hostile file costs an error text and not memory. [`Layout`] and [`Writer`] make new files.
//!
//! ```text
//! "GGUF" | version u32 | tensors i64 | pairs i64 | pairs … | directory … | padding | tensor data …
//! ```
//!
//! Source: the GGUF specification, ggml `docs/gguf.md`. All numbers are little-endian.

mod directory;
mod foreign;
mod metadata;
mod pairs;
mod reader;
mod resolve;
mod split;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::file::{map, read};
use crate::format::ranges::{Ranges, Section, Store};

pub use directory::TensorInfo;
pub use metadata::{Array, Metadata, Value};
pub use resolve::{Encodings, resolve};
pub use writer::{Layout, TensorPlan, Writer};

/// Where the data section and each tensor start, in bytes, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: usize = 32;

/// The largest accepted `general.alignment`, in bytes. Files use 32, at most a page.
const MAX_ALIGNMENT: usize = 1 << 20;

/// A parsed GGUF file, or the files of a split model as one: metadata and tensor directory in memory, tensor data where it
/// lies in the file.
///
/// Parsing allocates for the bytes that are there, plus at most 16 MiB for 65,536 keys and 65,536 tensors (the
/// accepted maximum; entries in memory are larger than the shortest entries of a file).
#[derive(Clone)]
pub struct Gguf {
    parts: Vec<Part>, // one, or those of a split model
    version: u32,     // 2 or 3
    metadata: Metadata,
    tensors: Vec<TensorInfo>, // the file's directory order
    by_name: Vec<u32>,        // indices into `tensors`, sorted by name
}

/// One file.
#[derive(Clone)]
struct Part {
    bytes: Store, // all of it
    alignment: usize,
}

/// What is read of the beginning of a file at first, where only pieces of it are read; up to four times as much as long as that is not
/// enough for keys and directory. And the most.
const FIRST_HEAD: usize = 1 << 20;
const MOST_HEAD: usize = 256 << 20;

impl Gguf {
    /// Maps a file and parses it; tensor data is read only when it is used. Any part of a split model
    /// (`name-00002-of-00003.gguf`) stands for all of them, which lie beside it.
    ///
    /// The file must not be changed or truncated while it is open, also not by another process: the map would change
    /// under our hands, and touching a page past the new end kills the process. Replace model files by renaming, or
    /// [`read`](Gguf::read) them.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such file, a part of it is missing, or it is a directory or a device; [`Error::Malformed`] if
    /// a part contradicts its name or the others; otherwise as [`Gguf::parse`].
    pub fn open(path: &Path) -> Result<Gguf> {
        split::open(path, map)
    }

    /// Reads a file into memory, all of it, and parses it. What becomes of the file later does not matter.
    ///
    /// # Errors
    /// As [`Gguf::open`]; [`Error::Io`] also if there is no memory of the file's length, or the file does not have the
    /// length that it is said to have.
    pub fn read(path: &Path) -> Result<Gguf> {
        split::open(path, read)
    }

    /// Parses a whole file that is already in memory (or mapped). Bytes after the last tensor are allowed.
    ///
    /// # Errors
    /// * [`Error::Malformed`] if the bytes break the rules of GGUF; the text names the key or tensor and its byte.
    /// * [`Error::Unsupported`] for version 1, big-endian files, parts of a split model, arrays of arrays, more than
    ///   65,536 keys or tensors, and for files of another well-known format.
    /// * [`Error::Model`] if `general.alignment` or a `split.*` key has the wrong type.
    pub fn parse(bytes: Bytes) -> Result<Gguf> {
        Gguf::parse_part(bytes)?.that_is_whole()
    }

    /// Parses a file of which pieces are read: its beginning now, tensors when they are looked at or loaded.
    ///
    /// # Errors
    /// As [`Gguf::parse`], and [`Error::Io`] if a piece cannot be read.
    pub fn from_ranges(source: Arc<dyn Ranges>) -> Result<Gguf> {
        let mut store = Store::of_ranges(source)?;
        let mut head_bytes = FIRST_HEAD.min(store.len());
        loop {
            let head = store.keep_head(head_bytes)?;
            if let Some(error) = foreign::recognise(&head, store.len()) {
                return Err(error);
            }
            let mut reader = reader::Reader::new(&head, store.len());
            match Gguf::parse_head(&mut reader, &head, store.clone()) {
                Ok(gguf) => return gguf.that_is_whole(),
                Err(_) if reader.lacks_bytes() && head_bytes < MOST_HEAD => {
                    head_bytes = (4 * head_bytes).min(store.len()).min(MOST_HEAD);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses a part of a split model.
    fn that_is_whole(self) -> Result<Gguf> {
        match split::Place::of(&self.metadata)? {
            Some(place) => Err(place.refused()),
            None => Ok(self),
        }
    }

    /// The same, of a file that may be a part of a split model.
    fn parse_part(bytes: Bytes) -> Result<Gguf> {
        if let Some(error) = foreign::recognise(&bytes, bytes.len()) {
            return Err(error);
        }
        let mut reader = reader::Reader::new(&bytes, bytes.len());
        Gguf::parse_head(&mut reader, &bytes, Store::Whole(bytes.clone()))
    }

    /// Parses what stands before the tensors: `head` is what the reader reads, at the beginning of the file.
    fn parse_head(reader: &mut reader::Reader<'_>, head: &Bytes, bytes: Store) -> Result<Gguf> {
        reader.take(4, "magic")?;
        let version = checked_version(reader.u32("version")?)?;
        let tensor_count = reader.count("number of tensors")?;
        let pair_count = reader.count("number of keys")?;

        let metadata = pairs::parse(reader, pair_count, head)?;
        let alignment = alignment(&metadata)?;
        let tensors = directory::parse(reader, tensor_count, alignment)?;
        let by_name = directory::index_by_name(&tensors)?;
        Ok(Gguf { parts: vec![Part { bytes, alignment }], version, metadata, tensors, by_name })
    }

    /// The version of the container, 2 or 3; their layouts are equal.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Tensor offsets are multiples of this many bytes (counted from the data section, which is aligned too). Of a split
    /// model, those in its first part.
    pub fn alignment(&self) -> usize {
        self.parts[0].alignment
    }

    /// Bytes of the whole file, or of all parts together.
    pub fn file_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// One, or the parts of a split model.
    pub(crate) fn files(&self) -> usize {
        self.parts.len()
    }

    /// The most bytes of 0 at the end of a file.
    pub(crate) fn zero_tail(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.zero_tail()).max().unwrap_or(0)
    }

    /// Whether `size` bytes are all that a tensor's span has but for padding. Behind the last tensor of a file anything may
    /// follow.
    pub(crate) fn is_filled(&self, info: &TensorInfo, size: usize) -> bool {
        let part = &self.parts[info.part];
        let is_last = info.offset + info.span == part.bytes.len();
        info.span.checked_sub(size).is_some_and(|more| more < part.alignment || is_last)
    }

    /// The key/value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors in the order of the file's directory, which need not be the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let found = self.by_name.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[found] as usize])
    }

    /// The bytes of a tensor's whole span: its encoded weights and what follows until the next tensor. A window of
    /// the file, not a copy; it keeps the whole file mapped, or in memory. Its address has no promised alignment.
    ///
    /// # Panics
    /// If `info` is from a longer file and does not lie within this one; and if the file is neither in memory nor mapped and the piece
    /// cannot be read, for which [`Gguf::read_data`] has an error.
    pub fn data(&self, info: &TensorInfo) -> Bytes {
        self.read_data(info).expect("the file is in memory, or can be read")
    }

    /// The same, of a file of which pieces are read, too.
    ///
    /// # Errors
    /// [`Error::Io`] if the piece cannot be read, [`Error::Device`] if there is no memory for it.
    ///
    /// # Panics
    /// If `info` is from a longer file and does not lie within this one.
    pub fn read_data(&self, info: &TensorInfo) -> Result<Bytes> {
        self.section(info).read_all()
    }

    /// The same bytes, of which only some may be read.
    pub(crate) fn section(&self, info: &TensorInfo) -> Section {
        Section::new(&self.parts[info.part].bytes, info.offset..info.offset + info.span)
    }
}

impl fmt::Debug for Gguf {
    /// Without the bytes: a model file is gigabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("files", &self.parts.len())
            .field("metadata", &self.metadata)
            .field("tensors", &self.tensors)
            .finish_non_exhaustive()
    }
}

fn checked_version(version: u32) -> Result<u32> {
    match version {
        2 | 3 => Ok(version),
        1 => Err(Error::Unsupported(
            "GGUF version 1 (of August 2023, with 32-bit lengths): convert the model again, versions 2 and 3 are read"
                .into(),
        )),
        0 => Err(Error::Malformed("the GGUF version at byte 4 is 0".into())),
        _ if version & 0xffff == 0 => Err(Error::Unsupported(format!(
            "a big-endian GGUF file (version {}): get the little-endian file of this model",
            version.swap_bytes()
        ))),
        _ => Err(Error::Unsupported(format!("GGUF version {version}: versions 2 and 3 are read"))),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    let Some(bytes) = metadata.unsigned("general.alignment")? else { return Ok(DEFAULT_ALIGNMENT) };
    match usize::try_from(bytes) {
        Ok(alignment) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => Ok(alignment),
        _ => Err(Error::Malformed(format!(
            "\"general.alignment\" is {bytes}, but must be a power of two and at most {MAX_ALIGNMENT} bytes"
        ))),
    }
}

/// Puts the place in front of an error's text: the file, the key, the tensor.
pub(crate) fn within(place: impl fmt::Display, error: Error) -> Error {
    match error {
        Error::Malformed(text) => Error::Malformed(format!("{place}: {text}")),
        Error::Unsupported(text) => Error::Unsupported(format!("{place}: {text}")),
        Error::Model(text) => Error::Model(format!("{place}: {text}")),
        other => other,
    }
}

/// A name from the file for an error text: escaped, and cut where a hostile file would fill the screen.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 80;
    let cut: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}
