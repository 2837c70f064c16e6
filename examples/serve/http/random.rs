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

/// A name of so many letters and digits.
pub fn letters(prefix: &str, count: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = |_| char::from(LETTERS[(bits() % 62) as usize]);
    (0..count).map(letter).fold(prefix.to_owned(), |name, letter| name + letter.encode_utf8(&mut [0; 4]))
}

/// A name of 32 hexadecimal digits.
pub fn name(prefix: &str) -> String {
    format!("{prefix}{:016x}{:016x}", bits(), bits())
}
