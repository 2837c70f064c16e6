//! An opened GPU: its queue, its limits, its pipelines, and what went wrong on it. Shared by all that compute on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gpu::adapter::Adapter;
use crate::gpu::cooperative::Cooperative;
use crate::gpu::layout::Way;
use crate::gpu::limits::WORKGROUP_BYTES;
use crate::gpu::pace::LONGEST_SUBMIT;
use crate::gpu::pipeline_cache::PipelineCache;
use crate::gpu::scopes::Scopes;
use crate::gpu::shader::{Access, Dot, Shader};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::trial;
use crate::waiting::block_on;

/// NVIDIA's number as a maker of PCI devices.
const NVIDIA: u32 = 0x10de;

/// How to use a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// How products of trits and int8 are computed. `None`: what suits the device. Apple's have no integer dot products; for prompts, a
    /// GPU that is no software is asked when it is opened what is fastest, with Vulkan or Metal.
    pub dot: Option<Dot>,
    /// The most bytes of a matrix that shaders see at once: larger matrices are cut by rows. `None`: what the device allows.
    pub largest_shard: Option<u64>,
    /// Whether shaders check each index, to look for faults. Sizes are checked before anything is dispatched, so that nothing
    /// but a bug can make a difference.
    pub checked: bool,
    /// Whether steps of many rows are multiplied by cooperative matrices ("tensor cores") where the device has those that are
    /// exact, and attend by them. The products are the same; attention differs in its last bits. `None`: where a GPU that is no software
    /// shows when it is opened that they are right and faster, products and attention each for themselves; never in browsers. `Some(true)`
    /// uses them untried.
    pub cooperative: Option<bool>,
    /// Whether a head in f16 has a screen: the same rows in int8, half as large again on the device, by which most tokens are ruled
    /// out for the steps of few rows. The choices are the same. `None`: where the head has 64 MiB or more and there is room, unless the
    /// GPU is software.
    pub screening: Option<bool>,
    /// How long a submit should keep the device busy: a step that takes longer is sent in parts, by what steps took before. `None`: a
    /// tenth of a second, as drivers reset a GPU that is busy for two seconds or so; software, which nothing resets, is sent all at once.
    pub longest_submit: Option<Duration>,
}

/// An opened GPU. Cheap to clone; pipelines are compiled once for all clones.
#[derive(Clone, Debug)]
pub struct GpuDevice(pub(crate) Arc<Context>);

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// How it multiplies a few rows, and many.
    pub(crate) few_rows: Way,
    pub(crate) many_rows: Way,
    pub(crate) cooperative: Cooperative,
    pub(crate) largest_binding: u64,
    pub(crate) largest_shard: u64,
    pub(crate) has_timestamps: bool,
    adapter: Adapter,
    pub(crate) checked: bool,
    pub(crate) screening: Option<bool>,
    pub(crate) longest_submit: Duration,
    pub(crate) cache: PipelineCache,
    fault: Arc<Mutex<Option<Error>>>,
    scopes: Scopes,
    pub(crate) layouts: Mutex<HashMap<&'static [Access], wgpu::BindGroupLayout>>,
    pub(crate) pipelines: Mutex<HashMap<Shader, wgpu::ComputePipeline>>,
}

impl GpuDevice {
    /// Opens a GPU, and has it compute a few numbers that are known. One that is no software, with Vulkan or Metal, then computes a
    /// product in all ways that may suit it, which takes about a second the first time; the log tells what came of it.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses, or one of the numbers is wrong.
    pub fn open(adapter: &Adapter, options: &GpuOptions) -> Result<Self> {
        block_on(Self::open_async(adapter, options))
    }

    /// [`GpuDevice::open`], for browsers, where nothing may block.
    ///
    /// # Errors
    /// As [`GpuDevice::open`].
    pub async fn open_async(adapter: &Adapter, options: &GpuOptions) -> Result<Self> {
        let offered = match options.cooperative {
            Some(false) => Cooperative::default(),
            // Nothing is used before it was tried.
            None if cfg!(target_arch = "wasm32") || adapter.is_software() => Cooperative::default(),
            _ => Cooperative::offered(&adapter.raw),
        };
        let device = match Self::request(adapter, options, offered).await {
            Err(error) if options.cooperative.is_none() && offered.is_any() => {
                log::warn!("{} cannot be opened with its cooperative matrices: {error}", adapter.name());
                Self::request(adapter, options, Cooperative::default()).await?
            }
            device => device?,
        };
        if cfg!(target_arch = "wasm32") || adapter.is_software() {
            return Ok(device); // in a browser nothing may wait for a trial
        }
        Self::with_tried(device, options).await
    }

    /// The device as a trial says that it multiplies many rows best; where it failed in that, opened again without.
    #[cfg(not(target_arch = "wasm32"))]
    async fn with_tried(mut device: Self, options: &GpuOptions) -> Result<Self> {
        let adapter = device.adapter().clone();
        // Direct3D's and OpenGL's compilers may take seconds for what is only tried.
        let is_quick = matches!(adapter.info().backend, wgpu::Backend::Vulkan | wgpu::Backend::Metal);
        let ways = match options.dot {
            None if is_quick => trial::WAYS,
            _ => &[],
        };
        let offered = if options.cooperative.is_none() { device.0.cooperative } else { Cooperative::default() };
        if ways.is_empty() && !offered.is_any() {
            return Ok(device);
        }
        match trial::choose(&device, ways, offered) {
            Ok(choice) => {
                let context = Arc::get_mut(&mut device.0).expect("nobody else has it yet");
                context.many_rows = choice.way;
                if options.cooperative.is_none() {
                    context.cooperative = choice.cooperative;
                }
                Ok(device)
            }
            Err(error) => {
                log::warn!("{} fails when it is tried, and is opened without what is new: {error}", adapter.name());
                let matrices =
                    if options.cooperative.is_none() { Cooperative::default() } else { device.0.cooperative };
                Self::request(&adapter, options, matrices).await
            }
        }
    }

    #[cfg(target_arch = "wasm32")]
    async fn with_tried(device: Self, _options: &GpuOptions) -> Result<Self> {
        Ok(device)
    }

    /// Opens it, to multiply by those cooperative matrices.
    async fn request(adapter: &Adapter, options: &GpuOptions, cooperative: Cooperative) -> Result<Self> {
        let offered = adapter.raw.limits();
        let mut features = adapter.raw.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::PIPELINE_CACHE);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        let mut workgroup_bytes = WORKGROUP_BYTES as u32;
        if cooperative.is_any() {
            features |= Cooperative::FEATURES;
            workgroup_bytes = workgroup_bytes.max(cooperative.workgroup_bytes());
            // SAFETY: two shaders of this crate use the one experimental feature that is asked for, with matrices that the device
            // lists and within its workgroup memory. What is known to be wrong with it stands in cooperative.rs: so no result of it
            // is used before the device has shown in a trial that it computes what is right, unless somebody asks for it by name.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let required_limits = wgpu::Limits {
            max_compute_workgroup_storage_size: workgroup_bytes,
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("sterna"),
            required_features: features,
            required_limits,
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = adapter
            .raw
            .request_device(&descriptor)
            .await
            .map_err(|cause| Error::refused(format!("{} cannot be opened: {cause}", adapter.name())))?;
        let fault = Arc::new(Mutex::new(None));
        let noted = fault.clone();
        let name = adapter.name();
        device.on_uncaptured_error(Arc::new(move |error| note(&noted, explain(&name, &error))));
        let (noted, name) = (fault.clone(), adapter.name());
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(
                    &noted,
                    Error::lost(format!("{name} was lost ({message}); open it again, and load the model again")),
                );
            }
        });
        let dot = options.dot.unwrap_or(match adapter.info().backend {
            wgpu::Backend::Metal => Dot::Float,
            _ => Dot::Packed,
        });
        // Software has as many registers as it likes. Without packed products there is more to hold.
        let wide = dot == Dot::Packed && (adapter.info().vendor == NVIDIA || adapter.is_software());
        let way = Way { dot, wide };
        let most = offered.max_storage_buffer_binding_size.min(offered.max_buffer_size);
        let context = Context {
            cache: PipelineCache::open(&device, adapter.info()),
            device,
            queue,
            few_rows: way,
            many_rows: way,
            cooperative,
            largest_binding: most,
            largest_shard: options.largest_shard.unwrap_or(most).min(most),
            has_timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            adapter: adapter.clone(),
            checked: options.checked,
            screening: options.screening,
            // Software is reset by nobody, and a browser does not tell when a submit was done without being asked.
            longest_submit: options.longest_submit.unwrap_or(
                if adapter.is_software() || cfg!(target_arch = "wasm32") { Duration::MAX } else { LONGEST_SUBMIT },
            ),
            fault,
            scopes: Scopes::default(),
            layouts: Mutex::default(),
            pipelines: Mutex::default(),
        };
        adapter.log();
        let device = Self(Arc::new(context));
        device.check_arithmetic().await?;
        Ok(device)
    }

    /// The adapter that was opened.
    pub fn adapter(&self) -> &Adapter {
        &self.0.adapter
    }

    /// Its name and how it multiplies.
    pub(super) fn describe(&self) -> String {
        let named = |dot| match dot {
            Dot::Packed => "packed dot products",
            Dot::Float => "float dot products",
        };
        let Context { few_rows, many_rows, .. } = &*self.0;
        let dot = match few_rows.dot == many_rows.dot {
            true => named(few_rows.dot).into(),
            false => format!("{} for few rows, {} for many", named(few_rows.dot), named(many_rows.dot)),
        };
        let times = |speed: Option<f64>| speed.map_or(String::new(), |speed| format!(" ({speed:.1} times as fast)"));
        let cooperative = self.0.cooperative;
        let matrices = match cooperative.has_products() {
            true => format!(", cooperative matrices{}", times(cooperative.speed)),
            false => String::new(),
        };
        let attention = match cooperative.attention {
            Some(_) => format!(", attention by cooperative matrices{}", times(cooperative.attention_speed)),
            None => String::new(),
        };
        format!("gpu, {}, {dot}{matrices}{attention}", self.adapter().name())
    }

    /// Whether steps of many rows are multiplied by cooperative matrices.
    pub fn is_cooperative(&self) -> bool {
        self.0.cooperative.has_products()
    }

    /// Whether steps of many rows attend by cooperative matrices, where heads have 64 or 128 features in f16.
    pub fn attends_cooperatively(&self) -> bool {
        self.0.cooperative.attention.is_some()
    }
}

impl Context {
    /// What went wrong first, if anything did: nothing that comes after it can be relied on.
    pub(crate) fn check(&self) -> Result<()> {
        match &*lock(&self.fault) {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// Tells when all actions that were attempted are known to have gone well or not; what failed is a fault from then on.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn poll_scopes(&self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.scopes.poll(context).map(|error| {
            if let Some(error) = error {
                note(&self.fault, explain(&self.adapter.name(), &error));
            }
        })
    }

    /// Waits until the device has done a submit, or all that was sent.
    ///
    /// # Errors
    /// [`Error::Device`] if the device was lost.
    pub(crate) fn wait(&self, submit: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index: submit, timeout: None })
    }

    /// Asks the device how far it is, or waits for it.
    pub(crate) fn poll(&self, how: wgpu::PollType) -> Result<()> {
        let polled = self.device.poll(how);
        self.check()?;
        let lost = |cause| {
            let name = self.adapter.name();
            Error::lost(format!(
                "{name} does not end what it was sent; open it again, and load the model again: {cause}"
            ))
        };
        polled.map(drop).map_err(lost)
    }

    /// Does something that may fail without harm to the rest.
    pub(crate) fn attempt<T>(&self, filter: wgpu::ErrorFilter, action: impl FnOnce() -> T) -> Result<T> {
        let scope = self.device.push_error_scope(filter);
        let value = action();
        self.scopes.outcome(scope.pop(), &self.adapter.name())?;
        Ok(value)
    }

    /// A buffer of at least `bytes` bytes.
    pub(crate) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        if bytes > self.largest_binding {
            return Err(Error::out_of_memory(format!(
                "{label} of {bytes} bytes is more than {} lets a shader see at once ({} bytes); choose a smaller context, \
                 fewer sequences or smaller steps",
                self.adapter.name(),
                self.largest_binding
            )));
        }
        let size = bytes.max(16).next_multiple_of(16);
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.attempt(wgpu::ErrorFilter::OutOfMemory, || self.device.create_buffer(&descriptor))
    }
}

/// Keeps the first fault: later ones follow from it.
fn note(fault: &Mutex<Option<Error>>, error: Error) {
    log::error!("{error}");
    lock(fault).get_or_insert(error);
}

pub(crate) fn explain(name: &str, error: &wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::out_of_memory(format!(
            "{name} has too little free memory; choose a smaller context, fewer sequences, or the CPU"
        )),
        other => Error::refused(format!(
            "{name} refuses a command, a fault of this crate or of the driver; use another device: {other}"
        )),
    }
}

/// What is guarded here is whole whenever the lock is free, so that a panic elsewhere does not matter.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{GenerateOptions, Session, SessionOptions};
    use crate::gpu::Gpu;
    use crate::model::Model;

    fn devices() -> Vec<GpuDevice> {
        let open = |adapter: &Adapter| GpuDevice::open(adapter, &GpuOptions::default()).unwrap();
        Adapter::all_to_test().iter().map(open).collect()
    }

    fn told<T: std::fmt::Debug>(result: Result<T>) -> String {
        match result {
            Err(Error::Device(fault)) => fault.message,
            other => panic!("{other:?} is no error of the device"),
        }
    }

    #[test]
    fn a_refused_command_is_an_error_from_then_on() {
        for device in devices() {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE;
            let size = device.0.device.limits().max_buffer_size;
            let usual = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
            device.0.check().unwrap();
            let _ = device.0.device.create_buffer(&wgpu::BufferDescriptor { size: size + 16, ..usual });
            let text = told(device.0.check());
            assert!(text.contains(&device.adapter().name()) && text.contains("use another device"), "{text}");
            assert_eq!(told(device.0.check()), text, "the first fault stays");
        }
    }

    #[test]
    fn a_device_that_is_gone_is_an_error_of_the_next_token() {
        let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap();
        for device in devices() {
            let options = SessionOptions { chunk: Some(8), ..SessionOptions::default() };
            let mut session = Session::with_backend(&model, Gpu::new(&device), &options).unwrap();
            let mut tokens = session.generate_ids(&[1, 2, 3], &GenerateOptions::greedy()).unwrap();
            tokens.next().unwrap().unwrap();
            device.0.device.destroy();
            let outcome: Result<Vec<u32>> = tokens.collect();
            let mut later = |ids| session.generate_ids(ids, &GenerateOptions::greedy()).unwrap().next().unwrap();
            // The last with steps that nobody recorded before.
            for text in [told(outcome), told(later(&[1, 2, 3])), told(later(&[1; 40]))] {
                assert!(text.contains("load the model again"), "{text}");
            }
        }
    }
}
