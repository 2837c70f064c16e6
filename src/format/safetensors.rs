//! The safetensors container: a JSON header with names, number formats and places, then the bytes of the tensors. A
//! checkpoint is one such file, or several shards with an index that says which tensor lies where. Nothing is copied: a
//! tensor is a window of its file, which is mapped or in memory.
//!
//! ```text
//! length of the header, u64 | {"name": {"dtype": …, "shape": […], "data_offsets": [from, to]}, …} | data …
//! ```
//!
//! Source: github.com/huggingface/safetensors, whose crate checks that the offsets fit number format and shape and
//! leave no hole and no overlap. All numbers are little-endian, rows first: a linear layer is `[outputs, inputs]`.

mod shards;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use safetensors::tensor::Metadata;

use crate::error::{Error, Result};
use crate::format::file::{map, read};
use crate::format::gguf::{quoted, within};

pub use safetensors::Dtype;
pub use shards::{INDEX_FILE, WEIGHTS_FILE};

/// The longest accepted header, in bytes; in memory it takes up to 26 times as many while it is parsed. A tensor
/// takes some 120 bytes of it, so this is room for 30,000 in one file.
const MAX_HEADER_BYTES: u64 = 4 << 20;
/// The most axes of a tensor. Vectors and matrices are what models of text have; kernels of convolutions have three.
const MAX_AXES: usize = 4;

/// How a file becomes bytes: mapped or read.
type BytesOf = fn(&Path) -> Result<Bytes>;

/// All tensors of a model, by name, where they lie in their files. Cheap to clone tensors out of.
#[derive(Clone)]
pub struct Checkpoint {
    tensors: BTreeMap<String, StoredTensor>,
    files: usize,
    bytes: usize,
}

/// One tensor as it is stored. Its bytes are exactly those that shape and number format demand.
#[derive(Clone)]
#[non_exhaustive]
pub struct StoredTensor {
    /// The number format.
    pub dtype: Dtype,
    /// Lengths of the axes, slowest first: `[outputs, inputs]` for a linear layer. Beyond two, last ones of length 1 are left away.
    pub shape: Vec<usize>,
    /// Axes that the header gives it; the last ones that are 1 wide are left out of the shape.
    pub axes: usize,
    /// A window of the file; its address has no promised alignment.
    pub data: Bytes,
}

impl Checkpoint {
    /// The directory that a path means, if it means one: it is a directory, or a file of weights within it.
    pub fn directory(path: &Path) -> Option<&Path> {
        if path.is_dir() {
            return Some(path);
        }
        let is_weights = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
        // The parent of a plain file name is empty, and stands for the current directory.
        let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        parent.filter(|_| is_weights)
    }

    /// Maps the weights of a directory: `model.safetensors`, or else the shards that `model.safetensors.index.json` lists.
    ///
    /// The files must not be changed or truncated while the checkpoint or one of its tensors is in use.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be opened; [`Error::Malformed`] if a header breaks the rules of its format, or the
    /// index names a file outside the directory, a tensor that is not there, or one that is there twice;
    /// [`Error::Unsupported`] for more tensors or longer headers than any model has.
    pub fn open(directory: &Path) -> Result<Self> {
        shards::open(directory, map)
    }

    /// [`Checkpoint::open`], but reads the weights into memory, all of them. What becomes of the files later does not
    /// matter.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Error::Io`] also if there is no memory of the files' lengths, or a file does not have the
    /// length that it is said to have.
    pub fn read(directory: &Path) -> Result<Self> {
        shards::open(directory, read)
    }

    /// Maps a single file.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        Self::load(path, map)
    }

    fn load(path: &Path, bytes: BytesOf) -> Result<Self> {
        Self::parse(&bytes(path)?).map_err(|error| within(path.display(), error))
    }

    /// Parses a whole file that is already in memory (or mapped).
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Unsupported`], as [`Checkpoint::open`].
    pub fn parse(file: &Bytes) -> Result<Self> {
        let malformed = |text: String| Err(Error::Malformed(text));
        let Some((length, rest)) = file.split_first_chunk::<8>() else {
            return malformed(format!(
                "a safetensors file of {} bytes; the length of its header alone has 8",
                file.len()
            ));
        };
        let length = u64::from_le_bytes(*length);
        if length > rest.len() as u64 {
            return malformed(format!("the header claims {length} bytes, but only {} follow", rest.len()));
        }
        if length > MAX_HEADER_BYTES {
            return Err(Error::Unsupported(format!(
                "a header of {length} bytes; at most {MAX_HEADER_BYTES} are accepted"
            )));
        }
        let data_start = 8 + length as usize;
        let header: Metadata = match serde_json::from_slice(&file[8..data_start]) {
            Ok(header) => header,
            Err(error) => return malformed(format!("the header is damaged: {}", quoted(&error.to_string()))),
        };
        let data = file.slice(data_start..);
        // The crate has checked that the tensors follow each other without a gap, so the last end is the sum of all.
        if header.data_len() != data.len() {
            let claimed = header.data_len();
            return malformed(format!("the header places {claimed} bytes of tensors, but the file has {}", data.len()));
        }
        let mut tensors = BTreeMap::new();
        for (name, info) in header.tensors() {
            if info.shape.len() > MAX_AXES {
                let (name, axes) = (quoted(&name), info.shape.len());
                return Err(Error::Unsupported(format!("tensor {name} has {axes} axes; at most {MAX_AXES} are read")));
            }
            let (start, end) = info.data_offsets;
            let (mut shape, axes) = (info.shape.clone(), info.shape.len());
            while shape.len() > 2 && shape.last() == Some(&1) {
                shape.pop(); // what is left of a convolution over one place
            }
            let tensor = StoredTensor { dtype: info.dtype, shape, axes, data: data.slice(start..end) };
            tensors.insert(name, tensor);
        }
        Ok(Self { tensors, files: 1, bytes: file.len() })
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Files that the tensors lie in.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Bytes of all these files.
    pub fn file_bytes(&self) -> usize {
        self.bytes
    }
}

impl StoredTensor {
    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product() // does not wrap: the header was checked
    }
}

impl fmt::Debug for StoredTensor {
    /// Without the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("tensors", &self.tensors).field("files", &self.files).finish_non_exhaustive()
    }
}
