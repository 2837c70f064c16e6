//! A child process by `fork` alone, as servers that load a model and then fork their workers make it: it has the memory
//! of its parent and none of its threads. Include it with `#[path = "common/fork.rs"] mod fork;`, on Unix only.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

// SAFETY: these are the declarations of POSIX; `pid_t` is `int` on every Unix that Rust knows.
unsafe extern "C" {
    fn fork() -> c_int;
    fn _exit(status: c_int) -> !;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// The same number everywhere: do not wait.
const WNOHANG: c_int = 1;
/// The same number everywhere: end at once.
const SIGKILL: c_int = 9;
/// What a child may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `work` in a child process, which ends without running anything else: no destructor, no exit handler.
///
/// # Panics
/// If `work` panicked, the child was ended by a signal, or it is not done after a minute.
pub fn in_a_child(what: &str, work: impl FnOnce()) {
    // SAFETY: the child goes on with the one thread that it has. It takes no lock of another thread: the C library
    // keeps its allocator usable, and what else `work` uses is what the test asks about.
    let pid = unsafe { fork() };
    assert!(pid >= 0, "{what}: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let status = c_int::from(catch_unwind(AssertUnwindSafe(work)).is_err());
        // SAFETY: it only ends the process.
        unsafe { _exit(status) };
    }
    let begin = Instant::now();
    let mut status = 0;
    // SAFETY: `status` is ours to be written, `pid` is our child, and nobody else waits for it.
    while unsafe { waitpid(pid, &mut status, WNOHANG) } == 0 {
        if begin.elapsed() > PATIENCE {
            // SAFETY: the child has not been waited for, so its number is still its own.
            unsafe {
                kill(pid, SIGKILL);
                waitpid(pid, &mut status, 0);
            }
            panic!("{what}: the child hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(status, 0, "{what}: how the child ended, as `waitpid` tells it");
}
