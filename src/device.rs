//! Where a model can run. A device is chosen by the caller and named in every report; none stands in for another
//! unannounced.

use crate::cpu::{Cpu, CpuOptions};
use crate::engine::{BackendEngine, Engine};
use crate::error::Result;
use crate::generate::SessionOptions;
use crate::gpu::{Adapter, Gpu, GpuDevice, GpuOptions};
use crate::model::Model;

/// A machine that can run a model.
#[derive(Clone, Debug)]
pub struct Device {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cpu(CpuOptions),
    Gpu(GpuDevice),
}

impl Device {
    /// The CPU, with the fastest kernels it has and one thread for each core.
    pub fn cpu() -> Self {
        Self::cpu_with(CpuOptions::default())
    }

    /// The CPU, with chosen kernels or threads.
    pub fn cpu_with(options: CpuOptions) -> Self {
        Self { kind: Kind::Cpu(options) }
    }

    /// The first GPU that is no software, opened.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is none, or it cannot be opened; it says what there is.
    pub fn gpu() -> Result<Self> {
        Self::gpu_with(&Adapter::first()?, &GpuOptions::default())
    }

    /// A GPU that [`Adapter::all`] listed, opened.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if it cannot be opened.
    pub fn gpu_with(adapter: &Adapter, options: &GpuOptions) -> Result<Self> {
        Ok(Self { kind: Kind::Gpu(GpuDevice::open(adapter, options)?) })
    }

    /// Puts a model on this device; also returns the device's name as it turned out ("cpu, avx2, 2 threads").
    pub(crate) fn load(
        &self,
        model: &Model,
        options: &SessionOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Box<dyn Engine>, String)> {
        match &self.kind {
            Kind::Cpu(cpu) => {
                let cpu = Cpu::new(cpu)?;
                let engine = BackendEngine::load(cpu, model, options, progress)?;
                let name = engine.backend().describe();
                Ok((Box::new(engine), name))
            }
            Kind::Gpu(device) => {
                let engine = BackendEngine::load(Gpu::new(device), model, options, progress)?;
                let name = engine.backend().describe();
                Ok((Box::new(engine), name))
            }
        }
    }
}
