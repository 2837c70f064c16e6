//! What can be typed besides turns.

use std::path::PathBuf;

/// What a line asks for.
pub enum Next {
    Nothing,
    Quit,
    Say(String),
    Command(Command),
}

/// What the conversation does.
pub enum Command {
    Help,
    Clear,
    /// Another instruction, none if it is empty; nothing to show the one there is.
    System(Option<String>),
    Save(PathBuf),
    Load(PathBuf),
    Regenerate,
    /// It is not known, or lacks its argument.
    Wrong(String),
}

/// What there is.
pub const HELP: &str = "\
/help          this
/clear         begins a new conversation; what the model is told before it stays
/system TEXT   tells the model something before the conversation; without TEXT, shows what it is told; \"\" is nothing
/save FILE     writes the conversation to a file, as JSON
/load FILE     goes on with one that was saved
/regen         has the last answer made again
/quit          ends, as Ctrl-D does
A line that ends in \\ goes on in the next. A line that begins with // is said, with one / less.";

/// What a line asks for.
pub fn read(line: &str) -> Next {
    let trimmed = line.trim();
    let Some(command) = trimmed.strip_prefix('/') else {
        return if trimmed.is_empty() { Next::Nothing } else { Next::Say(line.to_owned()) };
    };
    if command.starts_with('/') {
        return Next::Say(command.to_owned());
    }
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim();
    let file = |make: fn(PathBuf) -> Command| match argument {
        "" => Command::Wrong(format!("/{name} needs the name of a file")),
        file => make(file.into()),
    };
    Next::Command(match name {
        "quit" | "exit" | "bye" | "q" => return Next::Quit,
        "help" | "h" | "?" => Command::Help,
        "clear" | "reset" | "new" => Command::Clear,
        "system" => match argument {
            "" => Command::System(None),
            "\"\"" => Command::System(Some(String::new())),
            text => Command::System(Some(text.to_owned())),
        },
        "save" => file(Command::Save),
        "load" => file(Command::Load),
        "regen" | "regenerate" | "retry" => Command::Regenerate,
        other => Command::Wrong(format!("there is no /{other}; /help lists what there is")),
    })
}
