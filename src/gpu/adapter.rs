//! The GPUs of this machine: what there is, and which one a name means.
//!
//! `WGPU_BACKEND` (vulkan, metal, dx12, gl) limits where is looked, `WGPU_ADAPTER_NAME` (part of a name) what is found.

use crate::error::{Error, Result};

/// A GPU that this machine offers.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) raw: wgpu::Adapter,
    info: wgpu::AdapterInfo,
}

impl Adapter {
    /// All that can compute: discrete GPUs first, then integrated ones, then others, software last. OpenGL is only asked
    /// where there is nothing else, or `WGPU_BACKEND` says so: most of its devices are others under another name.
    pub fn all() -> Vec<Self> {
        let asked = wgpu::Backends::from_env();
        let mut adapters = Self::of(asked.unwrap_or(wgpu::Backends::PRIMARY));
        if adapters.is_empty() && asked.is_none() {
            adapters = Self::of(wgpu::Backends::SECONDARY);
        }
        if let Ok(name) = std::env::var("WGPU_ADAPTER_NAME") {
            adapters.retain(|adapter| adapter.is_called(&name));
        }
        adapters.sort_by_key(|adapter| match adapter.info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        });
        adapters
    }

    fn of(backends: wgpu::Backends) -> Vec<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        (descriptor.flags, descriptor.backends) = (wgpu::InstanceFlags::empty(), backends);
        let instance = wgpu::Instance::new(descriptor);
        pollster::block_on(instance.enumerate_adapters(backends))
            .into_iter()
            .filter(|raw| raw.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
            .map(|raw| Self { info: raw.get_info(), raw })
            .collect()
    }

    /// The first GPU that is no software, or the first whose name contains `WGPU_ADAPTER_NAME`.
    ///
    /// # Errors
    /// [`Error::Device`] if there is none; it lists what there is.
    pub fn first() -> Result<Self> {
        let asked = std::env::var_os("WGPU_ADAPTER_NAME").is_some();
        let all = Self::all();
        match all.iter().find(|adapter| asked || !adapter.is_software()) {
            Some(adapter) => Ok(adapter.clone()),
            None => Err(Error::Device(format!("this machine offers no GPU ({}); use the CPU", Self::list(&all)))),
        }
    }

    /// The first whose name contains `name`, whatever the case of its letters; software too.
    ///
    /// # Errors
    /// [`Error::Device`] if there is none; it lists what there is.
    pub fn named(name: &str) -> Result<Self> {
        let all = Self::all();
        match all.iter().find(|adapter| adapter.is_called(name)) {
            Some(adapter) => Ok(adapter.clone()),
            None => Err(Error::Device(format!("no GPU is called \"{name}\" ({})", Self::list(&all)))),
        }
    }

    /// What people call it, for example "NVIDIA H200 (Vulkan)".
    pub fn name(&self) -> String {
        format!("{} ({:?})", self.info.name, self.info.backend)
    }

    /// Whether it is a program that computes on the CPU: right, and slow.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    pub(crate) fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    fn is_called(&self, name: &str) -> bool {
        self.info.name.to_lowercase().contains(&name.to_lowercase())
    }

    fn list(all: &[Self]) -> String {
        match all {
            [] => "no adapters were found; is a Vulkan, Metal or Direct3D 12 driver installed?".into(),
            _ => {
                let names: Vec<String> = all
                    .iter()
                    .map(|adapter| match adapter.is_software() {
                        true => format!("{}, software: only when asked for by name", adapter.name()),
                        false => adapter.name(),
                    })
                    .collect();
                format!("there is: {}", names.join("; "))
            }
        }
    }
}
