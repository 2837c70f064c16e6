//! Compiled shaders: each is compiled once for all that compute on a GPU, several at a time.

use std::sync::Mutex;

use crate::error::Result;
use crate::gpu::context::{Context, lock};
use crate::gpu::shader::{Access, Shader};
use crate::threads::{Queue, together};

impl Context {
    /// The layout of a shader's bindings: the uniform `params`, then storage.
    pub(crate) fn layout(&self, access: &'static [Access]) -> wgpu::BindGroupLayout {
        let make = || {
            let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            };
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
            for (binding, access) in (1..).zip(access) {
                let read_only = *access == Access::Read;
                entries.push(entry(binding, wgpu::BufferBindingType::Storage { read_only }));
            }
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        };
        lock(&self.layouts).entry(access).or_insert_with(make).clone()
    }

    /// The pipelines of `shaders`, in their order. What is missing is compiled, on several threads.
    ///
    /// # Errors
    /// [`Error::Device`] if the driver refuses a shader.
    pub(crate) fn pipelines(&self, shaders: &[Shader]) -> Result<Vec<wgpu::ComputePipeline>> {
        let missing: Vec<Shader> = {
            let known = lock(&self.pipelines);
            shaders.iter().copied().filter(|shader| !known.contains_key(shader)).collect()
        };
        if !missing.is_empty() {
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(missing.len());
            let (shaders, refusal) = (Queue::new(missing.iter().copied()), Mutex::new(Ok(())));
            together(threads, &|| {
                while let Some(shader) = shaders.take() {
                    match self.attempt(wgpu::ErrorFilter::Validation, || self.compile(shader)) {
                        Ok(pipeline) => drop(lock(&self.pipelines).insert(shader, pipeline)),
                        Err(error) => return *lock(&refusal) = Err(error),
                    }
                }
            });
            lock(&refusal).clone()?;
            self.cache.save();
        }
        let known = lock(&self.pipelines);
        Ok(shaders.iter().map(|shader| known[shader].clone()).collect())
    }

    fn compile(&self, shader: Shader) -> wgpu::ComputePipeline {
        let source = wgpu::ShaderSource::Wgsl(shader.source().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name()), source };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the shaders are this crate's own; the verbs that dispatch them assert that every shape fits its
            // buffers, and token ids, which the device makes, are compared with the table's rows before use. All loops end.
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(shader.name()),
            bind_group_layouts: &[Some(&self.layout(shader.access()))],
            immediate_size: 0,
        });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name()),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Every shader writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.raw(),
        })
    }
}
