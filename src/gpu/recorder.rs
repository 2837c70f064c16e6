//! The command buffer of a step: verbs append dispatches, and one submit sends them all.
//!
//! Bind groups are made once for each combination of shader, parameters and buffers, and found again by those: after the first
//! step of a kind, a step makes none. What is read back is copied to a mappable buffer in the same submit.

#[cfg_attr(target_arch = "wasm32", path = "recorder/browser.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "recorder/blocking.rs")]
mod reading;

use std::collections::HashMap;

use crate::backend::{GpuCounters, KernelCount, Reads};
use crate::error::{Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::context::{Context, GpuDevice};
use crate::gpu::limits::MOST_GROUPS;
use crate::gpu::pace::Pace;
use crate::gpu::profile::Profiler;
use crate::gpu::recorder::reading::Waits;
use crate::gpu::shader::{Access, Shader};
use crate::time::Instant;

/// Most 32-bit parameters of a shader.
pub(crate) const MOST_PARAMS: usize = 8;
/// Most storage bindings of a shader, in core WebGPU.
pub(crate) const MOST_BINDINGS: usize = 8;
/// Bind groups that are kept: those of a large model are a tenth of it.
const MOST_BOUND: usize = 1 << 14;

/// One run of a shader.
pub(crate) struct Dispatch<'a> {
    pub(crate) shader: Shader,
    /// The fields of the shader's `Params`.
    pub(crate) params: &'a [u32],
    /// Its storage bindings, from 1 on.
    pub(crate) buffers: &'a [&'a Buffer],
    pub(crate) groups: [usize; 3],
    /// Bytes of weights or cache that the shader has to read: what its speed is measured by.
    pub(crate) bytes: u64,
    /// What they are.
    pub(crate) reads: Reads,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    device: GpuDevice,
    commands: Vec<Command>,
    known: HashMap<Key, u32>, // places in `bound`
    bound: Vec<Bound>,
    staged: Vec<Staged>,
    stages: HashMap<u64, wgpu::Buffer>, // mappable buffers, by the buffer they are for
    counters: GpuCounters,
    kernels: Vec<KernelCount>, // of the dispatches sent, one for each file in `shaders/` and what it read
    profiler: Option<Profiler>,
    fault: Option<Error>, // told by the next read
    waits: Waits,
    rows: usize, // of the step
    pace: Pace,
    number: u64, // of what was sent last, which may be several submits
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    shader: Shader,
    params: [u32; MOST_PARAMS],
    buffers: [u64; MOST_BINDINGS],
}

#[derive(Debug)]
struct Bound {
    shader: Shader,
    group: wgpu::BindGroup,
    pipeline: Option<wgpu::ComputePipeline>,
    kernel: usize, // its place in `kernels`
}

#[derive(Debug)]
enum Command {
    Dispatch { bound: u32, groups: [u32; 3], bytes: u64 },
    Copy { from: wgpu::Buffer, from_offset: u64, to: wgpu::Buffer, to_offset: u64, bytes: u64 },
}

/// What was copied to a mappable buffer, and with which submit, and its number; none while it is only recorded.
#[derive(Debug)]
struct Staged {
    of: u64,
    offset: u64,
    bytes: u64,
    submit: Option<(u64, wgpu::SubmissionIndex)>,
}

impl Recorder {
    pub(crate) fn new(device: &GpuDevice) -> Self {
        Self {
            device: device.clone(),
            commands: Vec::new(),
            known: HashMap::new(),
            bound: Vec::new(),
            staged: Vec::new(),
            stages: HashMap::new(),
            counters: GpuCounters::default(),
            kernels: Vec::new(),
            profiler: None,
            fault: None,
            waits: Waits::default(),
            rows: 0,
            pace: Pace::new(device.0.longest_submit),
            number: 0,
        }
    }

    pub(crate) fn counters(&self) -> GpuCounters {
        self.counters
    }

    /// What each shader did.
    pub(crate) fn kernels(&self) -> &[KernelCount] {
        &self.kernels
    }

    /// Times every dispatch from now on, if the device can.
    pub(crate) fn profile(&mut self) -> Result<()> {
        self.profiler = Some(Profiler::new(&self.device)?);
        Ok(())
    }

    pub(crate) fn profiler(&self) -> Option<&Profiler> {
        self.profiler.as_ref()
    }

    /// Appends a dispatch.
    pub(crate) fn dispatch(&mut self, dispatch: &Dispatch) {
        let groups = dispatch.groups.map(|n| u32::try_from(n).expect("few workgroups"));
        assert!(groups.iter().all(|&n| n <= MOST_GROUPS), "{dispatches:?} workgroups", dispatches = groups);
        if groups.contains(&0) {
            return;
        }
        debug_assert_eq!(dispatch.shader.params().count(), dispatch.params.len(), "{:?}", dispatch.shader);
        let access = dispatch.shader.access();
        assert_eq!(access.len(), dispatch.buffers.len(), "{:?}", dispatch.shader);
        if !self.staged.is_empty() {
            for (buffer, access) in dispatch.buffers.iter().zip(access) {
                if *access == Access::Write {
                    self.staged.retain(|staged| staged.of != buffer.id);
                }
            }
        }
        let mut key = Key { shader: dispatch.shader, params: [0; MOST_PARAMS], buffers: [0; MOST_BINDINGS] };
        key.params[..dispatch.params.len()].copy_from_slice(dispatch.params);
        for (id, buffer) in key.buffers.iter_mut().zip(dispatch.buffers) {
            *id = buffer.id;
        }
        let bound = match self.known.get(&key) {
            Some(&bound) => bound,
            None => self.bind(key, dispatch.buffers, dispatch.reads),
        };
        self.commands.push(Command::Dispatch { bound, groups, bytes: dispatch.bytes });
    }

    fn bind(&mut self, key: Key, buffers: &[&Buffer], reads: Reads) -> u32 {
        let Context { device, queue, .. } = &*self.device.0;
        // Not mapped when it is made: a device that was lost gives no memory to map, and wgpu would panic.
        let params = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: size_of_val(&key.params) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        queue.write_buffer(&params, 0, bytemuck::cast_slice(&key.params));
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() }];
        for (binding, buffer) in (1..).zip(buffers) {
            entries.push(wgpu::BindGroupEntry { binding, resource: buffer.raw.as_entire_binding() });
        }
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(key.shader.name()),
            layout: &self.device.0.layout(key.shader.access()),
            entries: &entries,
        });
        let bound = self.bound.len() as u32;
        let name = key.shader.name();
        let known = self.kernels.iter().position(|kernel| (kernel.name, kernel.reads) == (name, reads));
        let kernel = known.unwrap_or_else(|| {
            self.kernels.push(KernelCount { name, calls: 0, reads, bytes: 0 });
            self.kernels.len() - 1
        });
        self.bound.push(Bound { shader: key.shader, group, pipeline: None, kernel });
        self.known.insert(key, bound);
        self.counters.bind_groups += 1;
        bound
    }

    /// Appends a copy of `bytes` from one buffer to another, each from an offset on.
    pub(crate) fn copy(&mut self, (to, to_offset): (&Buffer, u64), (from, from_offset): (&Buffer, u64), bytes: u64) {
        self.staged.retain(|staged| staged.of != to.id);
        let (from, to) = (from.raw.clone(), to.raw.clone());
        self.commands.push(Command::Copy { from, from_offset, to, to_offset, bytes });
    }

    /// Brings `bytes` of a buffer within reach of [`Recorder::read`], in this submit.
    pub(crate) fn stage(&mut self, from: &Buffer, offset: u64, bytes: u64) -> Result<()> {
        let bytes = bytes.next_multiple_of(4);
        let context = &self.device.0;
        let stage = match self.stages.get(&from.id).filter(|stage| stage.size() >= bytes) {
            Some(stage) => stage.clone(),
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let stage = context.buffer("what is read back", bytes, usage)?;
                self.stages.insert(from.id, stage.clone());
                stage
            }
        };
        self.staged.retain(|staged| staged.of != from.id);
        self.staged.push(Staged { of: from.id, offset, bytes, submit: None });
        self.waits.staged(from.id, &stage);
        let (from, from_offset) = (from.raw.clone(), offset);
        self.commands.push(Command::Copy { from, from_offset, to: stage, to_offset: 0, bytes });
        Ok(())
    }

    /// Writes to the beginning of a buffer, after all that was recorded before.
    pub(crate) fn write(&mut self, to: &Buffer, bytes: &[u8]) {
        self.write_at(to, 0, bytes);
    }

    /// The same, from an offset on.
    pub(crate) fn write_at(&mut self, to: &Buffer, offset: u64, bytes: &[u8]) {
        if !self.commands.is_empty() {
            self.submit();
        }
        self.staged.retain(|staged| staged.of != to.id);
        self.device.0.queue.write_buffer(&to.raw, offset, bytes);
    }

    /// Sends what was recorded.
    pub(crate) fn submit(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        if let Err(fault) = self.find_pipelines() {
            self.fail(fault);
            self.commands.clear();
            self.staged.retain(|staged| staged.submit.is_some());
            return;
        }
        let commands = std::mem::take(&mut self.commands);
        self.number += 1;
        // Copies alone are no step.
        let is_step = commands.iter().any(|command| matches!(command, Command::Dispatch { .. }));
        self.pace.sent(self.number, Instant::now(), if is_step { self.rows } else { 0 }, commands.len());
        let most = self.pace.commands(self.rows, commands.len());
        let submit = commands.chunks(most).map(|part| self.send(part)).last();
        for staged in self.staged.iter_mut().filter(|staged| staged.submit.is_none()) {
            staged.submit = submit.clone().map(|submit| (self.number, submit));
        }
        self.commands = commands; // for its room
        self.commands.clear();
        if self.bound.len() > MOST_BOUND {
            self.known.clear();
            self.bound.clear();
        }
    }

    /// Encodes commands and sends them, in one submit.
    fn send(&mut self, commands: &[Command]) -> wgpu::SubmissionIndex {
        let context = &self.device.0;
        let mut encoder = context.device.create_command_encoder(&Default::default());
        let mut rest = commands.iter().peekable();
        while let Some(command) = rest.next() {
            let mut next = command;
            if let Command::Copy { from, from_offset, to, to_offset, bytes } = next {
                encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
                continue;
            }
            let timestamps = match (&mut self.profiler, next) {
                (Some(profiler), Command::Dispatch { bound, bytes, .. }) => {
                    profiler.next(self.bound[*bound as usize].shader, *bytes)
                }
                _ => None,
            };
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            // One pass for all dispatches in a row; one for each where they are timed.
            while let Command::Dispatch { bound, groups: [x, y, z], bytes } = next {
                let Bound { group, pipeline, kernel, .. } = &self.bound[*bound as usize];
                pass.set_pipeline(pipeline.as_ref().expect("found above"));
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(*x, *y, *z);
                self.counters.dispatches += 1;
                self.kernels[*kernel].calls += 1;
                self.kernels[*kernel].bytes += bytes;
                match rest.next_if(|next| self.profiler.is_none() && matches!(next, Command::Dispatch { .. })) {
                    Some(following) => next = following,
                    None => break,
                }
            }
        }
        if let Some(profiler) = &mut self.profiler {
            profiler.resolve(&mut encoder);
        }
        let submit = context.queue.submit([encoder.finish()]);
        self.counters.submits += 1;
        self.waits.sent(&submit);
        if let Some(profiler) = &mut self.profiler {
            profiler.collect(&self.device);
        }
        submit
    }

    /// Compiles what the recorded dispatches need for the first time, all at once.
    fn find_pipelines(&mut self) -> Result<()> {
        let mut missing: Vec<Shader> = Vec::new();
        for command in &self.commands {
            if let Command::Dispatch { bound, .. } = command {
                let Bound { shader, pipeline, .. } = &self.bound[*bound as usize];
                if pipeline.is_none() && !missing.contains(shader) {
                    missing.push(*shader);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let pipelines = self.device.0.pipelines(&missing)?;
        for bound in self.bound.iter_mut().filter(|bound| bound.pipeline.is_none()) {
            if let Some(place) = missing.iter().position(|shader| *shader == bound.shader) {
                bound.pipeline = Some(pipelines[place].clone());
            }
        }
        Ok(())
    }

    /// Notes that a step cannot be computed: verbs do not fail, so the next read tells.
    pub(crate) fn fail(&mut self, fault: Error) {
        self.fault.get_or_insert(fault);
    }
}
