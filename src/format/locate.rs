//! Which files a path means: people name the folder that they downloaded as often as the file in it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::safetensors::{INDEX_FILE, WEIGHTS_FILE};

/// The most names that an error lists.
const MOST_NAMED: usize = 8;

/// What a path means as a model: itself, or for a directory without safetensors files the one GGUF file in it (of a model in
/// parts, the first).
///
/// # Errors
/// [`Error::Input`] if a directory holds several such files, naming them; [`Error::Io`] if it cannot be read.
pub fn locate(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    if !path.is_dir() || [WEIGHTS_FILE, INDEX_FILE].iter().any(|name| path.join(name).exists()) {
        return Ok(path.to_owned());
    }
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(|cause| Error::io(path, cause))? {
        let entry = entry.map_err(|cause| Error::io(path, cause))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(is_model) && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    match names.as_slice() {
        [] => Ok(path.to_owned()),
        [name] => Ok(path.join(name)),
        several => {
            let mut list: Vec<_> = several.iter().take(MOST_NAMED).map(|name| name.to_string_lossy()).collect();
            if several.len() > MOST_NAMED {
                list.push("…".into());
            }
            let (count, list) = (several.len(), list.join(", "));
            Err(Error::Input(format!(
                "{}: {count} GGUF files are in this folder, name one of them: {list}",
                path.display()
            )))
        }
    }
}

/// Whether a file of this name is a model, or the first part of one. What is called mmproj has the part of a model that sees.
fn is_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let Some(stem) = name.strip_suffix(".gguf") else { return false };
    let part = stem.rsplit_once("-of-").and_then(|(rest, _)| rest.rsplit_once('-')).map(|(_, part)| part);
    let is_first =
        part.is_none_or(|part| part.parse::<u64>().is_ok_and(|part| part == 1) || part.parse::<u64>().is_err());
    is_first && !stem.starts_with("mmproj")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_one_model_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
        let found = || locate(folder.path());
        assert_eq!(found().unwrap(), folder.path(), "an empty one means itself");
        for name in ["README.md", "mmproj-model.gguf", ".model.gguf.part"] {
            put(name);
        }
        assert_eq!(found().unwrap(), folder.path(), "there is no model yet");
        put("m-00002-of-00002.gguf");
        put("m-00001-of-00002.GGUF");
        assert_eq!(found().unwrap(), folder.path().join("m-00001-of-00002.GGUF"));
        put("a-of-b.gguf");
        let error = found().unwrap_err().to_string();
        assert!(error.contains("2 GGUF files") && error.ends_with("a-of-b.gguf, m-00001-of-00002.GGUF"), "{error}");
        put(WEIGHTS_FILE);
        assert_eq!(found().unwrap(), folder.path(), "with safetensors files it is a model itself");
        let file = folder.path().join("README.md");
        assert_eq!(locate(&file).unwrap(), file);
    }
}
