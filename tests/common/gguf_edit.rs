//! A golden file taken apart into its keys and tensors, to be changed, and written to a place of its own that is removed
//! afterwards. Include it as `edit`, with `gguf_fields` and `gguf_writer` beside it.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use sterna::format::gguf::Gguf;

use crate::gguf_fields::fields;
use crate::gguf_writer::{GgufWriter, Tensor, string};

/// The bytes of a golden file.
pub fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A golden file as keys and tensors. Values are copied byte by byte, so that written again it is the same file.
pub fn parts(name: &str) -> GgufWriter {
    let file = golden(name);
    let gguf = Gguf::parse(file.clone().into()).unwrap();
    let mut writer = GgufWriter::new();
    let mut marks = fields(&file).into_iter().skip(3).peekable(); // behind the version and the two counts
    for (key, _) in gguf.metadata().iter() {
        let key_length = marks.next().expect("each key has a length");
        assert_eq!(&file[key_length.end()..][..key.len()], key.as_bytes());
        let value_type = marks.next().expect("each value has a type");
        let value = value_type.end();
        // All lengths and types within the value are skipped, up to the next key or the first tensor.
        let next = loop {
            match marks.peek() {
                Some(mark) if mark.name == "key length" || mark.name == "tensor name length" => break mark.at,
                Some(_) => marks.next(),
                None => unreachable!("tensors follow the keys"),
            };
        };
        writer.pairs.push((key.into(), u32::from(file[value_type.at]), file[value..next].to_vec()));
    }
    for info in gguf.tensors() {
        let shape = info.shape.iter().map(|&axis| axis as u64).collect();
        let data = gguf.data(info).to_vec();
        writer.tensors.push(Tensor {
            name: info.name.clone().into(),
            shape,
            type_id: info.type_id,
            offset: None,
            data,
        });
    }
    assert!(writer.bytes() == file, "{name} is written as it was read");
    writer
}

impl GgufWriter {
    /// Replaces a key, or adds it.
    pub fn set(&mut self, key: &str, type_id: u32, value: impl Into<Vec<u8>>) -> &mut Self {
        self.unset(key);
        self.pairs.push((key.into(), type_id, value.into()));
        self
    }

    /// Removes a key if it is there.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.pairs.retain(|(name, _, _)| name != key.as_bytes());
        self
    }

    pub fn set_text(&mut self, key: &str, text: &str) -> &mut Self {
        self.set(key, 8, string(text))
    }

    pub fn set_u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.set(key, 4, value.to_le_bytes())
    }

    pub fn set_f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.set(key, 6, value.to_le_bytes())
    }

    /// The tensor of that name, to be changed.
    pub fn named(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes()).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn add(&mut self, name: &str, shape: &[u64], type_id: u32, data: impl Into<Vec<u8>>) -> &mut Self {
        let data = data.into();
        self.tensors.push(Tensor { name: name.into(), shape: shape.into(), type_id, offset: None, data });
        self
    }
}

/// A file that is removed when it goes out of scope. It may only be changed while nobody has it open.
pub struct TemporaryFile {
    pub path: PathBuf,
    file: File,
}

impl TemporaryFile {
    pub fn new(bytes: &[u8]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("edited-{}-{number}.gguf", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
        let mut temporary = Self { path, file };
        temporary.overwrite(0, bytes);
        temporary
    }

    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        self.file.seek(SeekFrom::Start(at as u64)).unwrap();
        self.file.write_all(bytes).unwrap();
    }

    pub fn cut(&mut self, length: usize) {
        self.file.set_len(length as u64).unwrap();
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok(); // the directory is a build directory: what stays does no harm
    }
}
