//! A process that may have no more memory: what a file asks for is an error then, and no abort. Threads need memory too, so
//! that those that would decode are refused with it.

use std::process::Command;

use sterna::Error;

use crate::shapes::{F16, I2_S, SMALL, Shape};

/// Tells the child process how many bytes it may have beside those it has.
const MORE: &str = "STERNA_TEST_MORE_BYTES";

/// The part of the child; without its variable it does nothing.
#[test]
fn child() {
    let Ok(more) = std::env::var(MORE) else { return };
    let shapes = [
        Shape { ffn: 1 << 19, ..SMALL },
        Shape { ffn: 1 << 17, linear: F16, ..SMALL },
        Shape { vocabulary: 1 << 20, table: I2_S, ..SMALL },
    ];
    let files: Vec<_> = shapes.iter().map(Shape::written).collect();
    limit(more.parse().unwrap());
    for (file, _) in &files {
        match crate::shapes::run(&file.path) {
            Ok(()) => println!("it ran"),
            Err(Error::Device(error)) => println!("device: {error}"),
            Err(Error::Io { path, cause }) => println!("file: {}: {cause}", path.display()),
            Err(other) => panic!("{other}"),
        }
    }
}

/// From now on the process gets so many bytes more, and then no more.
fn limit(more: u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("Linux says so");
    let has: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = libc::rlimit { rlim_cur: has * 1024 + more, rlim_max: has * 1024 + more };
    // SAFETY: the call reads one structure, which lives.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

#[test]
fn where_there_is_no_memory_there_is_an_error_and_no_abort() {
    // A map of a file counts too, so that the least of these is not enough for one.
    for (more, says) in [(12 << 20, "file: "), (40 << 20, "device: "), (1_u64 << 40, "it ran")] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "limits::child", "--nocapture", "--test-threads", "1"])
            .env(MORE, more.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains(says), "{more} more bytes: {:?}: {said}", child.status);
    }
}
