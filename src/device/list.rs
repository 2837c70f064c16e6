//! What there is to choose from.

use super::Device;
use crate::error::Result;
use crate::gpu::{Adapter, GpuKind, GpuOptions};

/// A device as [`Device::all`] lists it.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    name: String,
    kind: DeviceKind,
    adapter: Option<Adapter>,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// A GPU of some kind.
    Gpu(GpuKind),
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("CPU"),
            Self::Gpu(kind) => kind.fmt(f),
        }
    }
}

impl DeviceInfo {
    /// What people call it. [`Device::named`] finds it by that.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Makes it ready for models.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the driver refuses.
    pub fn open(&self) -> Result<Device> {
        match &self.adapter {
            None => Ok(Device::cpu()),
            Some(adapter) => Device::gpu_with(adapter, &GpuOptions::default()),
        }
    }
}

/// See [`Device::all`].
pub(super) fn all() -> Vec<DeviceInfo> {
    let cpu = DeviceInfo { name: Device::cpu().name(), kind: DeviceKind::Cpu, adapter: None };
    let gpu = |adapter: Adapter| DeviceInfo {
        name: adapter.name(),
        kind: DeviceKind::Gpu(adapter.kind()),
        adapter: Some(adapter),
    };
    std::iter::once(cpu).chain(Adapter::all().into_iter().map(gpu)).collect()
}
