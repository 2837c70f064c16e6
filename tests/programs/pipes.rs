//! Readers that go, and signals.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use crate::skipped::skipped;
use crate::{EMBEDDING, SHIPPED, generate, names, program, run};

/// Longer than any of these programs takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;

/// Everything that a program prints text for, without much work.
fn talkers(folder: &std::path::Path) -> Vec<Command> {
    let with = |name: &str, arguments: &[&str]| {
        let mut program = program(name);
        program.args(arguments);
        program
    };
    let mut convert = with("convert", &[SHIPPED]);
    convert.arg(folder.join("out.gguf")).args(["--to", "tq1_0", "--force"]);
    vec![
        generate(&["-n", "5", "--greedy"]),
        generate(&["-n", "5", "--greedy", "--json", "-"]),
        with("generate", &["--devices"]),
        with("chat", &["--devices"]),
        with("chat", &["--help"]),
        with("generate", &["--help"]),
        with("generate", &["--version"]),
        with("generate", &["--no-such-option"]),
        with("inspect", &["--all"]),
        with("inspect", &["--model", "/nonexistent"]),
        convert,
        with("convert", &["--help"]),
        with("embed", &["--device", "cpu", "--model", EMBEDDING, "a", "b"]),
        with("embed", &["--device", "cpu", "--model", EMBEDDING, "a", "b", "--json", "-"]),
        with("embed", &["--devices"]),
        with("validate", &["--help"]),
    ]
}

/// A pipe that nobody reads from.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_program_whose_reader_goes_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    for mut talker in talkers(folder.path()) {
        let wanted = run(&mut talker).0;
        let output = talker.stdout(closed()).stderr(Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), wanted, "{talker:?}: {told}");
        assert!(!told.contains("panicked") && !told.contains("broken pipe"), "{talker:?}: {told}");
    }
    for mut talker in talkers(folder.path()) {
        let wanted = run(&mut talker).0;
        let output = talker.stdout(Stdio::piped()).stderr(closed()).output().unwrap();
        assert_eq!(output.status.code(), wanted, "{talker:?} without stderr");
    }
}

#[test]
fn validate_ends_quietly_too() {
    let arguments = ["--quick", "--only", "cpu", "--runs", "1", "--model", SHIPPED];
    let output = program("validate").args(arguments).stdout(closed()).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code < 2) && told.contains("took"), "{}: {told}", output.status);
}

/// A program that waits for its prompt, behind the point where all else is prepared.
fn waiting(json: &std::path::Path) -> Child {
    let mut program = generate(&["--greedy", "-n", "3", "--prompt-file", "-", "--json"]);
    program.arg(json).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// The signals that a process handles, once they include one.
#[cfg(target_os = "linux")]
fn handled(child: &Child, signal: i32) -> u64 {
    let start = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        if mask >> (signal - 1) & 1 == 1 {
            return mask;
        }
        assert!(start.elapsed() < PATIENCE, "the signal {signal} is not handled");
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_request_to_end_is_heard_and_leaves_no_file_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    // While it only prepares there is nothing to report, and it ends at once.
    let mut child = waiting(&json);
    handled(&child, SIGTERM);
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        send("-TERM", &child); // again, until all that it handles is set up
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal(), names(folder.path())), (Some(130), None, vec![]));
    // One lets the program end what it does, and report it: here, the slowest way to make the most tokens.
    let long = ["--rope-scaling", "linear", "--rope-factor", "8", "-n", "4000"];
    let mut talker = generate(&["--greedy", "--ignore-end", "--no-lookup", "--precise", "--threads", "1"]);
    talker.args(long).arg("--json");
    let mut child = talker.arg(&json).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    send("-TERM", &child);
    let status = child.wait().unwrap();
    assert_eq!((status.code(), names(folder.path())), (Some(130), vec!["report.json".to_owned()]));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["ids"].as_array().unwrap().len() < 4000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_hang_up_ends_a_program_unless_it_was_started_to_stay() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = own.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() >> (SIGHUP - 1) & 1 == 1 {
        skipped("hang-ups that end a program: these tests were started to stay (nohup), and so is what they start");
    } else {
        let mut child = waiting(&folder.path().join("report.json"));
        handled(&child, SIGHUP);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let inner = generate(&["--prompt-file", "-"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    shell.env("XDG_RUNTIME_DIR", "/nonexistent").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    assert_eq!(handled(&child, SIGTERM) >> (SIGHUP - 1) & 1, 0, "nohup is obeyed");
    child.kill().unwrap();
    child.wait().unwrap();
}
