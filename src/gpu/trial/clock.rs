//! How long something takes on a device: by the device's clock, where it has one, or by the host's.

use crate::backend::Backend;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Clock {
    Device,
    Host,
}

/// How often it is done in one submit that the host times: so that sending does not count.
const AT_ONCE: u32 = 4;

impl Clock {
    /// The better one that there is.
    pub(super) fn of(gpu: &mut Gpu) -> Self {
        match gpu.profile() {
            Ok(()) => Self::Device,
            Err(_) => Self::Host,
        }
    }

    /// Seconds of what `record` appends to a step.
    pub(super) fn seconds(self, gpu: &mut Gpu, mut record: impl FnMut(&mut Gpu)) -> Result<f64> {
        match self {
            Self::Device => {
                let all = |gpu: &Gpu| gpu.shader_times().iter().map(|time| time.seconds).sum::<f64>();
                let before = all(gpu);
                record(gpu);
                gpu.end();
                gpu.wait()?;
                Ok(all(gpu) - before)
            }
            Self::Host => {
                (0..AT_ONCE).for_each(|_| record(gpu));
                let start = Instant::now();
                gpu.end();
                gpu.wait()?;
                Ok(start.elapsed().as_secs_f64() / f64::from(AT_ONCE))
            }
        }
    }
}
