//! What became of actions that may fail without harm to the rest: elsewhere it is known at once; a browser tells later, so that a
//! failure there is a fault of the device, told by the next read.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use known::Scopes;
#[cfg(target_arch = "wasm32")]
pub(crate) use told_later::Scopes;

#[cfg(not(target_arch = "wasm32"))]
mod known {
    use crate::error::Result;
    use crate::gpu::context::explain;

    /// Nothing is left to be told.
    #[derive(Debug, Default)]
    pub(crate) struct Scopes {}

    impl Scopes {
        /// # Errors
        /// [`crate::Error::Device`] if the action failed.
        pub(crate) fn outcome(&self, popped: impl Future<Output = Option<wgpu::Error>>, name: &str) -> Result<()> {
            match pollster::block_on(popped) {
                Some(error) => Err(explain(name, &error)),
                None => Ok(()),
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod told_later {
    use std::fmt;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use crate::error::Result;
    use crate::gpu::context::lock;

    type Popped = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;

    /// Those whose outcome was not told yet.
    #[derive(Default)]
    pub(crate) struct Scopes(Mutex<Vec<Popped>>);

    impl Scopes {
        pub(crate) fn outcome(
            &self,
            popped: impl Future<Output = Option<wgpu::Error>> + Send + 'static,
            _name: &str,
        ) -> Result<()> {
            lock(&self.0).push(Box::pin(popped));
            Ok(())
        }

        /// The first error, once all are told.
        pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<wgpu::Error>> {
            let mut left = lock(&self.0);
            let mut first = None;
            left.retain_mut(|popped| match popped.as_mut().poll(context) {
                Poll::Ready(error) => {
                    first = first.take().or(error);
                    false
                }
                Poll::Pending => true,
            });
            match (first, left.is_empty()) {
                (Some(error), _) => Poll::Ready(Some(error)),
                (None, true) => Poll::Ready(None),
                (None, false) => Poll::Pending,
            }
        }
    }

    impl fmt::Debug for Scopes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Scopes").finish_non_exhaustive()
        }
    }
}
