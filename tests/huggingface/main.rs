//! Models in Hugging Face form: golden directories give the logits of the reference, and hostile ones give errors.

#[path = "../common/counting_allocator.rs"]
mod counting_allocator;
#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/golden.rs"]
mod reference_values;

mod bytes;
mod delta_net;
mod directory;
mod embeddings;
mod empty;
mod golden;
mod hadamard;
mod hostile;
mod memory;
mod opening;
mod other_networks;
mod packing;
mod shards;

use std::path::PathBuf;

/// A file or directory of the golden data.
fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(path)
}
