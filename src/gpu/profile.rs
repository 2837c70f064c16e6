//! How long each shader takes, by the device's own clock (timestamp queries).

use std::collections::BTreeMap;

use crate::backend::ShaderTime;
use crate::error::{Error, Result};
use crate::gpu::context::GpuDevice;
use crate::gpu::shader::Shader;

#[derive(Debug)]
pub(crate) struct Profiler {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
    period: f64,                     // seconds of a tick
    timed: Vec<(&'static str, u64)>, // of this submit
    times: BTreeMap<&'static str, ShaderTime>,
}

/// Dispatches that can be timed in one submit; 2 queries each, of which core WebGPU allows 4096.
const MOST_TIMED: usize = 2048;

impl Profiler {
    pub(crate) fn new(device: &GpuDevice) -> Result<Self> {
        let context = &device.0;
        if !context.has_timestamps {
            return Err(Error::refused(format!("{} has no timestamps to profile with", device.adapter().name())));
        }
        let queries = context.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * MOST_TIMED as u32,
        });
        let bytes = 2 * MOST_TIMED as u64 * 8;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = context.buffer("profile", bytes, usage)?;
        let read = context.buffer("profile", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
        let period = f64::from(context.queue.get_timestamp_period()) * 1e-9;
        Ok(Self { queries, resolved, read, period, timed: Vec::new(), times: BTreeMap::new() })
    }

    /// Where the next dispatch is to write its times; none where a submit has too many.
    pub(crate) fn next(&mut self, shader: Shader, bytes: u64) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        if self.timed.len() == MOST_TIMED {
            return None;
        }
        let query = 2 * self.timed.len() as u32;
        self.timed.push((shader.name(), bytes));
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(query),
            end_of_pass_write_index: Some(query + 1),
        })
    }

    pub(crate) fn resolve(&mut self, encoder: &mut wgpu::CommandEncoder) {
        let count = 2 * self.timed.len() as u32;
        if count > 0 {
            encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, u64::from(count) * 8);
        }
    }

    /// Waits for the submit and adds its times. A device that fails says so at the next read.
    pub(crate) fn collect(&mut self, device: &GpuDevice) {
        let range = 0..self.timed.len() as u64 * 16;
        if range.is_empty() {
            return;
        }
        self.read.map_async(wgpu::MapMode::Read, range.clone(), |_| ());
        if device.0.wait(None, None).is_ok()
            && let Ok(view) = self.read.get_mapped_range(range)
        {
            let ticks = view.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
            let ticks: Vec<u64> = ticks.collect();
            for ((name, bytes), times) in self.timed.iter().zip(ticks.as_chunks::<2>().0) {
                let entry = self.times.entry(name).or_default();
                entry.shader = name;
                entry.runs += 1;
                entry.seconds += times[1].saturating_sub(times[0]) as f64 * self.period;
                entry.bytes += bytes;
            }
        }
        self.read.unmap();
        self.timed.clear();
    }

    /// The times so far, the longest first.
    pub(crate) fn times(&self) -> Vec<ShaderTime> {
        let mut times: Vec<ShaderTime> = self.times.values().cloned().collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        times
    }
}
