//! Where a model can run. A device is chosen by the caller and named in every report; none stands in for another
//! unannounced.

use crate::cpu::{Cpu, CpuOptions};
use crate::engine::{BackendEngine, Engine};
use crate::error::Result;
use crate::model::Model;
use crate::transformer::Capacity;

/// A machine that can run a model.
#[derive(Clone, Debug)]
pub struct Device {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Cpu(CpuOptions),
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

    /// Puts a model on this device; also returns the device's name as it turned out ("cpu, avx2, 2 threads").
    pub(crate) fn load(
        &self,
        model: &Model,
        capacity: Capacity,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Box<dyn Engine>, String)> {
        match &self.kind {
            Kind::Cpu(options) => {
                let cpu = Cpu::new(options)?;
                let engine = BackendEngine::load(cpu, model, capacity, progress)?;
                let name = engine.backend().describe();
                Ok((Box::new(engine), name))
            }
        }
    }
}
