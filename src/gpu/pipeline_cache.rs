//! Compiled pipelines, kept on disk between runs where the driver lets us (Vulkan): a driver that keeps no cache of its own
//! takes seconds to compile them.
//!
//! What lies in the cache's folder is taken for what it may be: only a regular file of a cache's size is read, only such a one is
//! replaced, and a folder that is a link is left alone.

use std::fs;
use std::io::{Error, Result, Write};
use std::path::{Path, PathBuf};

use crate::format::file::read_short;

/// The longest file that is read, in bytes; those of all our shaders have a few millions.
const MOST_BYTES: usize = 64 << 20;

/// The cache of one device. A file that is missing or damaged is as good as an empty one: the driver checks it.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    raw: Option<wgpu::PipelineCache>,
    path: Option<PathBuf>,
}

impl PipelineCache {
    /// Reads the device's cache from the user's cache directory.
    pub(crate) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Self {
        let key = wgpu::util::pipeline_cache_key(info);
        let Some(key) = key.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE)) else {
            return Self { raw: None, path: None };
        };
        let path = directory().map(|directory| directory.join(key));
        let data = path.as_deref().and_then(read);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("sterna"), data: data.as_deref(), fallback: true };
        // SAFETY: the file is one that this function's counterpart wrote, in a directory of the user's own; wgpu and the driver
        // compare its header with the device, and take an empty cache where that does not fit.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Self { raw: Some(raw), path }
    }

    pub(crate) fn raw(&self) -> Option<&wgpu::PipelineCache> {
        self.raw.as_ref()
    }

    /// Writes the cache to its file, whole or not at all. A cache that cannot be written is no error, but a note in the log.
    pub(crate) fn save(&self) {
        let (Some(raw), Some(path)) = (&self.raw, &self.path) else { return };
        let Some(data) = raw.get_data() else { return };
        let written = write(path, &data);
        if let Err(cause) = written {
            log::info!("the pipeline cache {} cannot be written: {cause}", path.display());
        }
    }
}

/// The bytes of a cache; none where there is none, or what is there is no file of ours, which is told in the log.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = match fs::symlink_metadata(path) {
        Err(_) => return None, // the first run
        Ok(_) => check_folder(path).map_err(|cause| cause.to_string()).and_then(|()| {
            read_short(path, MOST_BYTES).map_err(|error| error.to_string()) // it takes regular files only
        }),
    };
    bytes.inspect_err(|why| log::warn!("the pipeline cache {} is ignored: {why}", path.display())).ok()
}

/// Puts the bytes into a file under another name, and renames that.
fn write(path: &Path, data: &[u8]) -> Result<()> {
    let folder = path.parent().expect("a file in a folder");
    fs::create_dir_all(folder)?;
    check_folder(path)?;
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(Error::other("something is there that is no regular file"));
    }
    let mut file = tempfile::Builder::new().prefix(".pipelines.").tempfile_in(folder)?;
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

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_cache_is_written_whole_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sterna/cache");
        assert_eq!(read(&path), None);
        for bytes in [&b"first"[..], b"second, and longer"] {
            write(&path, bytes).unwrap();
            assert_eq!(read(&path).as_deref(), Some(bytes));
        }
        assert_eq!(names(path.parent().unwrap()), ["cache"], "no partial file stays");
    }

    #[test]
    fn a_file_longer_than_any_cache_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        let file = fs::File::create(&path).unwrap();
        file.set_len(MOST_BYTES as u64).unwrap();
        assert_eq!(read(&path).map(|bytes| bytes.len()), Some(MOST_BYTES));
        file.set_len(MOST_BYTES as u64 + 1).unwrap();
        assert_eq!(read(&path), None);
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
            assert_eq!(read(path), None, "{}", path.display());
            write(path, b"bytes").unwrap_err();
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
        assert_eq!(read(&link.join("cache")), None);
        write(&link.join("cache"), b"bytes").unwrap_err();
        assert_eq!(fs::read(elsewhere.join("cache")).unwrap(), b"not ours");
    }
}
