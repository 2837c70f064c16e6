//! What the user types: lines that can be edited and called back.

use anyhow::Context;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::terminal;

/// Reads lines from the terminal.
pub struct Lines {
    editor: DefaultEditor,
    was_interrupted: bool, // by the Ctrl-C before
}

/// What came.
pub enum Line {
    Typed(String),
    End,
}

impl Lines {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { editor: DefaultEditor::new().context("this terminal cannot be read")?, was_interrupted: false })
    }

    /// The next line; those that end in a backslash go on in the next. Ctrl-C forgets it, and ends everything if nothing was typed
    /// since the last one.
    pub fn next(&mut self) -> anyhow::Result<Line> {
        let mut text = String::new();
        loop {
            match self.editor.readline(if text.is_empty() { "> " } else { ". " }) {
                Ok(line) => {
                    self.was_interrupted = false;
                    match line.strip_suffix('\\') {
                        Some(begun) => text += &format!("{begun}\n"),
                        None => {
                            text += &line;
                            // That a line cannot be called back is no reason to stop.
                            let _ = self.editor.add_history_entry(&text);
                            return Ok(Line::Typed(text));
                        }
                    }
                }
                Err(ReadlineError::Interrupted) if self.was_interrupted => return Ok(Line::End),
                Err(ReadlineError::Interrupted) => {
                    self.was_interrupted = true;
                    text.clear();
                    terminal::say("Ctrl-C again ends the conversation, and so does /quit.");
                }
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(error) => return Err(error).context("cannot read from the terminal"),
            }
        }
    }

    /// Ctrl-C stopped an answer: the next one ends the program.
    pub fn note_interrupt(&mut self, was_interrupted: bool) {
        self.was_interrupted = was_interrupted;
    }
}
