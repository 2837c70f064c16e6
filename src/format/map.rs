//! A file as bytes: mapped, never read whole, whatever container it holds.

use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::{Error, Result};

/// Maps a regular file. The file must not be changed or truncated while the bytes are in use.
pub(crate) fn map(path: &Path) -> Result<Bytes> {
    map_regular(path).map_err(|cause| Error::io(path, cause))
}

/// Asks what the path is before opening it, because opening a pipe would wait for its writer.
fn map_regular(path: &Path) -> std::io::Result<Bytes> {
    let kind = std::fs::metadata(path)?;
    if kind.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new()); // an empty range cannot be mapped everywhere
    }
    // SAFETY: the map is read-only, and it is unmapped only when the last `Bytes` that borrows from it is dropped. That
    // nobody changes the file meanwhile cannot be checked here; the documentation of whoever opens a file demands it of the
    // caller.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
