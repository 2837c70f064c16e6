//! Answers on their way to stdout: thoughts dimmed, or not at all.

use std::io::{ErrorKind, IsTerminal, Write};

use sterna::chat::Delta;

/// Where an answer goes.
pub struct Show {
    dims: bool,
    hides_thoughts: bool,
    is_thinking: bool,
    is_closed: bool, // its reader is gone
    ends_line: bool,
}

impl Show {
    /// Colours only where someone sees them. Where nobody does, the answer goes without its thoughts.
    pub fn new(hides_thoughts: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let dims = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let hides_thoughts = hides_thoughts || !is_terminal;
        Self { dims, hides_thoughts, is_thinking: false, is_closed: false, ends_line: true }
    }

    pub fn delta(&mut self, delta: &Delta) -> anyhow::Result<()> {
        match delta {
            Delta::Reasoning(_) if self.hides_thoughts => Ok(()),
            Delta::Reasoning(text) => {
                if !std::mem::replace(&mut self.is_thinking, true) && self.dims {
                    self.write("\x1b[2m")?;
                }
                self.write(text)
            }
            Delta::Content(text) => {
                self.end_thought(true)?;
                self.write(text)
            }
            _ => Ok(()),
        }
    }

    /// Ends the answer, with a line of its own.
    pub fn end(&mut self) -> anyhow::Result<()> {
        self.end_thought(false)?;
        if self.ends_line { Ok(()) } else { self.write("\n") }
    }

    /// Whether anyone still reads.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn end_thought(&mut self, goes_on: bool) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.is_thinking, false) {
            return Ok(());
        }
        self.write(if self.dims { "\x1b[0m" } else { "" })?;
        self.write(if goes_on { "\n\n" } else { "" })
    }

    fn write(&mut self, text: &str) -> anyhow::Result<()> {
        if self.is_closed || text.is_empty() {
            return Ok(());
        }
        self.ends_line = text.ends_with('\n');
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.is_closed = true,
            outcome => outcome?,
        }
        Ok(())
    }
}
