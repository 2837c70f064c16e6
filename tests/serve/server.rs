//! A server that runs as long as a test does.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::examples;

/// Longer than anything here takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The built example.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| examples::built(&["--example", "serve"]).join("serve"))
}

pub struct Server {
    pub address: SocketAddr,
    pub child: Child,
    told: Arc<Mutex<Vec<String>>>, // lines of stderr
}

impl Server {
    /// The shipped model on the CPU, with more arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let server = Self::start_unready(arguments);
        wait_until("the model is loaded", || server.get("/health").status == 200);
        server
    }

    /// The same, before its model is loaded.
    pub fn start_unready(arguments: &[&str]) -> Self {
        Self::start_on(&[&["--device", "cpu", "--threads", "1"], arguments].concat(), &[])
    }

    /// The same on a device that the arguments name, with more variables of the environment.
    pub fn start_on(arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        let mut command = Command::new(program());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--port", "0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for variable in ["RUST_BACKTRACE", "RUST_LOG", "STERNA_THREADS", "STERNA_API_KEY"] {
            command.env_remove(variable);
        }
        command.env("XDG_RUNTIME_DIR", "/nonexistent"); // so that it is one process from the start
        command.envs(environment.iter().copied());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (sender, address) = mpsc::channel();
        let lines_told = told.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    sender.send(address.parse().unwrap()).unwrap();
                }
                lines_told.lock().unwrap().push(line);
            }
        });
        let Ok(address) = address.recv_timeout(PATIENCE) else {
            panic!("the server does not listen: {:?}", told.lock().unwrap());
        };
        Self { address, child, told }
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.client().ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.client().ask("POST", path, &[], body.as_bytes())
    }

    /// The lines of stderr so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// The value of a metric, by its name and labels as they are written.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// The value of a metric that has such a label.
    pub fn metric_with(&self, name: &str, label: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        let line = line.unwrap_or_else(|| panic!("no {name} with {label} in {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Waits until nothing runs and nothing waits.
    pub fn wait_idle(&self) {
        wait_until("nothing runs or waits", || {
            self.metric("sterna_num_requests_running") + self.metric("sterna_num_requests_waiting") == 0.0
        });
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: `kill` touches no memory, and the process is this test's child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end, and gives its status.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the server has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server ended by {status:?}, and had told: {:#?}", self.told());
        }
    }
}

/// Looks until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it took too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the program prints where it does not begin to serve.
pub fn output(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(program());
    command.args(["--port", "0", "--device", "cpu"]).args(arguments).env_remove("RUST_BACKTRACE");
    command.env("XDG_RUNTIME_DIR", "/nonexistent").stdin(Stdio::null()).output().unwrap()
}

/// Waits until a server makes nothing for a client that does not read.
pub fn wait_until_stalled(server: &Server) {
    let made = || server.metric("sterna_generation_tokens_total");
    wait_until("nothing is made any more", || {
        let before = made();
        std::thread::sleep(Duration::from_millis(300));
        before > 0.0 && made() == before
    });
}
