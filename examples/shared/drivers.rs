//! Keeps drivers from marking as errors what is none.

/// The directory of a session's sockets, where the display is.
#[cfg(target_os = "linux")]
const SOCKETS: &str = "XDG_RUNTIME_DIR";

/// Mesa's choice among GPUs asks the display, even of a program that shows nothing; and where no variable says where displays are
/// (in containers, over ssh), it prints lines that begin with "error:". So this program starts itself again, as the same process,
/// with a directory in which no display is. What variables a process has can only be changed soundly from outside of it.
#[cfg(target_os = "linux")]
pub fn quiet() {
    use std::os::unix::process::CommandExt;
    if std::env::var_os(SOCKETS).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only where it fails, and then there are those lines.
    let _ = again.args(arguments).env(SOCKETS, "/nonexistent").exec();
}

/// Other systems' drivers say nothing of the kind.
#[cfg(not(target_os = "linux"))]
pub fn quiet() {}
