//! Every golden model, converted to every encoding, is the same model: trits, logits, ids of text; or it is refused.

#[path = "../common/cpu.rs"]
mod cpu;
#[expect(dead_code, reason = "few keys are changed here")]
#[path = "../common/gguf_edit.rs"]
mod edit;
#[expect(dead_code, reason = "only where the fields lie is of interest here")]
#[path = "../common/gguf_fields.rs"]
mod gguf_fields;
#[expect(dead_code, reason = "files are taken apart here, not made")]
#[path = "../common/gguf_writer.rs"]
mod gguf_writer;
#[path = "../common/golden.rs"]
mod reference_values;

mod empty;
mod files;
mod keys;
mod logits;
mod refusals;
mod writer;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use sterna::convert::{ConvertOptions, Report, convert};
use sterna::format::encodings::Encoding;
use sterna::model::Model;

/// A file or directory of the golden data.
fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(path)
}

/// A directory of a test's own, removed when it goes out of scope.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("convert-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// Config and weights of a golden model in Hugging Face form, with the tokenizer that all share.
    fn hugging_face(name: &str) -> Self {
        let directory = Self::new();
        for entry in std::fs::read_dir(golden(name)).unwrap().map(Result::unwrap) {
            let file = entry.file_name().into_string().unwrap();
            if file == "config.json"
                || file == "hadamard.json"
                || (file.starts_with("model") && !file.ends_with(".gguf"))
            {
                std::fs::copy(entry.path(), directory.path.join(file)).unwrap();
            }
        }
        std::fs::copy(golden("tokenizer.json"), directory.path.join("tokenizer.json")).unwrap();
        directory
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path.join(name), text).unwrap();
    }

    /// The names of the files in it.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok(); // below the build directory: what stays does no harm
    }
}

/// A model that was converted, and its file.
struct Converted {
    model: Model,
    report: Report,
    directory: Directory,
}

impl Converted {
    fn path(&self) -> PathBuf {
        self.directory.path.join("converted.gguf")
    }
}

fn try_to_convert(model: &Model, options: &ConvertOptions) -> sterna::Result<Converted> {
    let directory = Directory::new();
    let path = directory.path.join("converted.gguf");
    let outcome = convert(model, &path, options, &mut |_| ControlFlow::Continue(()));
    let names = directory.names();
    let expected: &[&str] = if outcome.is_ok() { &["converted.gguf"] } else { &[] };
    assert_eq!(names, expected, "nothing else is left");
    let report = outcome?.expect("nobody stopped it");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), report.file_bytes);
    Ok(Converted { model: Model::open(&path)?, report, directory })
}

fn converted(model: &Model, encoding: Encoding) -> Converted {
    try_to_convert(model, &ConvertOptions::new(encoding)).unwrap_or_else(|error| panic!("{encoding}: {error}"))
}
