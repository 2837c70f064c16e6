//! Rows of dense weights times f32 activations, for the head: 32 columns at a time, in four accumulators, so that the
//! additions of one do not wait for those of another. Up to three activation rows share each load of weights.

use std::arch::x86_64::*;

use super::{AHEAD_BYTES, add_lanes_f32, prefetch};
use crate::cpu::floats::{brain, half};
use crate::cpu::kernels::{DenseRow, portable};

/// Activation rows that share a load: 3 · 4 accumulators and a vector of weights fit the 16 registers.
const SHARED: usize = 3;

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;
const INT8: u8 = 3;

/// The scales of int8 weights: that of column `c` is `values[c >> shift]`. Empty for other weights.
#[derive(Clone, Copy)]
struct Scales<'a> {
    values: &'a [f32],
    shift: u32,
}

/// [`crate::cpu::kernels::Kernels::dot_dense`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dot_dense(out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
    let none = Scales { values: &[], shift: 0 };
    match w {
        DenseRow::F32(w) => by_rows::<F32, 4>(out, w, none, x),
        DenseRow::F16(w) => by_rows::<F16, 2>(out, w, none, x),
        DenseRow::Bf16(w) => by_rows::<BF16, 2>(out, w, none, x),
        DenseRow::Int8 { codes, scales, .. } if scales.len() == 1 => {
            by_rows::<INT8, 1>(out, codes, Scales { values: scales, shift: usize::BITS - 1 }, x);
        }
        // A vector of eight columns has one scale.
        DenseRow::Int8 { codes, scales, columns } if columns.is_power_of_two() && columns >= 8 => {
            by_rows::<INT8, 1>(out, codes, Scales { values: scales, shift: columns.trailing_zeros() }, x);
        }
        DenseRow::Int8 { .. } => portable::dot_dense(out, w, x),
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn by_rows<const FORMAT: u8, const BYTES: usize>(out: &mut [f32], w: &[u8], scales: Scales<'_>, x: &[f32]) {
    let w = w.as_chunks::<BYTES>().0;
    assert_eq!(x.len(), out.len() * w.len());
    for (out, x) in out.chunks_mut(SHARED).zip(x.chunks(SHARED * w.len())) {
        match out.len() {
            1 => dot::<FORMAT, BYTES, 1>(out, w, scales, x),
            2 => dot::<FORMAT, BYTES, 2>(out, w, scales, x),
            _ => dot::<FORMAT, BYTES, SHARED>(out, w, scales, x),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot<const FORMAT: u8, const BYTES: usize, const ROWS: usize>(
    out: &mut [f32],
    w: &[[u8; BYTES]],
    scales: Scales<'_>,
    x: &[f32],
) {
    let cols = w.len();
    let rows: [(&[[f32; 8]], &[f32]); ROWS] = std::array::from_fn(|row| x[row * cols..][..cols].as_chunks());
    let x = rows.map(|(vectors, _)| vectors);
    let (vectors, rest) = w.as_chunks::<8>();
    let mut sums = [[_mm256_setzero_ps(); 4]; ROWS];
    assert!(x.iter().all(|x| x.len() == vectors.len()));
    assert!(FORMAT != INT8 || (cols - 1) >> scales.shift < scales.values.len());
    let (fours, last) = vectors.as_chunks::<4>();
    for (four, w) in fours.iter().enumerate() {
        for line in (0..size_of_val(w)).step_by(64) {
            prefetch(w.as_ptr().cast::<u8>().wrapping_add(AHEAD_BYTES + line));
        }
        for (lane, w) in w.iter().enumerate() {
            // SAFETY: `vector` counts through `vectors`; the assertions above are what the function asks for.
            unsafe { add_vector::<FORMAT, BYTES, ROWS>(&mut sums, lane, four * 4 + lane, w, scales, &x) };
        }
    }
    for (lane, w) in last.iter().enumerate() {
        // SAFETY: as above.
        unsafe { add_vector::<FORMAT, BYTES, ROWS>(&mut sums, lane, fours.len() * 4 + lane, w, scales, &x) };
    }
    for ((o, sums), (_, x)) in out.iter_mut().zip(sums).zip(rows) {
        let four = add_lanes_f32(sums);
        *o = (four[0] + four[1]) + (four[2] + four[3]);
        for (i, (w, x)) in rest.iter().zip(x).enumerate() {
            *o += scalar::<FORMAT, BYTES>(w, scales, vectors.len() * 8 + i) * x;
        }
    }
}

/// Adds the products of eight columns to one accumulator of each row.
///
/// # Safety
/// Each row of `x` has more than `vector` vectors, and int8 weights have a scale for each of their columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_vector<const FORMAT: u8, const BYTES: usize, const ROWS: usize>(
    sums: &mut [[__m256; 4]; ROWS],
    lane: usize,
    vector: usize,
    w: &[[u8; BYTES]; 8],
    scales: Scales<'_>,
    x: &[&[[f32; 8]]; ROWS],
) {
    // SAFETY: there is a scale for these columns, says the caller.
    let w = unsafe { load::<FORMAT, BYTES>(w, scales, vector * 8) };
    for (sums, x) in sums.iter_mut().zip(x) {
        // SAFETY: `vector` lies inside, says the caller.
        let x = unsafe { x.get_unchecked(vector) };
        sums[lane] = _mm256_fmadd_ps(w, load_x(x), sums[lane]);
    }
}

/// Eight weights as f32; `col` is the first one's column.
///
/// # Safety
/// Int8 weights have a scale for this column.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load<const FORMAT: u8, const BYTES: usize>(w: &[[u8; BYTES]; 8], scales: Scales<'_>, col: usize) -> __m256 {
    let start = w.as_ptr();
    match FORMAT {
        // SAFETY: `w` has 8 · 4 bytes; the load may be unaligned.
        F32 => unsafe { _mm256_loadu_ps(start.cast()) },
        // SAFETY: `w` has 8 · 2 bytes; the load may be unaligned.
        F16 => _mm256_cvtph_ps(unsafe { _mm_loadu_si128(start.cast()) }),
        BF16 => {
            // SAFETY: `w` has 8 · 2 bytes; the load may be unaligned.
            let bits = unsafe { _mm_loadu_si128(start.cast()) };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
        }
        _ => {
            // SAFETY: `w` has 8 bytes; the load may be unaligned.
            let codes = unsafe { _mm_loadl_epi64(start.cast()) };
            // SAFETY: the place lies inside, says the caller.
            let scale = _mm256_set1_ps(unsafe { *scales.values.get_unchecked(col >> scales.shift) });
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), scale)
        }
    }
}

/// One weight as f32.
#[inline(always)]
fn scalar<const FORMAT: u8, const BYTES: usize>(w: &[u8; BYTES], scales: Scales<'_>, col: usize) -> f32 {
    match FORMAT {
        F32 => f32::from_le_bytes([w[0], w[1], w[2], w[3]]),
        F16 => half(u16::from_le_bytes([w[0], w[1]])),
        BF16 => brain(u16::from_le_bytes([w[0], w[1]])),
        _ => f32::from(w[0] as i8) * scales.values[col >> scales.shift],
    }
}

/// Eight activations.
#[inline]
#[target_feature(enable = "avx2")]
fn load_x(x: &[f32; 8]) -> __m256 {
    // SAFETY: `x` has 32 bytes; the load may be unaligned.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}
