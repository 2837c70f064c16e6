//! Places for files that are written anew for each input: in memory, where the system has a file system there.

use std::path::{Path, PathBuf};

/// A path of this process alone.
pub fn path(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    place.join(format!("sterna-fuzz-{}-{name}", std::process::id()))
}

/// Keeps what a recipe made, where `FUZZ_KEEP` names a place: so an input of the fuzzer becomes a file for a test.
pub fn keep(bytes: &[u8]) {
    if let Some(place) = std::env::var_os("FUZZ_KEEP") {
        std::fs::write(place, bytes).expect("the place that was asked for");
    }
}
