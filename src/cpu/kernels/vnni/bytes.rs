//! Rows of int8 weights times int16 activations with `vpdpwssd`, for the screened head: 32 weights are widened on their
//! way from memory and multiplied and added in one instruction. Up to eight activation rows share each load of weights.
//! (The loop is that of `avx2/bytes.rs` with other vectors. One form over both would be longer than the two are.)

use std::arch::x86_64::*;

use super::AHEAD_BYTES;
use crate::cpu::kernels::avx2::prefetch;

/// Activation rows that share a load: 8 · 2 accumulators and 2 vectors of weights fit the 32 registers.
const SHARED: usize = 8;
/// Columns of a step of the loop: one cache line of weights.
const STEP: usize = 64;

/// [`crate::cpu::kernels::Kernels::dot_bytes`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    let (steps, rest) = w.as_chunks::<STEP>();
    assert!(rest.is_empty() && x.len() == out.len() * w.len());
    for (out, x) in out.chunks_mut(SHARED).zip(x.chunks(SHARED * w.len())) {
        match out.len() {
            1 => dot::<1>(out, steps, x),
            2 => dot::<2>(out, steps, x),
            3 => dot::<3>(out, steps, x),
            4 => dot::<4>(out, steps, x),
            5 => dot::<5>(out, steps, x),
            6 => dot::<6>(out, steps, x),
            7 => dot::<7>(out, steps, x),
            _ => dot::<SHARED>(out, steps, x),
        }
    }
}

/// That all sums fit 32 bits is the caller's promise; then those of any lane do, too.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot<const ROWS: usize>(out: &mut [i32], w: &[[i8; STEP]], x: &[i16]) {
    let (x, _) = x.as_chunks::<STEP>();
    let x: [&[[i16; STEP]]; ROWS] = std::array::from_fn(|row| &x[row * w.len()..][..w.len()]);
    let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
    for (step, w) in w.iter().enumerate() {
        prefetch(w.as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES));
        for (half, w) in w.as_chunks::<32>().0.iter().enumerate() {
            // SAFETY: `w` has 32 bytes; the load may be unaligned.
            let w = _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(w.as_ptr().cast()) });
            for (sums, x) in sums.iter_mut().zip(&x) {
                let x = &x[step].as_chunks::<32>().0[half];
                // SAFETY: `x` has 64 bytes; the load may be unaligned.
                let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
                sums[half] = _mm512_dpwssd_epi32(sums[half], w, x);
            }
        }
    }
    for (o, [a, b]) in out.iter_mut().zip(sums) {
        *o = _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
    }
}
