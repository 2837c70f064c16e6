//! Whether two paths lead to one file.

use std::path::Path;

/// By whatever links, hard ones too where the system tells.
pub fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let of = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
        of(one).is_some_and(|file| of(other) == Some(file))
    }
    #[cfg(not(unix))]
    one.canonicalize().is_ok_and(|file| other.canonicalize().is_ok_and(|other| file == other))
}
