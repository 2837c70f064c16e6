//! Files that the examples write for their users: opened before the work, written whole or not at all.

#[path = "same_file.rs"]
mod same_file;
#[expect(dead_code, reason = "what only the library needs of it")]
#[path = "../../src/convert/output.rs"]
mod whole;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::quiet::{self, Quiet};

/// The name that means stdout.
const STDOUT: &str = "-";

/// Where a report goes.
pub struct Output {
    path: PathBuf,
    sink: Sink,
}

enum Sink {
    Stdout,
    /// A pipe or a device, which is written to.
    Stream(File),
    /// A regular file, which is made or replaced when the report is whole. Nothing of it is there before: whatever ends the program
    /// leaves nothing behind.
    File,
}

/// Whether a report is to go to stdout, where nothing else may then be.
pub fn is_stdout(path: Option<&Path>) -> bool {
    path.is_some_and(|path| path.as_os_str() == STDOUT)
}

impl Output {
    /// Opens what a path means: stdout for "-", a pipe or a device if there is one, or else a file. Nothing appears there until
    /// it is written. `read` are files that this program reads, which it must not replace.
    pub fn open(path: &Path, read: &[&Path]) -> anyhow::Result<Self> {
        let failed = || format!("cannot write {}", path.display());
        if let Some(input) = read.iter().find(|input| same_file::is_same(path, input)) {
            bail!("{}: it is the file that is read, {}; choose another name", failed(), input.display());
        }
        Ok(Self { path: path.to_owned(), sink: Sink::open(path).with_context(failed)? })
    }

    /// Writes all, and gives the file its name.
    pub fn write(self, text: &str) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        match self.sink {
            Sink::Stdout => quiet::stdout().write_all(text.as_bytes()),
            Sink::Stream(stream) => Quiet(stream).write_all(text.as_bytes()),
            Sink::File => whole::Output::beside(&self.path).and_then(|output| {
                output.file().write_all(text.as_bytes())?;
                output.give_name(true)
            }),
        }
        .with_context(failed)
    }
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        if is_stdout(Some(path)) {
            return Ok(Self::Stdout);
        }
        match path.metadata() {
            Ok(there) if matches!(whole::kind(&there), "a pipe" | "a character device") => {
                open_stream(path).map(Self::Stream)
            }
            // It could be written, and is removed again.
            _ => whole::Output::beside(path).map(|_| Self::File),
        }
    }
}

/// A pipe or a device, for writing. Where nobody reads a pipe, this is an error at once; the plain way would wait for a reader.
#[cfg(unix)]
fn open_stream(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = |flags| OpenOptions::new().write(true).custom_flags(libc::O_NOCTTY | flags).open(path);
    match open(libc::O_NONBLOCK) {
        // Writes are to wait. The first one stays open until then, or the reader would find that all are gone.
        Ok(_first) => open(0),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            Err(io::Error::new(ErrorKind::BrokenPipe, "nobody reads this pipe"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn open_stream(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}
