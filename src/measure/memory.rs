//! The memory of this process, as the system counts it: resident pages, those of mapped files included.

/// The most memory that this process has held at once, in bytes. Linux keeps this figure (`VmHWM`). On macOS and Windows it is
/// the most that [`resident_memory_bytes`] has told so far, so a peak between two calls can be missed. `None` where the
/// platform does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    platform::peak()
}

/// The memory that this process holds now, in bytes; `None` where the platform does not tell.
pub fn resident_memory_bytes() -> Option<u64> {
    platform::resident()
}

/// The memory of this process that lies in huge pages, in bytes: on Linux those that were given to anonymous memory. `None` where
/// the platform does not tell.
pub fn huge_page_bytes() -> Option<u64> {
    super::bytes_of("/proc/self/smaps_rollup", "AnonHugePages:")
}

/// How [`peak_memory_bytes`] is known, for reports.
pub(crate) const PEAK_SOURCE: &str = platform::SOURCE;

#[cfg(target_os = "linux")]
mod platform {
    use super::super::bytes_of;

    pub(super) const SOURCE: &str = "VmHWM of /proc/self/status";

    pub(super) fn peak() -> Option<u64> {
        bytes_of("/proc/self/status", "VmHWM:")
    }

    pub(super) fn resident() -> Option<u64> {
        bytes_of("/proc/self/status", "VmRSS:")
    }
}

#[cfg(any(target_os = "macos", windows))]
mod platform {
    use std::sync::atomic::{AtomicU64, Ordering};

    pub(super) const SOURCE: &str = "the most that the system told after any run";

    static MOST: AtomicU64 = AtomicU64::new(0);

    pub(super) fn peak() -> Option<u64> {
        let now = resident()?;
        Some(MOST.fetch_max(now, Ordering::Relaxed).max(now))
    }

    pub(super) fn resident() -> Option<u64> {
        let bytes = memory_stats::memory_stats()?.physical_mem as u64;
        MOST.fetch_max(bytes, Ordering::Relaxed);
        Some(bytes)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod platform {
    pub(super) const SOURCE: &str = "not told by this platform";

    pub(super) fn peak() -> Option<u64> {
        None
    }

    pub(super) fn resident() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos", windows))]
    fn peak_memory_grows_with_what_is_touched() {
        use super::*;
        const BYTES: usize = 64 << 20;
        let before = peak_memory_bytes().expect("this platform tells");
        let block = vec![1u8; BYTES];
        let held = resident_memory_bytes().expect("this platform tells");
        assert!(block.iter().map(|&b| u64::from(b)).sum::<u64>() == BYTES as u64);
        assert!(held >= BYTES as u64);
        assert!(peak_memory_bytes().expect("this platform tells") >= before.max(BYTES as u64));
    }
}
