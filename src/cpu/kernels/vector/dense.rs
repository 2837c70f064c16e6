//! Rows of dense weights times f32 activations, for the head: 32 columns at a time, in four accumulators, so that the
//! additions of one do not wait for those of another. Up to three activation rows share each load of weights.

use super::Vector;
use crate::cpu::floats::{brain, half};
use crate::cpu::kernels::{DenseRow, portable};

/// Activation rows that share a load: 3 · 4 accumulators and a vector of weights fit 16 registers of eight lanes.
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
///
/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
pub(in crate::cpu::kernels) unsafe fn dot_dense<V: Vector>(out: &mut [f32], w: DenseRow<'_>, x: &[f32]) {
    let none = Scales { values: &[], shift: 0 };
    // SAFETY: the caller shows the instructions.
    unsafe {
        match w {
            DenseRow::F32(w) => by_rows::<V, F32, 4>(out, w, none, x),
            DenseRow::F16(w) => by_rows::<V, F16, 2>(out, w, none, x),
            DenseRow::Bf16(w) => by_rows::<V, BF16, 2>(out, w, none, x),
            DenseRow::Int8 { codes, scales, .. } if scales.len() == 1 => {
                by_rows::<V, INT8, 1>(out, codes, Scales { values: scales, shift: usize::BITS - 1 }, x);
            }
            // A vector of eight columns has one scale.
            DenseRow::Int8 { codes, scales, columns } if columns.is_power_of_two() && columns >= 8 => {
                by_rows::<V, INT8, 1>(out, codes, Scales { values: scales, shift: columns.trailing_zeros() }, x);
            }
            DenseRow::Int8 { .. } => portable::dot_dense(out, w, x),
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn by_rows<V: Vector, const FORMAT: u8, const BYTES: usize>(
    out: &mut [f32],
    w: &[u8],
    scales: Scales<'_>,
    x: &[f32],
) {
    let w = w.as_chunks::<BYTES>().0;
    assert_eq!(x.len(), out.len() * w.len());
    for (out, x) in out.chunks_mut(SHARED).zip(x.chunks(SHARED * w.len())) {
        // SAFETY: the caller shows the instructions.
        unsafe {
            match out.len() {
                1 => dot::<V, FORMAT, BYTES, 1>(out, w, scales, x),
                2 => dot::<V, FORMAT, BYTES, 2>(out, w, scales, x),
                _ => dot::<V, FORMAT, BYTES, SHARED>(out, w, scales, x),
            }
        }
    }
}

/// # Safety
/// The CPU has the instructions of `V`.
#[inline(always)]
unsafe fn dot<V: Vector, const FORMAT: u8, const BYTES: usize, const ROWS: usize>(
    out: &mut [f32],
    w: &[[u8; BYTES]],
    scales: Scales<'_>,
    x: &[f32],
) {
    let cols = w.len();
    let rows: [(&[[f32; 8]], &[f32]); ROWS] = std::array::from_fn(|row| x[row * cols..][..cols].as_chunks());
    let x = rows.map(|(vectors, _)| vectors);
    let (vectors, rest) = w.as_chunks::<8>();
    // SAFETY: the caller shows the instructions.
    let mut sums = [[unsafe { V::zero() }; 4]; ROWS];
    assert!(x.iter().all(|x| x.len() == vectors.len()));
    assert!(FORMAT != INT8 || (cols - 1) >> scales.shift < scales.values.len());
    let (fours, last) = vectors.as_chunks::<4>();
    for (four, w) in fours.iter().enumerate() {
        for line in (0..size_of_val(w)).step_by(64) {
            V::fetch_ahead(w.as_ptr().cast::<u8>().wrapping_add(line));
        }
        for (lane, w) in w.iter().enumerate() {
            // SAFETY: `vector` counts through `vectors`; the assertions above are what the function asks for.
            unsafe { add_vector::<V, FORMAT, BYTES, ROWS>(&mut sums, lane, four * 4 + lane, w, scales, &x) };
        }
    }
    for (lane, w) in last.iter().enumerate() {
        // SAFETY: as above.
        unsafe { add_vector::<V, FORMAT, BYTES, ROWS>(&mut sums, lane, fours.len() * 4 + lane, w, scales, &x) };
    }
    for ((o, sums), (_, x)) in out.iter_mut().zip(sums).zip(rows) {
        // SAFETY: the caller shows the instructions.
        let four = unsafe { V::add_lanes(sums) };
        *o = (four[0] + four[1]) + (four[2] + four[3]);
        for (i, (w, x)) in rest.iter().zip(x).enumerate() {
            *o += scalar::<FORMAT, BYTES>(w, scales, vectors.len() * 8 + i) * x;
        }
    }
}

/// Adds the products of eight columns to one accumulator of each row.
///
/// # Safety
/// The CPU has the instructions of `V`. Each row of `x` has more than `vector` vectors, and int8 weights have a scale
/// for each of their columns.
#[inline(always)]
unsafe fn add_vector<V: Vector, const FORMAT: u8, const BYTES: usize, const ROWS: usize>(
    sums: &mut [[V; 4]; ROWS],
    lane: usize,
    vector: usize,
    w: &[[u8; BYTES]; 8],
    scales: Scales<'_>,
    x: &[&[[f32; 8]]; ROWS],
) {
    // SAFETY: there is a scale for these columns, says the caller.
    let w: V = unsafe { load::<V, FORMAT, BYTES>(w, scales, vector * 8) };
    for (sums, x) in sums.iter_mut().zip(x) {
        // SAFETY: `vector` lies inside, says the caller.
        let x = unsafe { x.get_unchecked(vector) };
        // SAFETY: the caller shows the instructions.
        sums[lane] = unsafe { w.mul_add(V::from_f32(bytemuck::cast_ref(x)), sums[lane]) };
    }
}

/// Eight weights as f32; `col` is the first one's column.
///
/// # Safety
/// The CPU has the instructions of `V`, and int8 weights have a scale for this column.
#[inline(always)]
unsafe fn load<V: Vector, const FORMAT: u8, const BYTES: usize>(
    w: &[[u8; BYTES]; 8],
    scales: Scales<'_>,
    col: usize,
) -> V {
    let bytes = w.as_flattened();
    // SAFETY: the caller shows the instructions and that the scale is there.
    unsafe {
        match FORMAT {
            F32 => V::from_f32(whole(bytes)),
            F16 => V::from_f16(whole(bytes)),
            BF16 => V::from_bf16(whole(bytes)),
            _ => V::from_int8(whole(bytes)).mul(V::splat(*scales.values.get_unchecked(col >> scales.shift))),
        }
    }
}

/// A slice that has `N` bytes, as an array. (The length is known to the compiler wherever this is used.)
#[inline(always)]
fn whole<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.try_into().expect("eight weights of this format")
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
