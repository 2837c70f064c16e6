//! Weights on a device, for any number of sessions.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::Backend;
use crate::engine::{BackendEngine, Engine, Shared};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::model::Model;
use crate::transformer::{Capacity, Transformer};

/// The one kind of [`Shared`], for each backend.
pub(crate) struct Loading<B: Backend> {
    transformer: Arc<Transformer<B>>,
    /// The one that loaded, which no step runs on: sessions get siblings of it.
    backend: Mutex<B>,
}

impl<B: Backend> Loading<B> {
    pub(crate) async fn load(
        mut backend: B,
        model: &Model,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Self> {
        let transformer = Arc::new(Transformer::load_async(&mut backend, model, progress).await?);
        Ok(Self { transformer, backend: Mutex::new(backend) })
    }

    /// Nobody panics while the backend is taken, but for a device that does.
    fn with_backend<T>(&self, ask: impl FnOnce(&B) -> T) -> T {
        ask(&self.backend.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<B: Backend + 'static> Shared for Loading<B> {
    fn rows_at_once(&self) -> usize {
        self.with_backend(B::rows_at_once)
    }

    fn weight_bytes(&self) -> u64 {
        self.with_backend(|backend| self.transformer.matrix_bytes(backend))
    }

    fn device_bytes(&self) -> Option<u64> {
        self.with_backend(B::device_bytes)
    }

    fn engine(&self, capacity: Capacity, interrupt: &Interrupt) -> Result<Box<dyn Engine>> {
        let backend = self.with_backend(B::sibling);
        let engine = BackendEngine::new(backend, Arc::clone(&self.transformer), capacity, interrupt)?;
        Ok(Box::new(engine))
    }
}
