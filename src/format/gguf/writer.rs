//! Writing GGUF files, one tensor at a time: sizes follow from shapes and encodings, so that the header and the whole
//! directory can be written before the first tensor is made, and no more than one tensor is ever in memory.
//!
//! ```
//! use sterna::format::encodings::Encoding;
//! use sterna::format::gguf::{Layout, TensorPlan, Value};
//!
//! let keys = [("general.architecture".to_owned(), Value::String("bitnet".into()))];
//! let tensors = [TensorPlan { name: "output_norm.weight".into(), rows: 1, cols: 2, matrices: 1, encoding: Encoding::F32 }];
//! let layout = Layout::new(&keys, &tensors)?;
//! let mut writer = layout.write(Vec::new()).unwrap();
//! writer.tensor(&[0; 8]).unwrap();
//! assert_eq!(writer.finish().unwrap().len() as u64, layout.file_bytes());
//! # Ok::<(), sterna::Error>(())
//! ```

use std::collections::HashSet;
use std::io::{self, Write};

use super::metadata::{ARRAY, Array, BOOL, F32, F64, STRING, Value};
use super::{DEFAULT_ALIGNMENT, directory, pairs, quoted};
use crate::error::{Error, Result};
use crate::format::encodings::Encoding;

/// What bytes of the file before the tensors must be zero-filled to, and each tensor too.
const ALIGNMENT: usize = DEFAULT_ALIGNMENT;

/// The longest tensor name, in bytes, that ggml reads.
const MAX_NAME_BYTES: usize = 63;

const U32: u32 = 4;
const I32: u32 = 5;
const U64: u32 = 10;
const I64: u32 = 11;

/// A tensor that will be written.
#[derive(Clone, Debug)]
pub struct TensorPlan {
    /// Unique in the file, at most 63 bytes, as ggml demands.
    pub name: String,
    /// Output features; 1 for a vector, which has one axis in the file.
    pub rows: usize,
    /// Input features: the contiguous axis.
    pub cols: usize,
    /// Matrices that lie one behind the other, among which the rows are shared; 1 for any but those of experts.
    pub matrices: usize,
    /// How its bytes are encoded.
    pub encoding: Encoding,
}

/// Everything of a file but the tensors' bytes.
#[derive(Clone, Debug)]
pub struct Layout {
    head: Vec<u8>,     // header, keys and directory, padded
    sizes: Vec<usize>, // bytes of each tensor, without padding
}

impl Layout {
    /// Lays a file of version 3 out. Integers become 32 bits wide and floats f32 where nothing is lost, which is what
    /// llama.cpp expects of most keys. Tensors lie one behind the other in the given order, each at a multiple of 32.
    ///
    /// # Errors
    /// [`Error::Input`], naming the key or tensor, for empty or repeated names, names and numbers of them that readers
    /// refuse, the key `general.alignment` (it is always 32), and shapes that an encoding does not have.
    pub fn new(metadata: &[(String, Value)], tensors: &[TensorPlan]) -> Result<Self> {
        check_keys(metadata)?;
        let sizes = tensors.iter().map(size).collect::<Result<Vec<_>>>()?;
        check_names(tensors)?;
        let mut head = b"GGUF".to_vec();
        head.extend(3u32.to_le_bytes());
        head.extend((tensors.len() as u64).to_le_bytes());
        head.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            push_text(&mut head, key);
            push_value(&mut head, value);
        }
        let mut offset = 0;
        for (tensor, size) in tensors.iter().zip(&sizes) {
            push_text(&mut head, &tensor.name);
            let axes = [tensor.cols, tensor.rows / tensor.matrices, tensor.matrices].map(|axis| axis as u64);
            let count = match tensor.matrices {
                1 if tensor.rows == 1 => 1,
                1 => 2,
                _ => 3,
            };
            let axes = &axes[..count];
            head.extend((axes.len() as u32).to_le_bytes());
            head.extend(axes.iter().flat_map(|axis| axis.to_le_bytes()));
            head.extend(tensor.encoding.ggml_type().to_le_bytes());
            head.extend((offset as u64).to_le_bytes());
            offset += size.next_multiple_of(ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
        Ok(Self { head, sizes })
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        let tensors: u64 = self.sizes.iter().map(|size| size.next_multiple_of(ALIGNMENT) as u64).sum();
        self.head.len() as u64 + tensors
    }

    /// Writes the header, the keys and the directory, and returns what takes the tensors.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write<W: Write>(&self, mut out: W) -> io::Result<Writer<'_, W>> {
        out.write_all(&self.head)?;
        Ok(Writer { out, left: self.sizes.iter() })
    }
}

/// A file whose tensors are written one after the other, in the order of its [`Layout`].
pub struct Writer<'a, W: Write> {
    out: W,
    left: std::slice::Iter<'a, usize>, // sizes of the tensors that are still to come
}

impl<W: Write> Writer<'_, W> {
    /// Writes the next tensor.
    ///
    /// # Errors
    /// Those of the file.
    ///
    /// # Panics
    /// If all tensors are written, or the bytes are not as many as the encoding has for the shape.
    pub fn tensor(&mut self, bytes: &[u8]) -> io::Result<()> {
        let size = *self.left.next().expect("the layout has this many tensors");
        assert_eq!(bytes.len(), size, "the bytes of the tensor that the layout announced");
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; ALIGNMENT][..size.next_multiple_of(ALIGNMENT) - size])
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of the file.
    ///
    /// # Panics
    /// If tensors are missing.
    pub fn finish(mut self) -> io::Result<W> {
        assert_eq!(self.left.len(), 0, "all tensors of the layout are written");
        self.out.flush()?;
        Ok(self.out)
    }
}

fn check_keys(metadata: &[(String, Value)]) -> Result<()> {
    let mut seen = HashSet::new();
    for (key, _) in metadata {
        let key_text = quoted(key);
        let wrong = match key.len() {
            0 => "is empty",
            _ if key.len() > pairs::MAX_KEY_BYTES => "is longer than readers accept",
            _ if key == "general.alignment" => "is not written: tensors always lie at multiples of 32 bytes",
            _ if !seen.insert(key) => "is there twice",
            _ => continue,
        };
        return Err(Error::Input(format!("the key {key_text} {wrong}")));
    }
    match metadata.len() as u64 <= pairs::MAX_KEYS {
        true => Ok(()),
        false => Err(Error::Input(format!("{} keys are more than readers accept", metadata.len()))),
    }
}

fn check_names(tensors: &[TensorPlan]) -> Result<()> {
    let mut seen = HashSet::new();
    for TensorPlan { name, .. } in tensors {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            let text = quoted(name);
            return Err(Error::Input(format!("the tensor name {text} must have 1 to {MAX_NAME_BYTES} bytes")));
        }
        if !seen.insert(name) {
            return Err(Error::Input(format!("the tensor {} is there twice", quoted(name))));
        }
    }
    match tensors.len() as u64 <= directory::MAX_TENSORS {
        true => Ok(()),
        false => Err(Error::Input(format!("{} tensors are more than readers accept", tensors.len()))),
    }
}

fn size(tensor: &TensorPlan) -> Result<usize> {
    let size = tensor.encoding.encoded_size(tensor.rows, tensor.cols);
    size.map_err(|error| Error::Input(format!("tensor {}: {error}", quoted(&tensor.name))))
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn push_value(out: &mut Vec<u8>, value: &Value) {
    let mut push = |type_id: u32, bytes: &[u8]| {
        out.extend(type_id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::Unsigned(n) => match u32::try_from(*n) {
            Ok(n) => push(U32, &n.to_le_bytes()),
            Err(_) => push(U64, &n.to_le_bytes()),
        },
        Value::Signed(n) => match i32::try_from(*n) {
            Ok(n) => push(I32, &n.to_le_bytes()),
            Err(_) => push(I64, &n.to_le_bytes()),
        },
        Value::Float(x) if f64::from(*x as f32).to_bits() == x.to_bits() => push(F32, &(*x as f32).to_le_bytes()),
        Value::Float(x) => push(F64, &x.to_le_bytes()),
        Value::Bool(b) => push(BOOL, &[u8::from(*b)]),
        Value::String(text) => {
            push(STRING, &[]);
            push_text(out, text);
        }
        Value::Array(array) => {
            push(ARRAY, &[]);
            push_array(out, array);
        }
    }
}

fn push_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    out.extend(array.bytes());
}
