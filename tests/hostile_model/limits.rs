//! A process that may have no more memory: what a file asks for is an error then, and no abort. Threads need memory too, so
//! that those that would decode are refused with it.

use std::path::Path;
use std::process::Command;

use sterna::Error;

use crate::shapes::{F16, SMALL, Shape};

/// Tells the child process how many bytes it may have beside those it has, and which files to open.
const MORE: &str = "STERNA_TEST_MORE_BYTES";
const FILES: &str = "STERNA_TEST_FILES";

/// The part of the child; without its variables it does nothing.
#[test]
fn child() {
    let (Ok(more), Ok(files)) = (std::env::var(MORE), std::env::var(FILES)) else { return };
    limit(more.parse().unwrap());
    for file in files.lines() {
        match crate::shapes::run(Path::new(file)) {
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
    let shapes = [Shape { ffn: 1 << 19, ..SMALL }, Shape { ffn: 1 << 17, linear: F16, ..SMALL }];
    let files = shapes.map(|shape| shape.written().0);
    let paths = files.each_ref().map(|file| file.path.to_str().expect("a path in UTF-8")).join("\n");
    // A map of a file counts too: the least of these is not enough for one.
    for (more, says) in [(8 << 20, "file: "), (16 << 20, "no memory"), (40 << 20, "no memory"), (1_u64 << 40, "it ran")]
    {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "limits::child", "--nocapture", "--test-threads", "1"])
            .envs([(MORE, more.to_string()), (FILES, paths.clone())])
            .env("MALLOC_ARENA_MAX", "1") // else the C library sets 64 MiB aside for each thread, before the limit
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success() && said.contains(says), "{more} more bytes: {:?}: {said}", child.status);
    }
}
