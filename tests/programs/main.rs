//! The examples as their users meet them: run as programs, by what they print, refuse and leave behind.

#[cfg(target_os = "linux")]
mod chat;
#[path = "../common/examples.rs"]
mod examples;
#[cfg(unix)]
mod hub;
#[cfg(unix)]
mod messages;
#[cfg(unix)]
mod outputs;
#[cfg(unix)]
mod pipes;
#[cfg(target_os = "linux")]
#[path = "../common/skipped.rs"]
mod skipped;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The folder of the built examples.
fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| examples::built(&["--examples"]))
}

/// A program with the model that ships with the crate, where it takes one, and on the CPU, where there is a choice.
fn program(name: &str) -> Command {
    let mut program = Command::new(examples().join(name));
    program.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    for variable in ["RUST_BACKTRACE", "RUST_LOG", "STERNA_THREADS"] {
        program.env_remove(variable);
    }
    program.env("XDG_RUNTIME_DIR", "/nonexistent"); // so that it is one process from the start
    program
}

/// `generate` on the CPU.
fn generate(arguments: &[&str]) -> Command {
    let mut program = program("generate");
    program.args(["--device", "cpu"]).args(arguments);
    program
}

/// The model that `embed` is for.
const EMBEDDING: &str = "tests/data/golden/embedding-qwen3/i2_s.gguf";
const SHIPPED: &str = "models/tales-4m-i2_s.gguf";

/// What a program printed: status, stdout, stderr.
fn run(program: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
