//! Numbers that nobody can guess twice: names of answers and requests, and seeds.

use std::hash::{BuildHasher, RandomState};

/// 64 random bits: the standard library's keys, which come from the system, over their own counter.
pub fn bits() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A seed that JavaScript's numbers hold too.
pub fn seed() -> u64 {
    bits() >> 11
}

/// A name of 32 hexadecimal digits.
pub fn name(prefix: &str) -> String {
    format!("{prefix}{:016x}{:016x}", bits(), bits())
}
