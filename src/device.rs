//! Where a model can run. A device is chosen by the caller and named in every report; none stands in for another
//! unannounced.

mod best;
mod contest;
mod list;

pub use best::Best;
pub use list::{DeviceInfo, DeviceKind};

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cpu::{Cpu, CpuDevice, CpuOptions};
use crate::engine::{Loading, Shared};
use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::gpu::{Adapter, GpuDevice, GpuOptions};
use crate::model::Model;

/// A machine that can run models. Cheap to clone; all that is loaded on clones of one device shares its threads or its queue.
///
/// The environment variables `WGPU_BACKEND` (vulkan, metal, dx12, gl) and `WGPU_ADAPTER_NAME` (part of a name) limit which
/// GPUs are found.
#[derive(Clone, Debug)]
pub struct Device {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cpu(LazyCpu),
    Gpu(GpuDevice),
}

/// A CPU whose threads start when something is first loaded on it. Clones share them.
#[derive(Clone, Debug)]
struct LazyCpu {
    options: CpuOptions,
    opened: Arc<Mutex<Option<CpuDevice>>>,
}

impl LazyCpu {
    fn open(&self) -> Result<CpuDevice> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some(device) => Ok(device.clone()),
            None => Ok(opened.insert(CpuDevice::open(&self.options)?).clone()),
        }
    }
}

impl Device {
    /// The CPU, with the fastest kernels it has and one thread for each core.
    pub fn cpu() -> Self {
        Self::cpu_with(CpuOptions::default())
    }

    /// The CPU, with chosen kernels or threads.
    pub fn cpu_with(options: CpuOptions) -> Self {
        Self { kind: Kind::Cpu(LazyCpu { options, opened: Arc::default() }) }
    }

    /// The fastest: the CPU, or a GPU that proves in a short probe (ternary products, a few tenths of a second) that it
    /// is right and clearly faster. The first GPU that can be opened is probed. Software GPUs never are: their CPU is faster.
    ///
    /// Models of a few million weights run faster on a CPU than on any GPU; the probe knows nothing of the model.
    pub fn best() -> Best {
        best::best()
    }

    /// The CPU and all GPUs, software ones too, none of them opened.
    pub fn all() -> Vec<DeviceInfo> {
        list::all()
    }

    /// The device of this name: "cpu", "gpu" for [`Device::gpu`], or a part of a GPU's name ("H200", "llvmpipe"), whatever
    /// the case of its letters.
    ///
    /// # Errors
    /// [`Error::Device`] if there is none, or it cannot be opened; it says what there is.
    pub fn named(name: &str) -> Result<Self> {
        match name.to_lowercase().as_str() {
            "" => Err(Error::Input("a device needs a name: \"cpu\", \"gpu\", or a part of a GPU's".into())),
            "cpu" => Ok(Self::cpu()),
            "gpu" => Self::gpu(),
            _ => Self::gpu_with(&Adapter::named(name)?, &GpuOptions::default()),
        }
    }

    /// The first GPU that is no software, opened. Where `WGPU_ADAPTER_NAME` names one, that, software or not.
    ///
    /// # Errors
    /// [`Error::Device`] if there is none, or it cannot be opened; it says what there is.
    pub fn gpu() -> Result<Self> {
        Self::gpu_with(&Adapter::first()?, &GpuOptions::default())
    }

    /// The GPU of a browser, by WebGPU, opened. Whether it is software, which is slower than the CPU, its
    /// [adapter](Adapter::of_browser) tells.
    ///
    /// # Errors
    /// [`Error::Device`] if there is none, or it cannot be opened.
    #[cfg(all(target_arch = "wasm32", feature = "gpu"))]
    pub async fn gpu_of_browser(adapter: &Adapter, options: &GpuOptions) -> Result<Self> {
        Ok(Self { kind: Kind::Gpu(GpuDevice::open_async(adapter, options).await?) })
    }

    /// A GPU that [`Adapter::all`] listed, opened.
    ///
    /// # Errors
    /// [`Error::Device`] if it cannot be opened.
    pub fn gpu_with(adapter: &Adapter, options: &GpuOptions) -> Result<Self> {
        Ok(Self { kind: Kind::Gpu(GpuDevice::open(adapter, options)?) })
    }

    /// What people call it: "cpu", or the name of the GPU.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Cpu(_) => "cpu".into(),
            Kind::Gpu(device) => device.adapter().name(),
        }
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, Kind::Gpu(_))
    }

    /// Puts a model on this device.
    pub(crate) async fn load(
        &self,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Arc<dyn Shared>> {
        Ok(match &self.kind {
            Kind::Cpu(cpu) => Arc::new(Loading::load(Cpu::on(&cpu.open()?), model, progress).await?),
            #[cfg(feature = "gpu")]
            Kind::Gpu(device) => Arc::new(Loading::load(Gpu::new(device), model, progress).await?),
            #[cfg(not(feature = "gpu"))]
            Kind::Gpu(device) => match *device {},
        })
    }
}
