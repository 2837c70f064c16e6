//! Waits. Whatever may have to wait for a device is an `async` function at its root, once for all devices. Outside of a browser
//! the reads themselves wait, so that such a function is over at its first poll and costs nothing; in a browser nothing may block,
//! and the function is really waited for.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};

/// The outcome of a function whose reads wait; none where they cannot, which is on the GPU of a browser.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

/// [`at_once`], with an error where that cannot be.
///
/// # Errors
/// [`Error::Device`] on the GPU of a browser, otherwise those of the function.
pub(crate) fn waited<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    at_once(future).unwrap_or_else(|| Err(cannot_wait()))
}

/// The outcome of a function that asks the system, whose answer may take a while.
///
/// # Errors
/// [`Error::Device`] in a browser, otherwise those of the function.
#[cfg(feature = "gpu")]
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    #[cfg(not(target_arch = "wasm32"))]
    return pollster::block_on(future);
    #[cfg(target_arch = "wasm32")]
    {
        drop(future);
        Err(cannot_wait())
    }
}

/// What is said where a browser would have to block.
pub(crate) fn cannot_wait() -> Error {
    Error::refused("a page cannot block until its GPU is done; call the form of this function that is async")
}
