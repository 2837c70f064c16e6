//! Whole models on every backend, against values that an independent implementation computed
//! (`tests/data/golden/README.md`).

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/golden.rs"]
mod reference_values;

mod golden;
mod layer_zero;
mod shipped;
