//! What a trial took, kept between runs: seconds differ by device and driver, and by nothing else that changes from day to day.

use std::path::{Path, PathBuf};

use crate::gpu::cache_file;
use crate::gpu::context::GpuDevice;
use crate::gpu::shader::Shader;

/// The longest file that is read, in bytes.
const MOST_BYTES: usize = 1 << 16;

/// Where the seconds of a trial are kept, and of what they are.
#[derive(Debug)]
pub(super) struct KeptTimes {
    path: PathBuf,
    of: String,
}

impl KeptTimes {
    /// Those of a device in the user's cache directory, if there is one, for a trial of that name, of these shaders: by this version of the
    /// crate, this driver, on this device, opened as it is.
    pub(super) fn of(device: &GpuDevice, trial: &str, shaders: &[Shader]) -> Option<Self> {
        let info = device.adapter().info();
        let name = format!("{trial}_{:?}_{:x}_{:x}", info.backend, info.vendor, info.device).to_lowercase();
        let of = [
            format!("sterna {}", env!("CARGO_PKG_VERSION")),
            format!("{:?} {:?} {:?}", info.name, info.driver, info.driver_info),
            format!("checked {}, shards of {}", device.0.checked, device.0.largest_shard),
            format!("{shaders:?}"),
        ];
        cache_file::path(&name).map(|path| Self::at(path, of.join(" | ")))
    }

    /// In that file, of what is said in one line.
    pub(super) fn at(path: PathBuf, of: String) -> Self {
        Self { path, of }
    }

    /// The seconds of `count` shaders; none where nothing is kept, or it is of something else.
    pub(super) fn read(&self, count: usize) -> Option<Vec<f64>> {
        let bytes = cache_file::read(&self.path, MOST_BYTES)?;
        let mut lines = str::from_utf8(&bytes).ok()?.lines();
        if lines.next() != Some(&self.of) {
            return None;
        }
        let seconds = lines.map(|line| line.parse().ok().filter(|seconds| (1e-9..1e3).contains(seconds)));
        let seconds = seconds.collect::<Option<Vec<f64>>>()?;
        (seconds.len() == count).then_some(seconds)
    }

    /// Keeps the seconds of some shaders.
    pub(super) fn write(&self, seconds: impl IntoIterator<Item = f64>) {
        let lines: String = seconds.into_iter().map(|seconds| format!("{seconds:e}\n")).collect();
        cache_file::write(&self.path, format!("{}\n{lines}", self.of).as_bytes());
    }

    /// Where they are kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn seconds_are_read_as_they_were_kept_for_what_they_are_of() {
        let folder = tempfile::tempdir().unwrap();
        let times = |of: &str| KeptTimes::at(folder.path().join("sterna/trial"), of.into());
        assert_eq!(times("a driver").read(3), None);
        times("a driver").write([0.003, 1.0 / 3.0, 2e-5]);
        assert_eq!(times("a driver").read(3), Some(vec![0.003, 1.0 / 3.0, 2e-5]));
        assert_eq!((times("a driver").read(2), times("a driver").read(4)), (None, None), "of other shaders");
        assert_eq!(times("another driver").read(3), None);
        times("another driver").write([0.5]);
        assert_eq!((times("another driver").read(1), times("a driver").read(3)), (Some(vec![0.5]), None));
    }

    #[test]
    fn what_is_no_list_of_seconds_is_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let times = KeptTimes::at(folder.path().join("trial"), "a driver".into());
        let no_seconds =
            ["", "a driver", "a driver\n", "a driver\nfast\n", "a driver\n0\n", "a driver\n-1\n", "a driver\nnan\n"];
        for bytes in no_seconds.map(str::as_bytes).into_iter().chain([&b"a driver\n1e9\n"[..], b"\xff\xfe"]) {
            fs::write(times.path(), bytes).unwrap();
            assert_eq!(times.read(1), None, "{bytes:?}");
        }
        let endless = "0.5\n".repeat(MOST_BYTES);
        fs::write(times.path(), format!("a driver\n{endless}")).unwrap();
        assert_eq!(times.read(MOST_BYTES), None, "longer than any such file");
    }
}
