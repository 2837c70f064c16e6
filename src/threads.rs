//! Threads that the system may refuse: what one of them would have done, the others do.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

/// Calls `work` on up to `most` threads at once, the calling one among them, and returns when all are done. The work takes
/// its own share, from a queue that all know: a thread that cannot start is one less to take from it.
pub(crate) fn together(most: usize, work: &(dyn Fn() + Sync)) {
    thread::scope(|scope| {
        for _ in 1..most {
            if Builder::new().spawn_scoped(scope, work).is_err() {
                break; // nor would the next one start
            }
        }
        work();
    });
}

/// What is left of the `items` that several threads share.
pub(crate) struct Queue<I>(Mutex<I>);

impl<I: Iterator> Queue<I> {
    pub(crate) fn new(items: I) -> Self {
        Self(Mutex::new(items))
    }

    /// The next one, which nobody else gets.
    pub(crate) fn take(&self) -> Option<I::Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_item_is_taken_once_by_any_number_of_threads() {
        for threads in [0, 1, 2, 5] {
            let queue = Queue::new(1..=100_usize);
            let sum = AtomicUsize::new(0);
            together(threads, &|| {
                while let Some(item) = queue.take() {
                    sum.fetch_add(item, Ordering::Relaxed);
                }
            });
            assert_eq!(sum.into_inner(), 5050, "{threads} threads");
        }
    }
}
