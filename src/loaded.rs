//! A model on a device, loaded once for any number of sessions.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::Backend;
use crate::engine::{Loading, Shared};
use crate::error::Result;
use crate::generate::{Session, SessionOptions};
use crate::model::Model;
use crate::waiting::waited;

/// A model whose weights are on a device. Cheap to clone, and every clone, on any thread, may make [sessions](Session): they
/// share the weights, and have caches and activations of their own. The weights go when the last of all these is dropped.
#[derive(Clone)]
pub struct Loaded {
    model: Model,
    shared: Arc<dyn Shared>,
}

impl Loaded {
    pub(crate) fn new(model: &Model, shared: Arc<dyn Shared>) -> Self {
        Self { model: model.clone(), shared }
    }

    /// A model on any [`Backend`]: for backends of your own, and for holding a model against the reference.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn on_backend<B: Backend + 'static>(model: &Model, backend: B) -> Result<Self> {
        let mut go_on = |_, _| ControlFlow::Continue(());
        Ok(Self::new(model, Arc::new(waited(Loading::load(backend, model, &mut go_on))?)))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Room for sequences: activations and caches, and on a GPU the shaders.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device has too little memory, [`crate::Error::Input`] for impossible options.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        waited(self.session_async(options))
    }

    /// [`Loaded::session`], for the GPU of a browser, where nothing may block. Elsewhere it is over at its first poll.
    ///
    /// # Errors
    /// As [`Loaded::session`].
    pub async fn session_async(&self, options: &SessionOptions) -> Result<Session> {
        let capacity = options.capacity(self.model.config(), self.shared.rows_at_once(), self.weight_bytes())?;
        let mut engine = self.shared.engine(capacity, &options.interrupt)?;
        poll_fn(|context| engine.poll_rehearsed(context)).await;
        engine.rehearsed()?;
        Session::on_engine(self, engine, options)
    }

    /// Bytes that the weights take: in memory of their own, or in the map of their file.
    pub fn weight_bytes(&self) -> u64 {
        self.shared.weight_bytes()
    }

    /// Bytes of memory of its own that the device gave for the weights. None where it shares the memory of the process, as a CPU
    /// does.
    pub fn device_bytes(&self) -> Option<u64> {
        self.shared.device_bytes()
    }
}

impl Model {
    /// Puts the model on a device, for any number of sessions.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device cannot hold it, otherwise those of [`Model::weights`].
    pub fn load(&self, device: &crate::Device) -> Result<Loaded> {
        self.load_with_progress(device, &mut |_, _| ControlFlow::Continue(()))
    }

    /// [`Model::load`], telling `progress` the number of layers loaded, and of all. It may stop between two of them.
    ///
    /// # Errors
    /// As [`Model::load`], and [`crate::Error::Interrupted`] if `progress` stopped.
    pub fn load_with_progress(
        &self,
        device: &crate::Device,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Loaded> {
        waited(self.load_async(device, progress))
    }

    /// [`Model::load_with_progress`], for the GPU of a browser, where nothing may block. Elsewhere it is over at its first poll.
    ///
    /// # Errors
    /// As [`Model::load_with_progress`].
    pub async fn load_async(
        &self,
        device: &crate::Device,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Loaded> {
        Ok(Loaded::new(self, device.load(self, progress).await?))
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("weight_bytes", &self.weight_bytes()).finish_non_exhaustive()
    }
}
