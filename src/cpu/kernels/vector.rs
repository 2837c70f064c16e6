//! The kernels over floats, written once for AVX2 and NEON: bodies over an abstract vector of eight f32 (those of `trits.rs` over one
//! of sixteen too, for AVX-512). A set says in [`Vector`] how it loads, multiplies and adds eight lanes, and compiles the bodies
//! inside functions that enable its instructions; everything here is inlined into those.

pub(super) mod dense;
pub(super) mod heads;
pub(super) mod trits;

/// Eight f32 in registers.
///
/// # Safety
/// All functions have one condition: the CPU has the instructions of the set whose vector this is. Whoever names the
/// type shows that.
pub(super) trait Vector: Copy {
    /// Eight zeros.
    unsafe fn zero() -> Self;
    /// Eight times the same value.
    unsafe fn splat(value: f32) -> Self;
    /// From little-endian singles.
    unsafe fn from_f32(bytes: &[u8; 32]) -> Self;
    /// From little-endian IEEE halves.
    unsafe fn from_f16(bytes: &[u8; 16]) -> Self;
    /// From little-endian bfloat16.
    unsafe fn from_bf16(bytes: &[u8; 16]) -> Self;
    /// From int8.
    unsafe fn from_int8(bytes: &[u8; 8]) -> Self;
    /// `self * factor`.
    unsafe fn mul(self, factor: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Writes the lanes.
    unsafe fn store(self, out: &mut [f32; 8]);
    /// The sums of the lanes of four vectors.
    unsafe fn add_lanes(four: [Self; 4]) -> [f32; 4];
    /// Asks for the cache lines of weights that a stream reads soon after the one at `address`.
    fn fetch_ahead(address: *const u8);
    /// Asks for the cache line at `near`, and for that at `far` into the second cache. They need not exist.
    fn fetch(near: *const u8, far: *const u8);
}

/// The kernels over floats of a set whose [`Vector`] this is, where they need no function of their own that enables instructions. Whoever
/// has the set has those of the vector.
#[cfg(not(target_arch = "x86_64"))]
macro_rules! by_vectors {
    ($vector:ty) => {
        fn dot_floats(&self, out: &mut [f32], tile: &$crate::cpu::kernels::FloatTile<'_>) {
            // SAFETY: `self` exists, so the CPU has the instructions; so below.
            unsafe { $crate::cpu::kernels::vector::trits::dot_floats::<$vector, 8>(out, tile) }
        }

        fn dot_dense(&self, out: &mut [f32], w: $crate::cpu::kernels::DenseRow<'_>, x: &[f32]) {
            // SAFETY: as above.
            unsafe { $crate::cpu::kernels::vector::dense::dot_dense::<$vector>(out, w, x) }
        }

        fn scores(
            &self,
            scores: &mut [$crate::cpu::kernels::Scores],
            q: &[f32],
            keys: $crate::cpu::kernels::Entries<'_>,
            factor: f32,
        ) {
            // SAFETY: as above.
            unsafe { $crate::cpu::kernels::vector::heads::scores::<$vector>(scores, q, keys, factor) }
        }

        fn mix(
            &self,
            out: &mut [f32],
            weights: &[$crate::cpu::kernels::Scores],
            positions: std::ops::Range<usize>,
            values: $crate::cpu::kernels::Entries<'_>,
        ) {
            // SAFETY: as above.
            unsafe { $crate::cpu::kernels::vector::heads::mix::<$vector>(out, weights, positions, values) }
        }

        fn widen(&self, out: &mut [f32], halves: &[u16]) {
            // SAFETY: as above.
            unsafe { $crate::cpu::kernels::vector::heads::widen::<$vector>(out, halves) }
        }
    };
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) use by_vectors;
