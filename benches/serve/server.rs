//! The server as a process: started by itself, asked over its socket, and watched from outside.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::examples;

/// Longer than any model here takes to load.
const PATIENCE: Duration = Duration::from_secs(300);
/// In which Linux counts the time of processes, whatever its own clock's steps are.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server of this machine, which ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
}

/// Builds the example as this program is built, and tells where it is.
pub fn program() -> PathBuf {
    examples::built(&["--example", "serve"]).join(format!("serve{}", std::env::consts::EXE_SUFFIX))
}

impl Server {
    /// Starts it at a free port and waits until its model is loaded.
    pub fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.args(["--port", "0", "--device", "cpu"]).args(arguments);
        // So that it is one process from the start, and one that nothing but its arguments changes.
        command.env("XDG_RUNTIME_DIR", "/nonexistent").env_remove("STERNA_API_KEY").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let errors = process.stderr.take().context("it was piped")?;
        let (sender, addresses) = mpsc::channel();
        // Its log is read to the end, and no further looked at: a full pipe would hold it up.
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = line.strip_prefix("listening on http://").map(|address| sender.send(address.to_owned()));
                if line.starts_with("Error") || line.contains("panicked") {
                    eprintln!("the server: {line}");
                }
            }
        });
        let address = addresses.recv_timeout(PATIENCE).context("the server does not listen")?.parse()?;
        let server = Self { address, process };
        let deadline = Instant::now() + PATIENCE;
        while server.ask("GET", "/health", "")?.0 != 200 {
            ensure!(Instant::now() < deadline, "the server does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// A request on a connection of its own: the status and the body of its answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n");
        stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        Ok((head.get(9..12).unwrap_or_default().parse()?, body.to_owned()))
    }

    /// The ids of a chat's prompt.
    pub fn ids(&self, messages: &Value) -> anyhow::Result<Vec<u32>> {
        let (status, body) = self.ask("POST", "/tokenize", &serde_json::json!({ "messages": messages }).to_string())?;
        ensure!(status == 200, "{status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        Ok(serde_json::from_value(answer["tokens"].clone())?)
    }

    /// The value of the first metric of this name.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (status, text) = self.ask("GET", "/metrics", "")?;
        ensure!(status == 200, "/metrics: {status}");
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        let value = line.and_then(|line| line.rsplit_once(' ')).with_context(|| format!("there is no {name}"))?.1;
        Ok(value.parse()?)
    }

    /// Waits until nothing runs and nothing waits; none of it may be left after so long.
    pub fn wait_idle(&self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let running = self.metric("sterna_num_requests_running")?;
            let waiting = self.metric("sterna_num_requests_waiting")?;
            if running + waiting == 0.0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{running} run and {waiting} wait, and nobody asked for anything");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn cpu(&self) -> Option<f64> {
        cpu_seconds(&self.process.id().to_string())
    }

    /// Seconds of the cores that each thread of the server has had, which is counted finely.
    pub fn threads_cpu(&self) -> Vec<(String, f64)> {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.process.id())) else { return Vec::new() };
        let of = |path: PathBuf| {
            let nanos = std::fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok()?;
            Some((path.file_name()?.to_string_lossy().into_owned(), nanos / 1e9))
        };
        tasks.filter_map(|task| of(task.ok()?.path())).collect()
    }

    /// Bytes of memory that the server holds.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    }

    /// Files and sockets that the server has open.
    pub fn files(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).ok()?.count())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds of the cores that a process has had: "self", or a number. None where there is no /proc.
pub fn cpu_seconds(process: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may hold anything, is in brackets; the 12th and 13th fields behind it are the times.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}
