//! The clock: that of the system, or of the page in a browser, where the standard library has none and panics.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use std::time::{Instant, SystemTime};

#[cfg(target_arch = "wasm32")]
pub(crate) use web_time::{Instant, SystemTime};
