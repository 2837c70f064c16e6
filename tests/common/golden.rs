//! Reference values that an independent implementation wrote.

use std::path::Path;

use safetensors::SafeTensors;

/// A safetensors file. Its numbers are little-endian, as are the machines that tests run on.
pub struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads a file of `tests/data`.
    pub fn read(path: &str) -> Self {
        Self { bytes: std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)).unwrap() }
    }

    /// The directory of the file.
    pub fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    /// The values of a tensor, in the number format that it has.
    pub fn values<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        let tensor = self.file().tensor(name).unwrap_or_else(|_| panic!("no reference value \"{name}\""));
        bytemuck::pod_collect_to_vec(tensor.data())
    }
}
