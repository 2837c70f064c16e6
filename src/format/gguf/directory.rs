//! The tensor directory: names, shapes, types and places. Each tensor's span is measured from the file itself (up to
//! the next tensor), because one type id means different sizes to different writers, and the span tells them apart.

use super::reader::Reader;
use super::{quoted, within};
use crate::error::{Error, Result};

/// The most tensors a file may have. Dense models have some hundreds, mixtures with unmerged experts some ten
/// thousands; in memory a tensor takes up to 150 bytes and its name while it is parsed, so this many are 10 MB.
pub(super) const MAX_TENSORS: u64 = 65_536;

/// The longest tensor name, in bytes. ggml itself stops at 63, other writers do not.
const MAX_NAME_BYTES: usize = 1024;

/// The most axes of a tensor (GGUF specification).
const MAX_AXES: u32 = 4;

/// The shortest entry: the length of the name, one byte of name, number of axes, one axis, type, offset.
const MIN_ENTRY_BYTES: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// One tensor of the directory. Its span lies within the file, shares no byte with another tensor's span and has at
/// least one bit for each element.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Unique in the file, not empty.
    pub name: String,
    /// One to four axes, contiguous axis first: `[input features, output features, experts]`. None is zero.
    pub shape: Vec<usize>,
    /// The ggml type id. Forks give one id different meanings: compare the size of each with [`TensorInfo::span`].
    pub type_id: u32,
    /// Where the data starts, in bytes from the start of the file.
    pub offset: usize,
    /// Bytes up to the tensor that comes next in the file, or to the end of the file: the encoded size plus padding
    /// (and, for the last tensor, whatever follows it).
    pub span: usize,
}

impl TensorInfo {
    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.shape.iter().product() // does not wrap: checked when the entry was parsed
    }

    /// Input features: the length of a row, the contiguous axis.
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// Output features, times experts if there are any; 1 for a vector.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// Reads `count` entries, finds where the data section starts, and measures each tensor's span.
pub(super) fn parse(reader: &mut Reader<'_>, count: u64, alignment: usize) -> Result<Vec<TensorInfo>> {
    reader.expect_entries(count, MIN_ENTRY_BYTES, "tensors")?;
    if count > MAX_TENSORS {
        return Err(Error::Unsupported(format!("a file with {count} tensors: at most {MAX_TENSORS} are accepted")));
    }
    let mut tensors = Vec::new(); // grows with what was read, not with what was claimed
    for number in 0..count {
        let start = reader.at();
        let tensor =
            entry(reader, alignment).map_err(|error| within(format_args!("tensor {number} at byte {start}"), error))?;
        tensors.push(tensor);
    }
    place(&mut tensors, reader.at(), alignment, reader.file_bytes())?;
    Ok(tensors)
}

/// One entry, with its offset still counted from the data section, and without a span.
fn entry(reader: &mut Reader<'_>, alignment: usize) -> Result<TensorInfo> {
    let name = reader.text("name")?;
    match name.len() {
        0 => return Err(Error::Malformed("the name is empty".into())),
        1..=MAX_NAME_BYTES => {}
        length => {
            let text = format!("the name has {length} bytes, at most {MAX_NAME_BYTES} are accepted");
            return Err(Error::Unsupported(text));
        }
    }
    shape_and_place(reader, name, alignment).map_err(|error| within(quoted(name), error))
}

fn shape_and_place(reader: &mut Reader<'_>, name: &str, alignment: usize) -> Result<TensorInfo> {
    let axes = reader.u32("number of axes")?;
    if !(1..=MAX_AXES).contains(&axes) {
        return Err(Error::Malformed(format!("it has {axes} axes, but 1 to {MAX_AXES} are allowed")));
    }
    let mut shape = Vec::new();
    let mut elements = Some(1_usize);
    for _ in 0..axes {
        let length = reader.count("length of an axis")?;
        let length = usize::try_from(length).ok().filter(|&length| length > 0);
        elements = elements.zip(length).and_then(|(product, length)| product.checked_mul(length));
        shape.extend(length);
    }
    if elements.is_none() {
        return Err(Error::Malformed("an axis of it is zero, or it has more elements than memory can address".into()));
    }
    // Some writers pad shapes to four axes.
    while shape.len() > 2 && shape.last() == Some(&1) {
        shape.pop();
    }
    let type_id = reader.u32("type")?;
    let offset = reader.u64("offset")?;
    match usize::try_from(offset) {
        Ok(offset) if offset.is_multiple_of(alignment) => {
            Ok(TensorInfo { name: name.to_owned(), shape, type_id, offset, span: 0 })
        }
        Ok(_) => Err(Error::Malformed(format!("its offset {offset} is not a multiple of the alignment {alignment}"))),
        Err(_) => Err(Error::Malformed(format!("its offset {offset} is more than memory can address"))),
    }
}

/// Counts offsets from the start of the file and sets the spans. The directory ends at byte `directory_end`.
fn place(tensors: &mut [TensorInfo], directory_end: usize, alignment: usize, file_bytes: usize) -> Result<()> {
    let data_start = directory_end.checked_next_multiple_of(alignment); // None only near the end of the address space
    for tensor in &mut *tensors {
        let offset = data_start.and_then(|start| start.checked_add(tensor.offset));
        tensor.offset = offset.filter(|&offset| offset < file_bytes).ok_or_else(|| {
            Error::Malformed(format!(
                "tensor {}: its data starts {} bytes into the data section, which is past the end of the file \
                 ({file_bytes} bytes): the file is cut off or damaged",
                quoted(&tensor.name),
                tensor.offset
            ))
        })?;
    }

    let mut by_offset: Vec<u32> = (0..tensors.len() as u32).collect(); // at most MAX_TENSORS
    by_offset.sort_unstable_by_key(|&i| (tensors[i as usize].offset, i));
    let mut end = file_bytes;
    for &i in by_offset.iter().rev() {
        let tensor = &mut tensors[i as usize];
        tensor.span = end - tensor.offset;
        end = tensor.offset;
        check_span(tensor)?;
    }
    Ok(())
}

/// No known encoding stores a weight in less than a bit, so a longer shape is a lie that no decoder should size a
/// buffer by. The exact size is checked where the type is known.
fn check_span(tensor: &TensorInfo) -> Result<()> {
    let TensorInfo { name, shape, offset, span, .. } = tensor;
    let name = quoted(name);
    if *span == 0 {
        return Err(Error::Malformed(format!("tensor {name} overlaps another: both start at byte {offset}")));
    }
    if tensor.elements().div_ceil(8) > *span {
        return Err(Error::Malformed(format!(
            "tensor {name} of shape {shape:?} has only the {span} bytes from byte {offset} on, less than one bit for \
             each weight: another tensor starts within it, or the file is cut off"
        )));
    }
    Ok(())
}

/// The indices of the tensors sorted by name; a name that occurs twice is an error.
pub(super) fn index_by_name(tensors: &[TensorInfo]) -> Result<Vec<u32>> {
    let name = |i: u32| tensors[i as usize].name.as_str();
    let mut by_name: Vec<u32> = (0..tensors.len() as u32).collect(); // at most MAX_TENSORS
    by_name.sort_unstable_by(|&a, &b| name(a).cmp(name(b)));
    match by_name.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        Some(pair) => {
            let (first, second) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            Err(Error::Malformed(format!("tensors {first} and {second} have the same name, {}", quoted(name(first)))))
        }
        None => Ok(by_name),
    }
}
