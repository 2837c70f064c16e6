//! Talking: one prompt from a pipe, and turns in a terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value as Json;

use crate::{SHIPPED, examples, program, run};

/// Longer than any answer takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn chat(arguments: &[&str]) -> Command {
    let mut program = program("chat");
    program.args(["--device", "cpu", "--model", SHIPPED]).args(arguments);
    program
}

/// What comes of a prompt on stdin.
fn piped(arguments: &[&str], prompt: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt");
    std::fs::write(&file, prompt).unwrap();
    run(chat(arguments).stdin(std::fs::File::open(&file).unwrap()))
}

#[test]
fn a_prompt_from_a_pipe_is_answered_on_stdout_alone() {
    let answer = piped(&["--greedy", "-n", "20"], "Tell me of a bird.\n");
    assert_eq!((answer.0, &*answer.2), (Some(0), "(stopped after 20 tokens, as --max-tokens asks)\n"));
    assert!(answer.1.len() > 20 && answer.1.ends_with('\n') && !answer.1.contains('\x1b'), "{}", answer.1);
    assert_eq!(
        answer,
        piped(&["--greedy", "-n", "20"], "Tell me of a bird.\r\n"),
        "line ends at the end are no part of it"
    );
    assert_ne!(answer.1, piped(&["--greedy", "-n", "20", "--system", "Be brief."], "Tell me of a bird.").1);
    let (status, out, told) = piped(&["-v", "--seed", "3", "-n", "5"], "x");
    assert!(status == Some(0) && told.contains("ChatML (the file has none)") && told.contains("5 made"), "{out}{told}");
}

#[test]
fn what_cannot_be_said_is_told() {
    let complaint = |arguments: &[&str], prompt: &str| {
        let (status, out, told) = piped(arguments, prompt);
        assert!(status == Some(1) && out.is_empty(), "{arguments:?}: {out}{told}");
        told
    };
    assert!(complaint(&[], " \n").contains("stdin holds no prompt"));
    assert!(complaint(&["--context", "20"], &"bird ".repeat(50)).contains("--context makes more room"));
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template.jinja");
    let with_template = |source: &str| {
        std::fs::write(&template, source).unwrap();
        complaint(&["--chat-template", template.to_str().unwrap()], "x")
    };
    assert!(with_template("{% if %}").contains("--chat-template FILE is another one"));
    assert!(with_template("{{ raise_exception('No such turns, please.') }}").contains("No such turns, please."));
    assert!(with_template(&"x".repeat(40_000)).contains("40000 bytes"));
}

/// A program in a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// `script` runs it there, which is part of every Debian.
    fn open(arguments: &[&str]) -> Self {
        let command = [examples().join("chat").to_str().unwrap(), "--device", "cpu", "--model", SHIPPED].join(" ");
        // In place of the shell, which has its own mind about Ctrl-C.
        let command = format!("exec {command} {}", arguments.join(" "));
        let mut script = Command::new("script");
        script.current_dir(env!("CARGO_MANIFEST_DIR")).env("TERM", "xterm").env("XDG_RUNTIME_DIR", "/nonexistent");
        script.args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"]);
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keys, screen, seen: String::new() }
    }

    fn press(&mut self, keys: &str) {
        self.seen.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows a text.
    fn wait_for(&mut self, text: &str) -> String {
        while !self.seen.contains(text) {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => panic!("no {text:?}: {}", self.seen),
            }
        }
        self.seen.clone()
    }

    /// Waits until lines are read again after a text: what is pressed before that has another meaning.
    fn wait_for_prompt_after(&mut self, text: &str) {
        self.wait_for(text);
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
        self.wait_for("\x1b[?2004h");
    }

    /// Waits until it ends, which closes its screen.
    fn ends(mut self) -> Option<i32> {
        loop {
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap().code(),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.seen),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// What a saved conversation has.
fn saved(path: &std::path::Path) -> Vec<(String, String)> {
    let saved: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |turn: &Json, field: &str| turn[field].as_str().unwrap().to_owned();
    saved["messages"].as_array().unwrap().iter().map(|turn| (text(turn, "role"), text(turn, "content"))).collect()
}

/// Requests to end reach it, also while it waits for its user.
#[test]
fn a_request_to_end_ends_it() {
    let mut waiting = chat(&[]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut terminal = Terminal::open(&[]);
    terminal.wait_for("/help tells");
    let kill = |pid: u32| assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", terminal.child.id())).unwrap();
    kill(children.split_whitespace().next().unwrap().parse().unwrap());
    assert_eq!(terminal.ends(), Some(143));
    kill(waiting.id());
    assert!(!waiting.wait().unwrap().success());
}

#[test]
fn turns_in_a_terminal_are_gone_on_with_saved_loaded_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let file = file.to_str().unwrap();
    let mut terminal = Terminal::open(&["--verbose", "-n", "12", "--temperature", "1", "--seed", "4"]);
    terminal.wait_for("/help tells");
    terminal.press("Tell me of a bird\r");
    terminal.wait_for("0 tokens found in the cache");
    terminal.press("And then?\r");
    let told = terminal.wait_for("first token after");
    let (before, _) = told.split_once(" tokens found in the cache").unwrap();
    let cached: usize = before.rsplit('[').next().unwrap().parse().unwrap();
    // The first turn: 38 tokens of the prompt, and all that were made but the last.
    assert!(cached > 38, "the turns before are found in the cache: {told}");
    terminal.press("/system Be brief.\r/nonsense\r");
    terminal.wait_for("there is no /nonsense");
    terminal.press(&format!("/save {file}\r/help\r"));
    terminal.wait_for("/regen");
    let first = saved(file.as_ref());
    let roles: Vec<&str> = first.iter().map(|(role, _)| &**role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    assert_eq!((&*first[0].1, &*first[1].1, &*first[3].1), ("Be brief.", "Tell me of a bird", "And then?"));
    terminal.press("/regen\r");
    terminal.wait_for("first token after");
    terminal.press(&format!("/save {file}\r/clear\r/regen\r"));
    terminal.wait_for("no answer that could be made again");
    let again = saved(file.as_ref());
    assert!(again[..4] == first[..4] && again[4] != first[4], "{again:?}");
    terminal.press(&format!("/load {file}\rAnd\\\rthen?\r"));
    terminal.wait_for("first token after");
    terminal.press(&format!("/save {file}\r/help\r"));
    terminal.wait_for("/regen");
    let loaded = saved(file.as_ref());
    assert_eq!((&loaded[..5], &*loaded[5].1, loaded.len()), (&again[..], "And\nthen?", 7));
    terminal.wait_for_prompt_after("one / less.");
    terminal.press("\x04");
    assert_eq!(terminal.ends(), Some(0));
}

#[test]
fn ctrl_c_stops_an_answer_and_keeps_it_and_ends_the_program_when_pressed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    // The model goes on for thousands of tokens.
    let mut terminal = Terminal::open(&["--seed", "4", "--rope-scaling", "linear", "--rope-factor", "8"]);
    terminal.wait_for("/help tells");
    terminal.press("Tell me of a bird\r");
    terminal.wait_for("\x1b[?2004l"); // the line was read
    terminal.press("\x03");
    assert!(!terminal.wait_for("> ").contains("context is full"));
    terminal.press(&format!("/save {}\r/help\r", file.display()));
    terminal.wait_for("/regen");
    let turns = saved(&file);
    assert_eq!((turns.len(), &*turns[1].0), (2, "assistant"), "what was said is kept");
    terminal.wait_for_prompt_after("one / less.");
    terminal.press("\x03");
    terminal.wait_for_prompt_after("Ctrl-C again");
    terminal.press("\x03");
    assert_eq!(terminal.ends(), Some(0));
}
