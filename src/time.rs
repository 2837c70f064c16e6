//! The clock: that of the system, or of the page in a browser, where the standard library has none and panics.

#[cfg(not(target_arch = "wasm32"))]
use std::time;

#[cfg(target_arch = "wasm32")]
use web_time as time;

pub(crate) use time::Instant;
/// What templates ask for.
#[cfg(feature = "chat")]
pub(crate) use time::SystemTime;
