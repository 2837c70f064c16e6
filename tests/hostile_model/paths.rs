//! Paths to what is no file of weights, and files whose length is a lie, mapped and read: an error that names the path,
//! without waiting for a writer and without memory for what never comes.

use std::path::Path;

use sterna::Error;
use sterna::model::{Model, OpenOptions};

use crate::counting_allocator::peak_bytes;
use crate::edit::{TemporaryFile, golden};
use crate::{FILES, memory};

fn read() -> OpenOptions {
    OpenOptions { map: false, ..OpenOptions::default() }
}

/// Opens the path both ways, expects an error that names it, and returns the texts: mapped, read.
#[cfg(unix)]
fn refused(path: &Path) -> [String; 2] {
    [OpenOptions::default(), read()].map(|options| {
        let (opened, peak) = peak_bytes(|| Model::open_with(path, &options));
        let error = opened.expect_err("this is no model");
        assert!(peak < memory::SMALL_MODEL_BYTES, "{error}: {peak} bytes");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        error.to_string()
    })
}

#[test]
fn reading_holds_the_length_of_the_file_and_a_constant() {
    let mut long = golden(FILES[0]);
    long.resize(long.len() + (8 << 20), 0); // behind the last tensor anything may follow
    let file = TemporaryFile::new(&long);
    let (model, peak) = peak_bytes(|| Model::open_with(&file.path, &read()));
    assert!(model.is_ok() && peak >= long.len(), "{peak} bytes");
    assert!(peak < long.len() + memory::SMALL_MODEL_BYTES, "{peak} bytes for a file of {}", long.len());
}

#[test]
fn a_path_to_nothing_names_it_whether_mapped_or_read() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("absent.gguf");
    for options in [OpenOptions::default(), read()] {
        let error = Model::open_with(&path, &options).unwrap_err();
        assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn devices_are_not_read() {
    for device in ["/dev/zero", "/dev/null"] {
        assert!(refused(Path::new(device)).iter().all(|text| text.contains("not a regular file")), "{device}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("pipes-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let pipe = |name: &str| {
        let path = directory.join(name);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        path
    };
    for path in [pipe("model.gguf"), pipe("config.json")] {
        // The second as the config of a directory.
        let opened = if path.ends_with("config.json") { &directory } else { &path };
        let texts = refused(opened);
        assert!(texts.iter().all(|text| text.contains("not a regular file")), "{texts:?}");
    }
    std::fs::remove_dir_all(&directory).ok(); // below the build directory: what stays does no harm
}

/// Files of the kernel say that they are empty, and are not.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_longer_than_it_says_is_refused_when_it_is_read() {
    let [mapped, read] = refused(Path::new("/proc/self/maps"));
    assert!(mapped.contains("the file is empty"), "{mapped}");
    assert!(read.contains("more than the 0 bytes"), "{read}");
}
