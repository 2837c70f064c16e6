//! The server as its clients meet it: started as a program with a small model, and spoken to over sockets, byte for byte.
//!
//! Nothing here waits for a time to pass and then hopes: what is waited for is looked at until it is so, or too long.

mod around;
mod cancel;
mod chat;
mod client;
mod completions;
mod drain;
mod embeddings;
mod errors;
#[path = "../common/examples.rs"]
mod examples;
mod forms;
#[cfg(unix)]
mod hub;
mod limits;
mod load;
#[cfg(all(target_os = "linux", target_env = "gnu", feature = "gpu"))]
mod lost;
mod metrics;
mod server;
#[cfg(all(target_os = "linux", target_env = "gnu", feature = "gpu"))]
#[path = "../common/skipped.rs"]
mod skipped;
