//! The tensor encodings against bytes that other programs wrote, against themselves, and against damaged bytes.

mod absmean;
mod dense;
mod errors;
mod forks;
mod golden;
mod hidden;
mod quantised;
mod scales;
mod ternary;
mod type_numbers;

#[expect(dead_code, reason = "no key here is an array")]
#[path = "../common/gguf_writer.rs"]
mod gguf_writer;

use bytes::Bytes;
use sterna::format::encodings::{Encoding, I2sLayout};
use sterna::format::{Dense, Scales, Ternary, Weights};

const LAYOUTS: [I2sLayout; 3] = [I2sLayout::Block128, I2sLayout::Block64, I2sLayout::Row4];

/// Decodes what must be ternary.
fn ternary(encoding: Encoding, bytes: impl Into<Bytes>, rows: usize, cols: usize, layout: I2sLayout) -> Ternary {
    match encoding.decode(&bytes.into(), rows, cols, layout).unwrap() {
        Weights::Ternary(weights) => weights,
        Weights::Dense(_) => panic!("{encoding} is ternary"),
    }
}

/// Decodes what must be dense.
fn dense(encoding: Encoding, bytes: impl Into<Bytes>, rows: usize, cols: usize) -> Dense {
    match encoding.decode(&bytes.into(), rows, cols, I2sLayout::default()).unwrap() {
        Weights::Dense(weights) => weights,
        Weights::Ternary(_) => panic!("{encoding} is dense"),
    }
}

/// All trits, row by row, without the padding.
fn trits(weights: &Ternary) -> Vec<i8> {
    (0..weights.rows()).flat_map(|row| weights.row_trits(row)).collect()
}

/// Trits without a pattern that a wrong order could keep.
fn some_trits(count: usize) -> Vec<i8> {
    let mut state = 0x9E37_79B9_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % 3) as i8 - 1
    };
    (0..count).map(next).collect()
}

/// Packed weights of [`some_trits`].
fn some_ternary(rows: usize, cols: usize, scales: Scales) -> Ternary {
    Ternary::pack(rows, cols, &some_trits(rows * cols), scales).unwrap()
}
