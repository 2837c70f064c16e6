//! Eight floats as NEON has them: in two registers of four.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::cpu::kernels::vector::Vector;

/// Eight f32.
#[derive(Clone, Copy)]
pub(super) struct Eight(float32x4_t, float32x4_t);

impl Vector for Eight {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn zero() -> Self {
        Self(vdupq_n_f32(0.0), vdupq_n_f32(0.0))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn splat(value: f32) -> Self {
        Self(vdupq_n_f32(value), vdupq_n_f32(value))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn from_f32(bytes: &[u8; 32]) -> Self {
        let (low, high) = halves(bytes);
        Self(vreinterpretq_f32_u8(low), vreinterpretq_f32_u8(high))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn from_f16(bytes: &[u8; 16]) -> Self {
        let (low, high): (float32x4_t, float32x4_t);
        let halves = load(bytes);
        // SAFETY: FCVTL and FCVTL2 widen the lower and the upper four halves of a register to singles, exactly. They
        // are part of the NEON that every 64-bit ARM CPU has, touch no memory and no flags, and read `halves` only.
        unsafe {
            asm!(
                "fcvtl {low:v}.4s, {halves:v}.4h",
                "fcvtl2 {high:v}.4s, {halves:v}.8h",
                low = out(vreg) low,
                high = lateout(vreg) high,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        Self(low, high)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn from_bf16(bytes: &[u8; 16]) -> Self {
        let bits = vreinterpretq_u16_u8(load(bytes));
        // A bfloat16 is the upper half of a single.
        let low = vshll_n_u16::<16>(vget_low_u16(bits));
        Self(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(vshll_high_n_u16::<16>(bits)))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn from_int8(bytes: &[u8; 8]) -> Self {
        // SAFETY: there are 8 bytes; NEON loads need no alignment.
        let codes = vmovl_s8(unsafe { vld1_s8(bytes.as_ptr().cast()) });
        Self(vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes))), vcvtq_f32_s32(vmovl_high_s16(codes)))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn mul(self, factor: Self) -> Self {
        Self(vmulq_f32(self.0, factor.0), vmulq_f32(self.1, factor.1))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn store(self, out: &mut [f32; 8]) {
        let (low, high) = out.split_at_mut(4);
        // SAFETY: each half has room for four f32.
        unsafe {
            vst1q_f32(low.as_mut_ptr(), self.0);
            vst1q_f32(high.as_mut_ptr(), self.1);
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn add_lanes(four: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = four.map(|v| vaddq_f32(v.0, v.1));
        let sums = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
        let mut out = [0.0; 4];
        // SAFETY: `out` has room for four f32.
        unsafe { vst1q_f32(out.as_mut_ptr(), sums) };
        out
    }

    #[inline(always)]
    fn fetch_ahead(_address: *const u8) {
        // Left to the hardware, as the module says.
    }

    #[inline(always)]
    fn fetch(_near: *const u8, _far: *const u8) {
        // As above.
    }
}

/// The bytes as they lie.
#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: there are 16 bytes; NEON loads need no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

/// The lower and the upper half of some bytes.
#[inline]
#[target_feature(enable = "neon")]
fn halves(bytes: &[u8; 32]) -> (uint8x16_t, uint8x16_t) {
    let halves = bytes.as_chunks().0;
    (load(&halves[0]), load(&halves[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::floats::half;

    #[test]
    fn every_half_converts_exactly() {
        for first in (0..=u16::MAX).step_by(8) {
            let bits: [u16; 8] = std::array::from_fn(|i| first + i as u16);
            let mut found = [0.0; 8];
            // SAFETY: every CPU that runs this has NEON, the conversion included.
            unsafe { Eight::from_f16(bytemuck::cast_ref(&bits)).store(&mut found) };
            for (ours, bits) in found.into_iter().zip(bits) {
                let wanted = half(bits);
                assert!(ours.to_bits() == wanted.to_bits() || ours.is_nan() && wanted.is_nan(), "{bits:#x}: {ours}");
            }
        }
    }
}
