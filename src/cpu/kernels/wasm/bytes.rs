//! Rows of int8 weights times int16 activations, for the screened head: eight weights are widened as they are loaded, and serve some
//! activation rows.

use std::arch::wasm32::*;

use super::products::total;

/// Activation rows that share the weights.
const SHARED: usize = 4;

/// [`crate::cpu::kernels::Kernels::dot_bytes`].
pub(super) fn dot_bytes(out: &mut [i32], w: &[i8], x: &[i16]) {
    assert_eq!(x.len(), out.len() * w.len());
    for (out, x) in out.chunks_mut(SHARED).zip(x.chunks(SHARED * w.len())) {
        match out.len() {
            1 => dot::<1>(out, w, x),
            2 => dot::<2>(out, w, x),
            3 => dot::<3>(out, w, x),
            _ => dot::<SHARED>(out, w, x),
        }
    }
}

/// That all sums fit 32 bits is the caller's promise; then those of any lane do, too. A pair of products is at most 2 · 128 · 32768.
fn dot<const ROWS: usize>(out: &mut [i32], w: &[i8], x: &[i16]) {
    let (eights, rest) = w.as_chunks::<8>();
    assert!(rest.is_empty(), "rows are whole blocks");
    let rows: [&[[i16; 8]]; ROWS] =
        std::array::from_fn(|row| &x[row * w.len()..][..w.len()].as_chunks().0[..eights.len()]);
    let mut sums = [i32x4_splat(0); ROWS];
    for (place, w) in eights.iter().enumerate() {
        // SAFETY: there are 8 bytes; loads of WebAssembly need no alignment.
        let w = unsafe { i16x8_load_extend_i8x8(w.as_ptr()) };
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: there are 16 bytes; loads of WebAssembly need no alignment.
            let x = unsafe { v128_load(row[place].as_ptr().cast()) };
            *sums = i32x4_add(*sums, i32x4_dot_i16x8(w, x));
        }
    }
    for (o, sums) in out.iter_mut().zip(sums) {
        *o = total(sums);
    }
}
