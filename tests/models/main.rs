//! Whole models on every backend, against values that an independent implementation computed
//! (`tests/data/golden/README.md`).

#[path = "../common/mod.rs"]
mod common;
#[expect(dead_code, reason = "only some of the changes are made here")]
#[path = "../common/gguf_edit.rs"]
mod edit;
#[expect(dead_code, reason = "only where the fields lie is of interest here")]
#[path = "../common/gguf_fields.rs"]
mod gguf_fields;
#[expect(dead_code, reason = "files are taken apart here, not made")]
#[path = "../common/gguf_writer.rs"]
mod gguf_writer;
#[path = "../common/golden.rs"]
mod reference_values;

mod golden;
mod layer_zero;
mod rewritten;
mod shipped;
