//! How much memory this process could still take: what Linux tells of the machine, of its control groups, and of its limits.

use std::path::{Path, PathBuf};

use super::bytes_of;

/// Bytes that could still be taken: what the system calls available, but no more than control groups leave beside the memory that
/// cannot be given up, as files in memory cannot, nor than the limit of addresses leaves (`ulimit -v`). `None` where the platform does not tell.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    let available = bytes_of("/proc/meminfo", "MemAvailable:")?;
    Some(available.min(left_by_groups()).min(left_of_addresses()))
}

/// What the control groups of this process leave; everything where none is known, or none has a limit.
fn left_by_groups() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let memory = controllers.split(',').any(|controller| controller == "memory");
        match (controllers.is_empty(), memory) {
            (true, _) => Some(left("/sys/fs/cgroup", path, "memory.max", ["anon ", "shmem "])),
            (_, true) => {
                Some(left("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", ["total_rss ", "total_shmem "]))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(of_line).min().unwrap_or(u64::MAX)
}

/// What a group and those above it leave, of which the files of a container show the upper part alone.
fn left(root: &str, path: &str, limit: &str, in_use: [&str; 2]) -> u64 {
    let root = Path::new(root);
    let group = root.join(path.trim_start_matches('/'));
    let inside = |folder: &PathBuf| folder.starts_with(root);
    let folders = group.ancestors().map(Path::to_path_buf).take_while(inside);
    folders.filter_map(|folder| left_in(&folder, limit, &in_use)).min().unwrap_or(u64::MAX)
}

/// What one group leaves; none if it has no limit.
fn left_in(folder: &Path, limit: &str, in_use: &[&str]) -> Option<u64> {
    let limit: u64 = std::fs::read_to_string(folder.join(limit)).ok()?.trim().parse().ok()?; // "max" is none
    let list = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let of = |name: &&str| list.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(in_use.iter().filter_map(of).fold(limit, u64::saturating_sub))
}

/// Bytes of addresses that this process may still take; everything where they are not limited.
fn left_of_addresses() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let limit = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()); // "unlimited" is none
    match limit.zip(bytes_of("/proc/self/status", "VmSize:")) {
        Some((limit, in_use)) => limit.saturating_sub(in_use),
        None => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_leaves_what_the_tightest_of_those_above_it_leaves() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("a/b");
        std::fs::create_dir_all(&group).unwrap();
        let write = |folder: &Path, limit: &str, stat: &str| {
            std::fs::write(folder.join("memory.max"), limit).unwrap();
            std::fs::write(folder.join("memory.stat"), stat).unwrap();
        };
        let left = |path: &str| left(root.path().to_str().unwrap(), path, "memory.max", ["anon ", "shmem "]);
        assert_eq!(left("/a/b"), u64::MAX, "no limit is known");
        write(&group, "max\n", "anon 5\n");
        assert_eq!(left("/a/b"), u64::MAX);
        write(group.parent().unwrap(), "1000\n", "file 900\nanon 200\nshmem 100\n");
        assert_eq!((left("/a/b"), left("/a"), left("/")), (700, 700, u64::MAX));
        write(&group, "200\n", "anon 300\n");
        assert_eq!(left("/a/b"), 0);
        write(root.path(), "600\n", "anon 500\n");
        assert_eq!((left("/a"), left("/elsewhere/of/the/host")), (100, 100), "a container sees the upper part alone");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn some_memory_is_available_and_no_more_than_there_is() {
        let all = bytes_of("/proc/meminfo", "MemTotal:").unwrap();
        assert!((1..=all).contains(&available_memory_bytes().unwrap()));
    }
}
