//! Small files that are kept between runs, in the user's cache directory: compiled pipelines, and what a trial of a GPU took.
//!
//! What lies in the cache's folder is taken for what it may be: only a regular file of a cache's size is read, only such a one is
//! replaced, and a folder that is a link is left alone.

use std::fs;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};

use crate::format::file::read_short;

/// The file of that name in the user's cache directory, if there is such a directory.
pub(crate) fn path(name: &str) -> Option<PathBuf> {
    directory().map(|directory| directory.join(name))
}

/// The bytes of a cache; none where there is none, or what is there is no file of ours, or is longer, which is told in the log.
pub(crate) fn read(path: &Path, most_bytes: usize) -> Option<Vec<u8>> {
    let bytes = match fs::symlink_metadata(path) {
        Err(_) => return None, // the first run
        Ok(_) => check_folder(path).map_err(|cause| cause.to_string()).and_then(|()| {
            read_short(path, most_bytes).map_err(|error| error.to_string()) // it takes regular files only
        }),
    };
    bytes.inspect_err(|why| log::warn!("the cache {} is ignored: {why}", path.display())).ok()
}

/// Writes a cache, whole or not at all. One that cannot be written is no error, but a note in the log.
pub(crate) fn write(path: &Path, data: &[u8]) {
    if let Err(cause) = replace(path, data) {
        log::info!("the cache {} cannot be written: {cause}", path.display());
    }
}

/// Puts the bytes into a file under another name, and renames that.
fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file in a folder");
    fs::create_dir_all(folder)?;
    check_folder(path)?;
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(Error::other("something is there that is no regular file"));
    }
    let mut file = tempfile::Builder::new().prefix(".sterna.").tempfile_in(folder)?;
    file.write_all(data)?;
    file.persist(path)?;
    Ok(())
}

/// A folder that is a link may lead to where others write.
fn check_folder(path: &Path) -> Result<()> {
    match path.parent().map(fs::symlink_metadata) {
        Some(Ok(there)) if there.is_dir() => Ok(()),
        _ => Err(Error::other("its folder is a link, or no folder")),
    }
}

/// `sterna` in the directory where this platform keeps caches.
fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = match () {
        () if cfg!(windows) => variable("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => variable("HOME").map(|home| home.join("Library/Caches")),
        () => variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache"))),
    };
    caches.map(|caches| caches.join("sterna"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_BYTES: usize = 1 << 20;

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_cache_is_written_whole_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sterna/cache");
        assert_eq!(read(&path, MOST_BYTES), None);
        for bytes in [&b"first"[..], b"second, and longer"] {
            replace(&path, bytes).unwrap();
            assert_eq!(read(&path, MOST_BYTES).as_deref(), Some(bytes));
        }
        assert_eq!(names(path.parent().unwrap()), ["cache"], "no partial file stays");
    }

    #[test]
    fn a_file_longer_than_any_cache_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let file = fs::File::create(&path).unwrap();
        file.set_len(MOST_BYTES as u64).unwrap();
        assert_eq!(read(&path, MOST_BYTES).map(|bytes| bytes.len()), Some(MOST_BYTES));
        file.set_len(MOST_BYTES as u64 + 1).unwrap();
        assert_eq!(read(&path, MOST_BYTES), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_replaced() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (endless, socket) = (folder.path().join("endless"), folder.path().join("socket"));
        symlink("/dev/zero", &endless).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&endless, &socket, &folder.path().join("folder")] {
            if path.ends_with("folder") {
                fs::create_dir(path).unwrap();
            }
            assert_eq!(read(path, MOST_BYTES), None, "{}", path.display());
            replace(path, b"bytes").unwrap_err();
        }
        assert!(fs::symlink_metadata(&endless).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(names(folder.path()).len(), 3, "no partial file stays");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_a_link_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (home.path().join("elsewhere"), home.path().join("sterna"));
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        fs::write(elsewhere.join("cache"), b"not ours").unwrap();
        assert_eq!(read(&link.join("cache"), MOST_BYTES), None);
        replace(&link.join("cache"), b"bytes").unwrap_err();
        assert_eq!(fs::read(elsewhere.join("cache")).unwrap(), b"not ours");
    }
}
