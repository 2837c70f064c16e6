//! The roof above every kernel that reads weights: how fast a device copies its own memory.

use crate::error::{Error, Result};
use crate::gpu::context::GpuDevice;
use crate::time::Instant;

/// Bytes of each of the two buffers: more than any cache of a device.
const BYTES: u64 = 256 << 20;
/// Copies in one submit, so that its cost does not count.
const COPIES: u64 = 8;
/// Measured passes, after one that is not.
const PASSES: usize = 5;

/// Bytes a second that a device moves when it copies one buffer to another: those read and those written together. The median
/// of five passes of 2 GiB each.
///
/// # Errors
/// [`Error::Device`] if the device has no room for 512 MiB, or was lost.
pub fn copy_bandwidth(device: &GpuDevice) -> Result<f64> {
    let context = &device.0;
    let bytes = BYTES.min(context.largest_binding);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let (a, b) = (context.buffer("bandwidth", bytes, usage)?, context.buffer("bandwidth", bytes, usage)?);
    let mut times = Vec::new();
    for pass in 0..=PASSES {
        let mut encoder = context.device.create_command_encoder(&Default::default());
        for _ in 0..COPIES {
            encoder.copy_buffer_to_buffer(&a, 0, &b, 0, bytes);
        }
        let commands = encoder.finish();
        let start = Instant::now();
        let submission_index = Some(context.queue.submit([commands]));
        let waited = context.device.poll(wgpu::PollType::Wait { submission_index, timeout: None });
        context.check()?;
        waited.map_err(|cause| Error::lost(format!("the bandwidth cannot be measured: {cause}")))?;
        if pass > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok((2 * COPIES * bytes) as f64 / times[PASSES / 2])
}
