//! How many cores this process may use. Threads of one core share its units, and two of them multiply no faster than one; so a
//! thread for each physical core is what is worth starting.

/// Physical cores among those that this process may run on, at most as many threads as it may run at once (by its affinity, and
/// on Linux by the quota of its control group); at least one. Where the system does not tell which threads are one core, each
/// counts for one.
pub(super) fn allowed() -> usize {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    physical().map_or(threads, |cores| cores.clamp(1, threads))
}

/// Physical cores that the affinity allows, as Linux tells in files.
fn physical() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = numbers(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)?;
    let siblings = |cpu: usize| {
        let list = std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        numbers(&list.ok()?)
    };
    count(&allowed, siblings)
}

/// The cores that some CPUs are of, each told by the CPUs that share it.
fn count(allowed: &[usize], siblings: impl Fn(usize) -> Option<Vec<usize>>) -> Option<usize> {
    let cores: Option<std::collections::BTreeSet<_>> = allowed.iter().map(|&cpu| siblings(cpu)).collect();
    Some(cores?.len())
}

/// The numbers of a list such as "0-3,8": none if it is no such list, or one of more CPUs than any machine has.
fn numbers(list: &str) -> Option<Vec<usize>> {
    const MOST: usize = 1 << 16;
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_the_system_writes_them() {
        assert_eq!(numbers("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(numbers("5"), Some(vec![5]));
        for nonsense in ["", "a", "1-", "0-4294967295", "3,,4"] {
            assert_eq!(numbers(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn threads_of_one_core_count_once_and_only_those_that_are_allowed() {
        let machine = |cpu: usize| Some(vec![cpu % 4, cpu % 4 + 4]); // four cores of two threads
        assert_eq!(count(&[0, 1, 2, 3, 4, 5, 6, 7], machine), Some(4));
        assert_eq!(count(&[1, 5], machine), Some(1));
        assert_eq!(count(&[2, 3], machine), Some(2));
        assert_eq!(count(&[2, 3], |_| None), None);
    }

    #[test]
    fn there_is_a_core_and_no_more_than_threads() {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        assert!((1..=threads).contains(&allowed()));
    }
}
