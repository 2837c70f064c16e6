//! Compiled pipelines, kept on disk between runs where the driver lets us (Vulkan): a driver that keeps no cache of its own
//! takes seconds to compile them.

use std::path::PathBuf;

use crate::gpu::cache_file;

/// The longest file that is read, in bytes; those of all our shaders have a few millions.
const MOST_BYTES: usize = 64 << 20;

/// The cache of one device. A file that is missing or damaged is as good as an empty one: the driver checks it.
#[derive(Debug)]
pub(crate) struct PipelineCache {
    raw: Option<wgpu::PipelineCache>,
    path: Option<PathBuf>,
}

impl PipelineCache {
    /// Reads the device's cache from the user's cache directory.
    pub(crate) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Self {
        let key = wgpu::util::pipeline_cache_key(info);
        let Some(key) = key.filter(|_| device.features().contains(wgpu::Features::PIPELINE_CACHE)) else {
            return Self { raw: None, path: None };
        };
        let path = cache_file::path(&key);
        let data = path.as_deref().and_then(|path| cache_file::read(path, MOST_BYTES));
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("sterna"), data: data.as_deref(), fallback: true };
        // SAFETY: the file is one that this function's counterpart wrote, in a directory of the user's own; wgpu and the driver
        // compare its header with the device, and take an empty cache where that does not fit.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Self { raw: Some(raw), path }
    }

    pub(crate) fn raw(&self) -> Option<&wgpu::PipelineCache> {
        self.raw.as_ref()
    }

    /// Writes the cache to its file.
    pub(crate) fn save(&self) {
        let (Some(raw), Some(path)) = (&self.raw, &self.path) else { return };
        let Some(data) = raw.get_data() else { return };
        cache_file::write(path, &data);
    }
}
