//! Rows of int8 weights times int16 activations, for the screened head: sixteen products in two instructions, and the
//! weights widened on their way from memory. Up to three activation rows share each load of weights.

use std::arch::x86_64::*;

use super::lanes::add_lanes_i32;
use super::{AHEAD_BYTES, prefetch};

/// Activation rows that share a load: 3 · 4 accumulators and a vector of weights fit the 16 registers.
const SHARED: usize = 3;
/// Columns of a step of the loop: one cache line of weights, one vector for each accumulator.
const STEP: usize = 64;

/// [`crate::cpu::kernels::Kernels::dot_bytes`].
#[target_feature(enable = "avx2")]
pub(super) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    let (steps, rest) = w.as_chunks::<STEP>();
    assert!(rest.is_empty() && x.len() == out.len() * w.len());
    for (out, x) in out.chunks_mut(SHARED).zip(x.chunks(SHARED * w.len())) {
        match out.len() {
            1 => dot::<1>(out, steps, x),
            2 => dot::<2>(out, steps, x),
            _ => dot::<SHARED>(out, steps, x),
        }
    }
}

/// A pair of products is at most 2 · 128 · 32768 = 2^23 in magnitude; that all sums fit 32 bits is the caller's promise.
#[inline]
#[target_feature(enable = "avx2")]
fn dot<const ROWS: usize>(out: &mut [i32], w: &[[i8; STEP]], x: &[i16]) {
    let (x, _) = x.as_chunks::<STEP>();
    let x: [&[[i16; STEP]]; ROWS] = std::array::from_fn(|row| &x[row * w.len()..][..w.len()]);
    let mut sums = [[_mm256_setzero_si256(); 4]; ROWS];
    for (step, w) in w.iter().enumerate() {
        prefetch(w.as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES));
        for (lane, w) in w.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: `w` has 16 bytes; the load may be unaligned.
            let w = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(w.as_ptr().cast()) });
            for (sums, x) in sums.iter_mut().zip(&x) {
                let x = &x[step].as_chunks::<16>().0[lane];
                // SAFETY: `x` has 32 bytes; the load may be unaligned.
                let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
                sums[lane] = _mm256_add_epi32(sums[lane], _mm256_madd_epi16(w, x));
            }
        }
    }
    for (o, sums) in out.iter_mut().zip(sums) {
        *o = add_lanes_i32(sums).iter().sum();
    }
}
