//! The machine that a figure was measured on. A figure without it says nothing.

use std::process::Command;

use crate::cpu::KernelSet;

/// Facts of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// The CPU as the system names it; none where it does not.
    pub cpu: Option<String>,
    /// Threads that this process may run at once.
    pub cores: usize,
    /// The operating system and the architecture, such as "linux x86_64".
    pub system: String,
    /// The sets of kernels that the CPU can run, slowest first.
    pub kernels: Vec<KernelSet>,
    /// Bytes of memory; none where the system does not tell.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Asks the system.
    pub fn detect() -> Self {
        Self {
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernels: KernelSet::available(),
            memory_bytes: super::bytes_of("/proc/meminfo", "MemTotal:"),
        }
    }
}

fn cpu_name() -> Option<String> {
    let name = if cfg!(target_os = "macos") {
        said_by("sysctl", &["-n", "machdep.cpu.brand_string"])
    } else if cfg!(windows) {
        std::env::var("PROCESSOR_IDENTIFIER").ok()
    } else {
        let of_x86 = || value(&std::fs::read_to_string("/proc/cpuinfo").ok()?, "model name");
        // On ARM, Linux leaves the name to a table of this program.
        of_x86().or_else(|| value(&said_by("lscpu", &[])?, "Model name"))
    };
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The value of the first line "name : value".
fn value(lines: &str, name: &str) -> Option<String> {
    let value = lines.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_and_kernels() {
        let machine = Machine::detect();
        assert!(machine.cores > 0 && !machine.kernels.is_empty() && machine.system.contains(' '));
        assert!(machine.cpu.is_none_or(|name| !name.is_empty()));
    }

    #[test]
    fn a_value_stands_after_its_colon() {
        let lines = "processor\t: 0\nmodel name\t: A CPU @ 3 GHz\nmodel name\t: another\n";
        assert_eq!(value(lines, "model name").as_deref(), Some("A CPU @ 3 GHz"));
        assert_eq!(value(lines, "model"), None);
    }
}
