//! The GPUs as tests ask for them: all that there are, software too. A test that finds none says so, or fails where
//! `STERNA_REQUIRE_GPU` is 1.

#[path = "skipped.rs"]
mod skipped;

use std::sync::{LazyLock, Mutex, PoisonError};

use sterna::gpu::{Adapter, GpuDevice, GpuOptions};

pub use skipped::skipped;

/// Opened devices, so that the tests of a process compile their pipelines once.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

struct Opened {
    name: String,
    options: GpuOptions,
    queue: usize,
    device: GpuDevice,
}

static ADAPTERS: LazyLock<Vec<Adapter>> = LazyLock::new(Adapter::all);

/// All GPUs, opened with these options.
pub fn devices(options: GpuOptions) -> Vec<GpuDevice> {
    devices_of_queue(options, 0)
}

/// The same, opened once for each `queue`: software Vulkan compiles the shaders of a device one after the other, so tests that have
/// different ones get along faster on devices of their own.
pub fn devices_of_queue(options: GpuOptions, queue: usize) -> Vec<GpuDevice> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if ADAPTERS.is_empty() {
        let required = std::env::var("STERNA_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(!required, "STERNA_REQUIRE_GPU is 1, but this machine offers no GPU, not even a software one");
        skipped("all GPUs: this machine offers none, not even a software one (Debian: mesa-vulkan-drivers)");
    }
    let mut open = |adapter: &Adapter| {
        let name = adapter.name();
        let wanted = |known: &&Opened| known.name == name && known.options == options && known.queue == queue;
        if let Some(known) = opened.iter().find(wanted) {
            return known.device.clone();
        }
        let device = GpuDevice::open(adapter, &options).unwrap();
        opened.push(Opened { name, options, queue, device: device.clone() });
        device
    };
    ADAPTERS.iter().map(&mut open).collect()
}
