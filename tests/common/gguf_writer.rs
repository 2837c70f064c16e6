//! Builds small GGUF files for tests, byte by byte and without any check, so that broken files are as easy to write as
//! sound ones. Include it with `#[path = "common/gguf_writer.rs"] mod gguf_writer;`.

/// A file in the making. Tests may change every field; `bytes` writes what is there.
pub struct GgufWriter {
    pub version: u32,
    /// Where each tensor starts is a multiple of this. Says nothing in the file: add `general.alignment` for that.
    pub alignment: usize,
    /// Key, type id and the encoded value.
    pub pairs: Vec<(Vec<u8>, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
}

/// One entry of the directory and its data.
pub struct Tensor {
    pub name: Vec<u8>,
    pub shape: Vec<u64>,
    pub type_id: u32,
    /// In the file: counted from the data section. `None` places the tensor behind its predecessor.
    pub offset: Option<u64>,
    pub data: Vec<u8>,
}

impl GgufWriter {
    /// A file of version 3 without keys and tensors.
    pub fn new() -> Self {
        Self { version: 3, alignment: 32, pairs: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a key; `value` is the encoded value (see [`string`] and [`array`]).
    pub fn pair(mut self, key: &str, type_id: u32, value: impl Into<Vec<u8>>) -> Self {
        self.pairs.push((key.into(), type_id, value.into()));
        self
    }

    /// Adds a tensor behind the last one.
    pub fn tensor(mut self, name: &str, shape: &[u64], type_id: u32, data: impl Into<Vec<u8>>) -> Self {
        self.tensors.push(Tensor { name: name.into(), shape: shape.into(), type_id, offset: None, data: data.into() });
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, type_id, value) in &self.pairs {
            file.extend(string(key));
            file.extend(type_id.to_le_bytes());
            file.extend(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            data.resize(data.len().next_multiple_of(self.alignment), 0);
            file.extend(string(&tensor.name));
            file.extend((tensor.shape.len() as u32).to_le_bytes());
            file.extend(tensor.shape.iter().flat_map(|length| length.to_le_bytes()));
            file.extend(tensor.type_id.to_le_bytes());
            file.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
        }
        file.resize(file.len().next_multiple_of(self.alignment), 0);
        file.extend(data);
        file
    }
}

/// A string: its length, then its bytes.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array: element type, count, then the encoded elements.
pub fn array(element_type: u32, count: u64, elements: impl AsRef<[u8]>) -> Vec<u8> {
    [&element_type.to_le_bytes()[..], &count.to_le_bytes(), elements.as_ref()].concat()
}
