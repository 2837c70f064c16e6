//! The screened head chooses as the exact head does, bit for bit: on heads and hidden vectors made to mislead it, with
//! every kernel set and number of threads, and on every GPU, for one row and for many.

mod choices;
mod generation;
mod material;
#[cfg(feature = "gpu")]
mod on_gpus;
