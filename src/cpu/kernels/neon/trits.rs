//! Trits times int8, in two ways: `smlal` multiplies eight pairs and adds each product to a sum of 16 bits; `sdot`, of
//! the dot products, multiplies sixteen pairs and adds four products at a time to a sum of 32 bits.
//!
//! Each half of a block, shifted right by 6, 4, 2 and 0 and masked, gives the codes of four runs of 16 consecutive
//! columns. The eight vectors of codes of a block stay in registers for all activation rows.

use std::arch::aarch64::*;
use std::arch::asm;
use std::array;

use crate::cpu::kernels::Tile;

/// Vectors of 16 columns in a block.
const VECTORS: usize = 8;

/// A register that gathers products.
///
/// # Safety
/// All functions have one condition: the CPU has the instructions of this way.
trait Sums: Copy {
    /// How often [`Sums::add`] may be called before lanes could wrap.
    const ADDITIONS: usize;
    /// No products.
    unsafe fn zero() -> Self;
    /// Adds the products of 16 codes, 0 to 3, and 16 activations.
    unsafe fn add(self, codes: int8x16_t, x: int8x16_t) -> Self;
    /// The sum of the lanes.
    unsafe fn total(self) -> i32;
}

/// Sums of 16 bits. Each lane gains two products of at most 3·128 an addition: 768. 42 additions make 32256, so that
/// it cannot wrap.
impl Sums for int16x8_t {
    const ADDITIONS: usize = 42;

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Self {
        vdupq_n_s16(0)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add(self, codes: int8x16_t, x: int8x16_t) -> Self {
        vmlal_high_s8(vmlal_s8(self, vget_low_s8(codes), vget_low_s8(x)), codes, x)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn total(self) -> i32 {
        vaddlvq_s16(self)
    }
}

/// Sums of 32 bits. No row has so many columns that even their sum could wrap, by the limit that `matrix.rs` checks.
impl Sums for int32x4_t {
    const ADDITIONS: usize = usize::MAX;

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn zero() -> Self {
        vdupq_n_s32(0)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn add(self, codes: int8x16_t, x: int8x16_t) -> Self {
        sdot(self, codes, x)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn total(self) -> i32 {
        vaddvq_s32(self)
    }
}

/// `sum[i] + Σ a[4i + j] * b[4i + j]` over `j` 0 to 3: what `vdotq_s32` will do once it is stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: this function is compiled for, and by its callers run on, CPUs with SDOT. The instruction reads the three
    // registers and writes the first; it touches no memory and no flags.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// [`crate::cpu::kernels::Kernels::dot_codes`], for every CPU.
#[target_feature(enable = "neon")]
pub(super) fn dot_codes(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that sums of 16 bits need.
    unsafe { by_rows::<int16x8_t>(sums, tile) }
}

/// [`crate::cpu::kernels::Kernels::dot_codes`], for CPUs with dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot_codes_with_dotprod(sums: &mut [i32], tile: &Tile<'_>) {
    // SAFETY: this function's instructions are those that sums of 32 bits need.
    unsafe { by_rows::<int32x4_t>(sums, tile) }
}

/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
unsafe fn by_rows<S: Sums>(sums: &mut [i32], tile: &Tile<'_>) {
    assert_eq!(sums.len(), tile.sums());
    // SAFETY: the caller shows the instructions. The second number: few rows gather in several registers each, so that
    // additions do not wait for each other.
    unsafe {
        match tile.rows {
            1 => tile_of::<S, 1, 4>(sums, tile),
            2 => tile_of::<S, 2, 4>(sums, tile),
            3 => tile_of::<S, 3, 2>(sums, tile),
            4 => tile_of::<S, 4, 2>(sums, tile),
            5 => tile_of::<S, 5, 1>(sums, tile),
            6 => tile_of::<S, 6, 1>(sums, tile),
            7 => tile_of::<S, 7, 1>(sums, tile),
            8 => tile_of::<S, 8, 1>(sums, tile),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
unsafe fn tile_of<S: Sums, const ROWS: usize, const EACH: usize>(sums: &mut [i32], tile: &Tile<'_>) {
    let groups = tile.groups();
    let x: [&[[i8; 128]]; ROWS] = array::from_fn(|row| tile.activations(row));
    for (output, sums) in sums.chunks_exact_mut(ROWS * groups).enumerate() {
        for (g, codes) in tile.weights(output).chunks(tile.group).enumerate() {
            let x = array::from_fn(|row| &x[row][g * tile.group..][..codes.len()]);
            // SAFETY: the caller shows the instructions.
            let totals = unsafe { dot::<S, ROWS, EACH>(codes, x) };
            for (row, total) in totals.into_iter().enumerate() {
                sums[row * groups + g] = total;
            }
        }
    }
}

/// One weight row and several activation rows, each with `EACH` registers.
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
unsafe fn dot<S: Sums, const ROWS: usize, const EACH: usize>(
    codes: &[[u8; 32]],
    x: [&[[i8; 128]]; ROWS],
) -> [i32; ROWS] {
    let of_stretch = const { S::ADDITIONS / (VECTORS / EACH) };
    for x in &x {
        assert_eq!(x.len(), codes.len());
    }
    let mut totals = [0; ROWS];
    for (stretch, codes) in codes.chunks(of_stretch).enumerate() {
        // SAFETY: the caller shows the instructions, here and below.
        let mut sums = [[unsafe { S::zero() }; EACH]; ROWS];
        for (b, block) in codes.iter().enumerate() {
            // SAFETY: each row has as many blocks as there are codes, by the assertion above, and `stretch` and `b` count
            // through those.
            let x = x.map(|x| unsafe { x.get_unchecked(stretch * of_stretch + b) });
            // SAFETY: the caller shows the instructions.
            unsafe { add_block(&mut sums, block, x) };
        }
        for (total, sums) in totals.iter_mut().zip(sums) {
            for sum in sums {
                // SAFETY: as above.
                *total += unsafe { sum.total() };
            }
        }
    }
    totals
}

/// Adds the products of a block. Written out, because an array of registers that a loop indexes lies in memory unless
/// the compiler unrolls the loop, and it unrolls short ones only.
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
unsafe fn add_block<S: Sums, const ROWS: usize, const EACH: usize>(
    sums: &mut [[S; EACH]; ROWS],
    block: &[u8; 32],
    x: [&[i8; 128]; ROWS],
) {
    // SAFETY: the caller shows the instructions.
    unsafe {
        let codes = unpack(block);
        add_vector::<S, ROWS, EACH, 0>(sums, codes[0], x);
        add_vector::<S, ROWS, EACH, 1>(sums, codes[1], x);
        add_vector::<S, ROWS, EACH, 2>(sums, codes[2], x);
        add_vector::<S, ROWS, EACH, 3>(sums, codes[3], x);
        add_vector::<S, ROWS, EACH, 4>(sums, codes[4], x);
        add_vector::<S, ROWS, EACH, 5>(sums, codes[5], x);
        add_vector::<S, ROWS, EACH, 6>(sums, codes[6], x);
        add_vector::<S, ROWS, EACH, 7>(sums, codes[7], x);
    }
}

/// Adds the products of the 16 columns of one vector of a block, for all rows.
///
/// # Safety
/// The CPU has the instructions of `S`.
#[inline(always)]
unsafe fn add_vector<S: Sums, const ROWS: usize, const EACH: usize, const VECTOR: usize>(
    sums: &mut [[S; EACH]; ROWS],
    codes: int8x16_t,
    x: [&[i8; 128]; ROWS],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let x = &x.as_chunks::<16>().0[VECTOR];
        // SAFETY: there are 16 bytes, and NEON loads need no alignment; the caller shows the instructions.
        sums[VECTOR % EACH] = unsafe { sums[VECTOR % EACH].add(codes, vld1q_s8(x.as_ptr())) };
    }
}

/// The codes of columns 0..16, 16..32, …, 112..128 of a block.
#[inline]
#[target_feature(enable = "neon")]
fn unpack(block: &[u8; 32]) -> [int8x16_t; VECTORS] {
    let mask = vdupq_n_u8(3);
    let halves = block.as_chunks::<16>().0;
    // SAFETY: each half has 16 bytes; NEON loads need no alignment.
    let (low, high) = unsafe { (vld1q_u8(halves[0].as_ptr()), vld1q_u8(halves[1].as_ptr())) };
    [
        vshrq_n_u8::<6>(low),
        vshrq_n_u8::<6>(high),
        vandq_u8(vshrq_n_u8::<4>(low), mask),
        vandq_u8(vshrq_n_u8::<4>(high), mask),
        vandq_u8(vshrq_n_u8::<2>(low), mask),
        vandq_u8(vshrq_n_u8::<2>(high), mask),
        vandq_u8(low, mask),
        vandq_u8(high, mask),
    ]
    .map(|codes| vreinterpretq_s8_u8(codes))
}
