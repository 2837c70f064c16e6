//! A file that appears at its place whole or not at all. It is written beside that place under another name, and renamed when it
//! is whole: within one file system that is all or nothing, and whatever happens before removes what was written.
//!
//! Links are followed, so that it is their target which is replaced and not they. What is there and no regular file (a device, a
//! pipe, a folder) is refused: renaming would put a file in its place. This knows nothing of models: the examples write their
//! reports with it, too.

use std::fs::{self, File, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The most links that are followed to a file that is not there yet.
const MOST_LINKS: usize = 40;
/// The longest name that is repeated in that of the file beside it, in bytes: file systems allow 255.
const LONGEST_REPEATED: usize = 200;

/// A file on its way to its place.
pub struct Output {
    temporary: NamedTempFile,
    place: PathBuf,
}

impl Output {
    /// Makes a file beside the place that `path` leads to, which is removed unless it is [given its name](Self::give_name).
    ///
    /// # Errors
    /// Where a directory cannot be written to, or something is at that place that is no regular file.
    pub fn beside(path: &Path) -> Result<Self> {
        let place = place(path)?;
        let Some(name) = place.file_name() else {
            return Err(Error::new(ErrorKind::InvalidInput, "this is no name of a file"));
        };
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(if name.len() > LONGEST_REPEATED { "sterna".as_ref() } else { name });
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary files are private by default; this one will be a common one. The umask still has its say.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(directory(&place))?;
        Ok(Self { temporary, place })
    }

    /// Where the bytes go.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Where the bytes are until then.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if something is there and may not be replaced.
    pub fn give_name(self, replace: bool) -> Result<()> {
        let Self { temporary, place } = self;
        self::place(&place)?; // something else may have come there meanwhile
        if replace && let Ok(old) = fs::metadata(&place) {
            fs::set_permissions(temporary.path(), old.permissions())?;
        }
        match if replace { temporary.persist(&place) } else { temporary.persist_noclobber(&place) } {
            Ok(_) => {}
            Err(error) => return Err(error.error),
        }
        // A name is as durable as its directory.
        #[cfg(unix)]
        File::open(directory(&place)).and_then(|directory| directory.sync_all())?;
        Ok(())
    }
}

/// The place that a path leads to, with links followed, also where nothing is there yet.
///
/// # Errors
/// If what is there is no regular file.
pub fn place(path: &Path) -> Result<PathBuf> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => return fs::canonicalize(path),
        Ok(there) => return Err(Error::other(format!("this is {}, and no file that could be replaced", kind(&there)))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&place) {
            Ok(target) => place = directory(&place).join(target), // which is the target alone where that is absolute
            Err(_) => return Ok(place),
        }
    }
    Err(Error::other("too many links lead from here to nothing"))
}

/// What is there, for people.
pub fn kind(there: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = there.file_type();
        match () {
            () if kind.is_fifo() => return "a pipe",
            () if kind.is_socket() => return "a socket",
            () if kind.is_char_device() => return "a character device",
            () if kind.is_block_device() => return "a block device",
            () => {}
        }
    }
    match () {
        () if there.is_dir() => "a folder",
        () if there.is_file() => "a file",
        () => "no regular file",
    }
}

/// The directory of a file; of a bare name, the current one.
fn directory(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or_else(|| ".".into(), Path::to_owned)
}
