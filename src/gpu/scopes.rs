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

#[cfg(any(target_arch = "wasm32", test))]
mod told_later {
    use std::fmt;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};

    use crate::error::Result;
    use crate::gpu::context::lock;

    type Popped = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;

    /// Those whose outcome was not told yet, and who waits for them: all sessions of a device.
    #[derive(Default)]
    pub(crate) struct Scopes {
        popped: Mutex<Vec<Popped>>,
        waiting: Arc<Waiting>,
    }

    /// A future wakes only whoever polled it last, so that one waker stands for all.
    #[derive(Default)]
    struct Waiting(Mutex<Vec<Waker>>);

    impl Wake for Waiting {
        fn wake(self: Arc<Self>) {
            let wakers = std::mem::take(&mut *lock(&self.0));
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    impl Scopes {
        pub(crate) fn outcome(
            &self,
            popped: impl Future<Output = Option<wgpu::Error>> + Send + 'static,
            _name: &str,
        ) -> Result<()> {
            lock(&self.popped).push(Box::pin(popped));
            Ok(())
        }

        /// The first error, once all are told.
        pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<wgpu::Error>> {
            let mut waiting = lock(&self.waiting.0);
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            drop(waiting);
            let all = Waker::from(Arc::clone(&self.waiting));
            let mut left = lock(&self.popped);
            let mut first = None;
            left.retain_mut(|popped| match popped.as_mut().poll(&mut Context::from_waker(&all)) {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};

    use super::told_later::Scopes;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_waits_is_woken_also_if_another_asked_later() {
        // What a browser tells when it likes to, and wakes as futures do: who asked last.
        let (is_told, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None::<Waker>)));
        let (told, last) = (is_told.clone(), asked.clone());
        let popped = poll_fn(move |context| {
            *last.lock().unwrap() = Some(context.waker().clone());
            if told.load(Ordering::Relaxed) { Poll::Ready(None) } else { Poll::Pending }
        });
        let scopes = Scopes::default();
        scopes.outcome(popped, "a device").unwrap();
        let counts = [(); 2].map(|()| Arc::new(Count::default()));
        let sessions = counts.clone().map(Waker::from);
        let poll = |session: &Waker| scopes.poll(&mut Context::from_waker(session)).is_ready();
        assert!(!poll(&sessions[0]) && !poll(&sessions[1]) && !poll(&sessions[1]));
        is_told.store(true, Ordering::Relaxed);
        asked.lock().unwrap().take().unwrap().wake();
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1]);
        assert!(sessions.iter().all(poll));
    }
}
