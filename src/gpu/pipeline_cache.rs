//! Compiled pipelines, kept on disk between runs where the driver lets us (Vulkan): a driver that keeps no cache of its own
//! takes seconds to compile them.

use std::path::PathBuf;

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
        let path = directory().map(|directory| directory.join(key));
        let data = path.as_ref().and_then(|path| std::fs::read(path).ok());
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("sterna"), data: data.as_deref(), fallback: true };
        // SAFETY: the file is one that this function's counterpart wrote, in a directory of the user's own; wgpu and the driver
        // compare its header with the device, and take an empty cache where that does not fit.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Self { raw: Some(raw), path }
    }

    pub(crate) fn raw(&self) -> Option<&wgpu::PipelineCache> {
        self.raw.as_ref()
    }

    /// Writes the cache to its file, whole or not at all. A cache that cannot be written is no error, but a note in the log.
    pub(crate) fn save(&self) {
        let (Some(raw), Some(path)) = (&self.raw, &self.path) else { return };
        let Some(data) = raw.get_data() else { return };
        let partial = path.with_extension(std::process::id().to_string());
        let directory = path.parent().expect("a file in a directory");
        let written = std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&partial, &data))
            .and_then(|()| std::fs::rename(&partial, path));
        if let Err(cause) = written {
            log::info!("the pipeline cache {} cannot be written: {cause}", path.display());
        }
    }
}

/// `sterna` in the directory where this platform keeps caches.
fn directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = match () {
        () if cfg!(windows) => variable("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => variable("HOME").map(|home| home.join("Library/Caches")),
        () => variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache"))),
    };
    caches.map(|caches| caches.join("sterna"))
}
