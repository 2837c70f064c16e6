//! Talks with a ternary language model in the terminal:
//!
//! ```text
//! cargo run --release --example chat -- --model FILE
//! ```

mod args;
#[path = "../shared/command.rs"]
mod command;
mod commands;
#[path = "../shared/device.rs"]
mod device;
#[path = "../shared/drivers.rs"]
mod drivers;
mod interrupts;
mod lines;
#[path = "../shared/logging.rs"]
mod logging;
#[path = "../shared/model.rs"]
mod model;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/output.rs"]
mod output;
#[path = "../shared/quiet.rs"]
mod quiet;
#[path = "../shared/sampling.rs"]
mod sampling;
#[path = "../shared/setup.rs"]
mod setup;
mod show;
mod talk;
#[expect(dead_code, reason = "an answer is stopped otherwise than a program")]
#[path = "../shared/terminal.rs"]
mod terminal;
#[path = "../shared/text.rs"]
mod text;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use sterna::SessionOptions;

use args::Args;
use commands::Next;
use interrupts::Interrupts;
use lines::{Line, Lines};
use setup::Setup;
use talk::Talk;

fn main() -> anyhow::Result<ExitCode> {
    drivers::quiet();
    logging::start();
    let args: Args = command::parse();
    if args.device.devices {
        return device::list().map(|()| ExitCode::SUCCESS);
    }
    let setup = Setup::begin()?;
    let model = args.model.open()?;
    let chat = args.chat(&model)?;
    let interrupts = Interrupts::begin()?;
    let options =
        SessionOptions { context: args.context, interrupt: interrupts.of_steps(), ..SessionOptions::default() };
    let session = device::load(&args.device, &model, &options)?;
    setup.end();
    let is_terminal = std::io::stdin().is_terminal();
    if args.verbose || is_terminal {
        let told = chat.decisions().iter().filter(|decision| args.verbose || decision.reason.contains("the file has"));
        told.for_each(|decision| terminal::say(&decision.to_string()));
    }
    let mut talk = Talk::new(&args, chat, session, interrupts);
    if !is_terminal {
        let prompt = text::read(Path::new("-"))?;
        anyhow::ensure!(!prompt.trim().is_empty(), "stdin holds no prompt");
        return talk.say(prompt.trim_end_matches(['\n', '\r']).to_owned()).map(|ended| ended.exit_code());
    }
    converse(&mut talk)
}

/// Turn by turn, until the user has had enough.
fn converse(talk: &mut Talk) -> anyhow::Result<ExitCode> {
    let mut lines = Lines::new()?;
    terminal::say("Type to talk; /help tells what else there is, Ctrl-D ends.");
    loop {
        talk.forget_interrupt(); // not after the line: a Ctrl-C right behind it stops its answer
        let line = match lines.next()? {
            Line::Typed(line) => line,
            Line::End => return Ok(ExitCode::SUCCESS),
        };
        // What goes wrong with one turn is told, and the conversation goes on.
        let outcome = match commands::read(&line) {
            Next::Nothing => Ok(()),
            Next::Quit => return Ok(ExitCode::SUCCESS),
            Next::Say(text) => talk.say(text).map(|ended| lines.note_interrupt(ended.was_interrupted())),
            Next::Command(command) => talk.obey(command).map(|ended| lines.note_interrupt(ended.was_interrupted())),
        };
        if let Err(error) = outcome {
            terminal::say(&format!("{error:#}"));
            anyhow::ensure!(!talk.is_stuck(), "the chat template does not end: the program does");
        }
    }
}
