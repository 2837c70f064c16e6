//! A file as bytes, whatever container it holds. A file of weights is mapped, or read into memory for callers who cannot
//! promise that nobody changes it; the small files beside it are read, as they are dropped when they have been parsed.
//!
//! Only regular files are taken: a pipe would wait for its writer, a device may never end. What a file says of its length
//! is held against what it gives.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::{Error, Result};

/// Where a file that was read begins in memory, in bytes: a cache line and the longest vector, so that rows which lie well
/// in the file lie well in memory. (A map begins with a page.)
const ALIGNMENT: usize = 64;

/// Maps a file. It must not be changed or truncated while the bytes are in use.
pub(crate) fn map(path: &Path) -> Result<Bytes> {
    let map = |(file, length): (File, u64)| {
        if length == 0 {
            return Ok(Bytes::new()); // an empty range cannot be mapped everywhere
        }
        // SAFETY: the map is read-only, and it is unmapped only when the last `Bytes` that borrows from it is dropped. That
        // nobody changes the file meanwhile cannot be checked here; the documentation of whoever opens a file demands it
        // of the caller, and names the other way.
        let map = Arc::new(unsafe { Mmap::map(&file)? });
        let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|map| map.strong_count() > 0);
        maps.push(Arc::downgrade(&map));
        Ok(Bytes::from_owner(Mapped(map)))
    };
    open_regular(path).and_then(map).map_err(|cause| Error::io(path, cause))
}

/// The maps that are in use: bytes alone do not tell whether they lie in one.
static MAPS: Mutex<Vec<Weak<Mmap>>> = Mutex::new(Vec::new());

struct Mapped(Arc<Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The map in which some bytes lie.
fn map_of(bytes: &Bytes) -> Option<Arc<Mmap>> {
    let maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    maps.iter().filter_map(Weak::upgrade).find(|map| map.as_ptr_range().contains(&bytes.as_ptr()))
}

/// Whether some bytes lie in the map of a file.
pub(crate) fn is_mapped(bytes: &Bytes) -> bool {
    map_of(bytes).is_some()
}

/// Takes the pages of some bytes out of the memory of this process, if they lie in the map of a file: nobody is about to read them.
/// Whoever does all the same has them from the file again.
pub(crate) fn give_back(bytes: &Bytes) {
    #[cfg(unix)]
    if let Some(map) = map_of(bytes) {
        let first = bytes.as_ptr().addr() - map.as_ptr().addr();
        // SAFETY: a page of a file's map that is dropped is read again from the file, which nobody changes, as the caller of `map`
        // promised; so nothing changes that a reference could see. A refusal costs memory alone.
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, bytes.len()) };
    }
    #[cfg(not(unix))]
    let _ = bytes;
}

/// Reads a file into memory of its length; what becomes of the file later does not matter.
pub(crate) fn read(path: &Path) -> Result<Bytes> {
    let read = |(file, length)| read_aligned(file, length);
    open_regular(path).and_then(read).map_err(|cause| Error::io(path, cause))
}

/// Reads a file that is parsed and dropped, unless it is longer than any such file: then no memory is taken for it.
pub(crate) fn read_short(path: &Path, most_bytes: usize) -> Result<Vec<u8>> {
    let at_path = |cause| Error::io(path, cause);
    let (file, length) = open_regular(path).map_err(at_path)?;
    if length > most_bytes as u64 {
        let text = format!("{}: {length} bytes; at most {most_bytes} are accepted", path.display());
        return Err(Error::Unsupported(text));
    }
    let mut bytes = Vec::new();
    reserve(&mut bytes, length, 0).and_then(|()| fill(&mut bytes, file, length)).map_err(at_path)?;
    Ok(bytes)
}

/// A regular file and its length in bytes. Asks what the path is before opening it, because opening a pipe would wait for
/// its writer, and again of what was opened, because the path may lead elsewhere by then.
fn open_regular(path: &Path) -> Result<(File, u64), IoError> {
    check_regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    let opened = file.metadata()?;
    check_regular(&opened)?;
    Ok((file, opened.len()))
}

fn check_regular(kind: &std::fs::Metadata) -> Result<(), IoError> {
    match kind {
        kind if kind.is_dir() => Err(ErrorKind::IsADirectory.into()),
        kind if !kind.is_file() => Err(IoError::other("not a regular file")),
        _ => Ok(()),
    }
}

/// The bytes of a source that is said to have `length` of them, in one allocation.
fn read_aligned(source: impl Read, length: u64) -> Result<Bytes, IoError> {
    let mut bytes = Vec::new();
    reserve(&mut bytes, length, ALIGNMENT - 1)?;
    let padding = bytes.as_ptr().addr().wrapping_neg() % ALIGNMENT;
    bytes.resize(padding, 0);
    fill(&mut bytes, source, length)?;
    Ok(Bytes::from(bytes).slice(padding..))
}

/// Makes room, or says that there is none: a length is the file's claim, and must not end the process.
fn reserve(bytes: &mut Vec<u8>, length: u64, more: usize) -> Result<(), IoError> {
    let room = usize::try_from(length).ok().and_then(|length| length.checked_add(more));
    if room.is_some_and(|room| bytes.try_reserve_exact(room).is_ok()) {
        return Ok(());
    }
    let text = format!("there is no memory for its {length} bytes; a file that is mapped needs none");
    Err(IoError::new(ErrorKind::OutOfMemory, text))
}

/// Appends a source that has exactly `length` bytes, for which there is room.
fn fill(bytes: &mut Vec<u8>, mut source: impl Read, length: u64) -> Result<(), IoError> {
    // Not more is read than there is room for, so that the vector never grows, however much the source gives.
    let found = source.by_ref().take(length).read_to_end(bytes)? as u64;
    if found < length {
        let text = format!("only {found} of its {length} bytes could be read; was it cut off meanwhile?");
        return Err(IoError::new(ErrorKind::UnexpectedEof, text));
    }
    if source.take(1).read_to_end(&mut Vec::new())? > 0 {
        let text = format!("it has more than the {length} bytes that it is said to have; is it still being written?");
        return Err(IoError::other(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_the_length_that_it_claims_is_read_to_an_aligned_place_without_growing() {
        for length in [0, 1, 31, 32, 33, 63, 64, 65, 4096, 100_000] {
            let source: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let bytes = read_aligned(&source[..], length).unwrap();
            assert_eq!(bytes, source);
            assert_eq!(bytes.as_ptr().addr() % ALIGNMENT, 0, "{length} bytes");

            let mut exact = Vec::new();
            reserve(&mut exact, length, 0).unwrap();
            let (place, room) = (exact.as_ptr(), exact.capacity());
            fill(&mut exact, &source[..], length).unwrap();
            assert_eq!((exact.as_ptr(), exact.capacity(), &exact), (place, room, &source), "{length} bytes");
        }
    }

    /// What of a map is in memory, as Linux tells, in bytes.
    #[cfg(target_os = "linux")]
    fn resident(map: &Bytes) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", map.as_ptr().addr());
        let line = maps.lines().skip_while(|line| !line.starts_with(&start)).find_map(|line| line.strip_prefix("Rss:"));
        line.unwrap().trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_that_are_given_back_take_no_memory_and_come_again_from_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let contents: Vec<u8> = (0..4usize << 20).map(|i| (i / 7) as u8).collect();
        std::fs::write(file.path(), &contents).unwrap();
        let map = map(file.path()).unwrap();
        assert_eq!(map, contents);
        assert_eq!(resident(&map), 4 << 20);
        give_back(&map.slice(1 << 20..3 << 20));
        assert!(resident(&map) <= 2 << 20, "a huge page that is cut may go as a whole");
        assert_eq!(map, contents);
        // What lies in no map stays as it is.
        let own = Bytes::from(contents.clone());
        give_back(&own);
        assert_eq!(own, contents);
    }

    #[test]
    fn a_source_that_is_shorter_or_longer_than_it_claims_is_an_error() {
        let source = [7; 1000];
        for claim in [1001, 2000, 1 << 20] {
            let error = read_aligned(&source[..], claim).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(error.to_string().contains(&format!("only 1000 of its {claim} bytes")), "{error}");
        }
        for claim in [0, 1, 999] {
            let error = read_aligned(&source[..], claim).unwrap_err().to_string();
            assert!(error.contains(&format!("more than the {claim} bytes")), "{error}");
        }
        let error = read_aligned(std::io::repeat(0), 4096).unwrap_err().to_string();
        assert!(error.contains("more than the 4096 bytes"), "{error}");
    }

    #[test]
    fn a_length_beyond_all_memory_is_an_error_and_does_not_end_the_process() {
        for claim in [1 << 60, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            let error = read_aligned(std::io::repeat(0), claim).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{claim}");
            assert!(error.to_string().contains(&claim.to_string()), "{error}");
        }
    }
}
