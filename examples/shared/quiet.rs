//! Output that may find nobody who reads it.

use std::io::{ErrorKind, Result, StdoutLock, Write};

/// Stdout, to be written by one.
pub fn stdout() -> Quiet<StdoutLock<'static>> {
    Quiet(std::io::stdout().lock())
}

/// A writer whose reader may go (`inspect | head`): that is no error, and what is written from then on is for nobody.
pub struct Quiet<W>(pub W);

impl<W: Write> Write for Quiet<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            outcome => outcome,
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome,
        }
    }
}
