//! Another build of this benchmark, which runs beside this one and samples when it is asked to.
//!
//! Both go through the same cases. The one that answers sets a case up, warms up, writes the case's name, and then reads
//! lines: `sample` makes it write the seconds of one call, `next` sends it on, the end of the input ends it. In between it
//! waits for a line, so that at each moment only one of the two programs works.

use std::io::{BufRead, BufReader, Write, stdin};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::timer::Args;

const SAMPLE: &str = "sample";
const NEXT: &str = "next";

pub struct Rival {
    process: Child,
    answers: BufReader<ChildStdout>,
    /// It has begun a case, and waits.
    begun: bool,
}

impl Rival {
    /// # Panics
    /// If the program cannot be started, as all methods do when it is gone: there is nothing to compare with.
    pub fn new(program: &Path, args: &Args) -> Self {
        let mut process = Command::new(program)
            .args(["--answer", "--sample-size", &args.sample_size.to_string(), "--", &args.filter])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", program.display()));
        let answers = BufReader::new(process.stdout.take().expect("it was piped"));
        Self { process, answers, begun: false }
    }

    /// Has it set up its next case, which must be this one.
    pub fn next_case(&mut self, name: &str) {
        if self.begun {
            self.ask(NEXT);
        }
        self.begun = true;
        let theirs = self.read();
        assert_eq!(theirs, name, "the other program times other cases; a filter may choose some that both have");
    }

    /// The seconds of one call.
    pub fn sample(&mut self) -> f64 {
        self.ask(SAMPLE);
        self.read().parse().expect("seconds")
    }

    fn ask(&mut self, what: &str) {
        writeln!(self.process.stdin.as_ref().expect("it was piped"), "{what}").expect("the other program waits");
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a pipe of text");
        assert!(!line.is_empty(), "the other program ended: does it know --answer, and this case?");
        line.trim_end().into()
    }
}

impl Drop for Rival {
    /// It ends when its input does.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The other side: `sample` until it is time for the next case.
pub fn answer(name: &str, mut sample: impl FnMut() -> f64) {
    println!("{name}");
    loop {
        let mut line = String::new();
        stdin().lock().read_line(&mut line).expect("a pipe of text");
        match line.trim_end() {
            SAMPLE => println!("{:e}", sample()),
            NEXT => return,
            _ => std::process::exit(0),
        }
    }
}
