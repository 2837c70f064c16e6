//! The GPUs of this machine: what there is, and which one a name means.
//!
//! `WGPU_BACKEND` (vulkan, metal, dx12, gl) limits where is looked, `WGPU_ADAPTER_NAME` (part of a name) what is found.

use crate::error::{Error, Result};
use crate::gpu::GpuKind;

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
        let mut adapters = Self::of_any_name();
        if let Some(name) = variable("WGPU_ADAPTER_NAME") {
            adapters.retain(|adapter| adapter.is_called(&name));
        }
        adapters
    }

    /// As [`Adapter::all`], whatever `WGPU_ADAPTER_NAME` says.
    fn of_any_name() -> Vec<Self> {
        let asked = wgpu::Backends::from_env();
        let mut adapters = Self::of(asked.unwrap_or(wgpu::Backends::PRIMARY));
        if adapters.is_empty() && asked.is_none() {
            adapters = Self::of(wgpu::Backends::SECONDARY);
        }
        adapters.sort_by_key(Self::kind);
        adapters
    }

    /// In a browser there is nothing to list: see [`Adapter::of_browser`].
    #[cfg(target_arch = "wasm32")]
    fn of(_backends: wgpu::Backends) -> Vec<Self> {
        Vec::new()
    }

    /// The GPU that the browser chooses for a page, by WebGPU; software, where it has no other.
    ///
    /// # Errors
    /// [`Error::Device`] if it has none, or no WebGPU.
    #[cfg(target_arch = "wasm32")]
    pub async fn of_browser() -> Result<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::BROWSER_WEBGPU;
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        let found = wgpu::Instance::new(descriptor).request_adapter(&options).await;
        let none = |cause| Error::absent(format!("this browser has no WebGPU, or no GPU for it; use the CPU: {cause}"));
        let raw = found.map_err(none)?;
        let mut info = raw.get_info();
        if info.name.is_empty() {
            info.name = "WebGPU".into(); // browsers tell little of the machine
        }
        Ok(Self { raw, info })
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn of(backends: wgpu::Backends) -> Vec<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        (descriptor.flags, descriptor.backends) = (wgpu::InstanceFlags::empty(), backends);
        descriptor.backend_options.dx12.shader_compiler = Self::dx12_compiler();
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
        let (all, asked) = (Self::all(), variable("WGPU_ADAPTER_NAME").is_some());
        match all.iter().find(|adapter| asked || !adapter.is_software()) {
            Some(adapter) => Ok(adapter.clone()),
            None if all.is_empty() => Err(Error::absent(Self::why_none())),
            None => Err(Error::absent(format!(
                "this machine has no GPU but the {}; to use that, ask for it by a part of its name, here or in WGPU_ADAPTER_NAME; \
                 the CPU is faster",
                Self::list(&all)
            ))),
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
            None if all.is_empty() => Err(Error::absent(Self::why_none())),
            None => Err(Error::absent(format!("no GPU is called \"{name}\"; there is the {}", Self::list(&all)))),
        }
    }

    /// What people call it, for example "NVIDIA H200 (Vulkan)".
    pub fn name(&self) -> String {
        format!("{} ({:?})", self.info.name, self.info.backend)
    }

    /// What kind of machine it is.
    pub fn kind(&self) -> GpuKind {
        match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => GpuKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => GpuKind::Integrated,
            wgpu::DeviceType::VirtualGpu => GpuKind::Virtual,
            wgpu::DeviceType::Other => GpuKind::Unknown,
            wgpu::DeviceType::Cpu => GpuKind::Software,
        }
    }

    /// Whether it is a program that computes on the CPU: right, and slow.
    pub fn is_software(&self) -> bool {
        self.kind() == GpuKind::Software
    }

    /// What compiles shaders for Direct3D 12: `WGPU_DX12_COMPILER`, or the newer compiler where there is one, else the old one, which has
    /// no integer dot products.
    fn dx12_compiler() -> wgpu::Dx12Compiler {
        wgpu::Dx12Compiler::from_env().unwrap_or_default()
    }

    /// Says in the log what cannot be asked of the device.
    pub(crate) fn log(&self) {
        if self.info.backend == wgpu::Backend::Dx12 {
            log::info!("{} has its shaders compiled by {:?}", self.name(), Self::dx12_compiler());
        }
    }

    /// Its driver, with its version, as it calls itself; empty where it has no name.
    pub fn driver(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_owned()
    }

    pub(crate) fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    fn is_called(&self, name: &str) -> bool {
        self.name().to_lowercase().contains(&name.to_lowercase())
    }

    /// "software GPU llvmpipe (Vulkan)", and so on.
    pub(crate) fn list(adapters: &[Self]) -> String {
        let names = adapters.iter().map(|adapter| format!("{} {}", adapter.kind(), adapter.name()));
        names.collect::<Vec<_>>().join(", the ")
    }

    /// As [`Adapter::all`], for tests: that there is none is told on the terminal, past the harness, or fails where
    /// `STERNA_REQUIRE_GPU` is 1.
    #[cfg(test)]
    pub(crate) fn all_to_test() -> Vec<Self> {
        static TELL: std::sync::Once = std::sync::Once::new();
        let adapters = Self::all();
        if adapters.is_empty() {
            assert_ne!(variable("STERNA_REQUIRE_GPU").as_deref(), Some("1"), "{}", Self::why_none());
            TELL.call_once(|| {
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    format_args!("skipped: all GPUs: {}\n", Self::why_none()),
                );
            });
        }
        adapters
    }

    /// Why [`Adapter::all`] is empty.
    pub(crate) fn why_none() -> String {
        let any = Self::of_any_name();
        match (variable("WGPU_ADAPTER_NAME"), variable("WGPU_BACKEND")) {
            (Some(name), _) if !any.is_empty() => {
                format!("no GPU is called \"{name}\", as WGPU_ADAPTER_NAME asks; there is the {}", Self::list(&any))
            }
            (_, Some(backend)) => format!(
                "no GPU was found with WGPU_BACKEND \"{backend}\"; it may name vulkan, metal, dx12 and gl, and without it all \
                 are tried"
            ),
            _ => "no GPU was found, nor a software one; install a driver for Vulkan, Metal or Direct3D 12, or use the CPU".into(),
        }
    }
}

/// What an environment variable asks for; empty ones ask for nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
