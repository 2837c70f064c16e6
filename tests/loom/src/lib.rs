//! The thread pool of the crate above, from its own files, with its own tests and models.

#![expect(dead_code, reason = "only the models and the tests use the pool here")]

#[path = "../../../src/cpu"]
mod cpu {
    mod disjoint;
    mod pool;
}
#[path = "../../../src/error.rs"]
mod error;
