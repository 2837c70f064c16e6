//! Directories of a test's own, made from golden ones and changed; and safetensors files taken apart and put together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value as Json;

use crate::data;

/// Removed when it goes out of scope.
pub struct Directory {
    pub path: PathBuf,
}

/// A tensor as it is written.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Directory {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("directory-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// Config and weights of a golden model, with the tokenizer that all share.
    pub fn golden(name: &str) -> Self {
        let directory = Self::new();
        for file in ["config.json", "model.safetensors"] {
            directory.write(file, &std::fs::read(data(name).join(file)).unwrap());
        }
        directory.write("tokenizer.json", &std::fs::read(data("tokenizer.json")).unwrap());
        directory
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path.join(name), bytes).unwrap();
    }

    pub fn write_json(&self, name: &str, json: &Json) {
        self.write(name, json.to_string().as_bytes());
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path.join(name)).unwrap();
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path.join(name)).unwrap()
    }

    /// Changes the config.
    pub fn config(&self, change: impl FnOnce(&mut Json)) -> &Self {
        let mut config: Json = serde_json::from_slice(&self.bytes("config.json")).unwrap();
        change(&mut config);
        self.write_json("config.json", &config);
        self
    }

    /// Changes the tensors.
    pub fn tensors(&self, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> &Self {
        let mut all = tensors(&self.bytes("model.safetensors"));
        change(&mut all);
        self.write("model.safetensors", &file(&all));
        self
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok(); // below the build directory: what stays does no harm
    }
}

/// The tensors of a file.
pub fn tensors(file: &[u8]) -> BTreeMap<String, Tensor> {
    let file = SafeTensors::deserialize(file).unwrap();
    let own = |view: TensorView| Tensor { dtype: view.dtype(), shape: view.shape().into(), bytes: view.data().into() };
    file.tensors().into_iter().map(|(name, view)| (name, own(view))).collect()
}

/// A file of tensors.
pub fn file<'a>(tensors: &'a BTreeMap<String, Tensor>) -> Vec<u8> {
    let view = |(name, t): (&'a String, &'a Tensor)| {
        (name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap())
    };
    serialize(tensors.iter().map(view), None).unwrap()
}

/// A file with this header and no data.
pub fn raw(header: &str) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}
