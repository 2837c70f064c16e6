//! The loops over floats, in plain Rust with eight explicit lanes, so that the compiler turns them into whatever vector
//! instructions it may use. Each kernel set compiles them again for its instructions; no multiplication is fused with
//! an addition here, so all sets give the same bits. Integers are added by what may wrap and does not: to look for it, as tests are built
//! to, would keep the compiler from vectors.

mod hadamard;
mod memory;
mod planes;

pub(crate) use hadamard::hadamard;
pub(crate) use memory::{recall, remember};
pub(crate) use planes::{LEVELS, halve, inner};

use crate::backend::{RopePairs, SMALLEST_ABSMAX};

const LANES: usize = 8;

/// The largest magnitude, at least [`SMALLEST_ABSMAX`]; infinity or NaN where one of the values is.
#[inline(always)]
pub(crate) fn absmax(x: &[f32]) -> f32 {
    f32::from_bits(largest_magnitude(x).to_bits().max(SMALLEST_ABSMAX.to_bits()))
}

/// The largest magnitude; infinity or NaN where one of the values is.
#[inline(always)]
pub(crate) fn largest_magnitude(x: &[f32]) -> f32 {
    // Without their signs, floats are in the order of their bits, infinity beyond all numbers and NaN beyond infinity: so what
    // is not finite costs nothing to find.
    let magnitude = |v: f32| v.to_bits() & 0x7fff_ffff;
    let mut lanes = [0u32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (m, &v) in lanes.iter_mut().zip(chunk) {
            *m = magnitude(v).max(*m);
        }
    }
    f32::from_bits(lanes.into_iter().chain(rest.iter().map(|&v| magnitude(v))).fold(0, u32::max))
}

/// The multiplier of values that are quantised, `127 / absmax`: NaN where one of them is not finite, so that nothing that is
/// made of them is a number.
#[inline(always)]
pub(crate) fn multiplier(absmax: f32) -> f32 {
    if absmax.is_finite() { 127.0 / absmax } else { f32::NAN }
}

/// `out = round_half_even(x * scale)` as int8. `scale` is 127 over a magnitude that no `x` exceeds, so that products
/// stay within ±127.5. Where it is NaN the integers mean nothing, and are 0.
#[inline(always)]
pub(crate) fn round(out: &mut [i8], x: &[f32], scale: f32) {
    // 1.5 * 2^23: floats of this size are whole numbers, so the addition itself rounds, half to even.
    const WHOLE: f32 = 12_582_912.0;
    for (o, &v) in out.iter_mut().zip(x) {
        let product = v * scale;
        // NaN would become some large integer below.
        let product = if product.is_nan() { 0.0 } else { product };
        *o = ((product + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits())) as i8;
    }
}

/// The sum of each block of 128 activations.
#[inline(always)]
pub(crate) fn block_sums(out: &mut [i32], x: &[i8]) {
    for (o, block) in out.iter_mut().zip(x.as_chunks::<128>().0) {
        *o = block.iter().fold(0, |sum, &v| sum.wrapping_add(i32::from(v)));
    }
}

/// The sum of the squares, in f64: the error of a whole row is below one rounding to f32.
#[inline(always)]
pub(crate) fn sum_squares(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &v) in lanes.iter_mut().zip(chunk) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
}

/// `out = sums * (scales / divisor)`.
#[inline(always)]
pub(crate) fn scale_sums(out: &mut [f32], sums: &[i32], scales: &[f32], divisor: f32) {
    for ((o, &sum), &scale) in out.iter_mut().zip(sums).zip(scales) {
        *o = sum as f32 * (scale / divisor);
    }
}

/// `out = x * factor * gain`.
#[inline(always)]
pub(crate) fn norm(out: &mut [f32], x: &[f32], factor: f32, gain: &[f32]) {
    for ((o, &v), &g) in out.iter_mut().zip(x).zip(gain) {
        *o = v * factor * g;
    }
}

/// `out = max(gate, 0)² * up`.
#[inline(always)]
pub(crate) fn squared_relu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        // Written so that NaN stays NaN.
        let positive = if g < 0.0 { 0.0 } else { g };
        *o = positive * positive * u;
    }
}

/// `out = gate / (1 + e^-gate) * up`.
#[inline(always)]
pub(crate) fn silu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        *o = g / (1.0 + exp(-g)) * u;
    }
}

/// `out = gate/2 * (1 + tanh(√(2/π) * (gate + 0.044715 gate³))) * up`.
#[inline(always)]
pub(crate) fn gelu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    /// 2 √(2/π): half of `1 + tanh(u)` is the logistic function of `2u`.
    const TWICE: f32 = 1.595_769;
    for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        *o = g / (1.0 + exp(-TWICE * (g + 0.044_715 * g * g * g))) * u;
    }
}

/// Turns each pair `(a, b)` of features by its angle: `(a cos - b sin, a sin + b cos)`.
#[inline(always)]
pub(crate) fn rotate(head: &mut [f32], cosines: &[f32], sines: &[f32], pairs: RopePairs) {
    let turns = cosines.iter().zip(sines);
    match pairs {
        RopePairs::Half => {
            let (first, second) = head.split_at_mut(cosines.len());
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
        RopePairs::Interleaved => {
            for ([a, b], (cos, sin)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

/// Replaces each score by `e^(score - largest)` and returns their sum.
#[inline(always)]
pub(crate) fn exp_sum(scores: &mut [f32], largest: f32) -> f32 {
    // Apart from the sum, as only a loop that does one thing to each becomes whole vectors.
    scores.iter_mut().for_each(|s| *s = exp(*s - largest));
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(sum, s)| *sum += s);
    }
    lanes.iter_mut().zip(rest).for_each(|(sum, s)| *sum += s);
    across(lanes, |a, b| a + b)
}

/// All lanes as one, by halves: three steps that wait for each other instead of seven.
#[inline(always)]
fn across(lanes: [f32; LANES], both: impl Fn(f32, f32) -> f32) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|lane| both(lanes[lane], lanes[lane + 4]));
    both(both(four[0], four[2]), both(four[1], four[3]))
}

/// The place of the largest value above −∞, the first of equals. NaNs are passed over: whether there are any, [`absmax`] tells.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> Option<usize> {
    let larger = |m: f32, v: f32| if v > m { v } else { m };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (m, &v) in lanes.iter_mut().zip(chunk) {
            *m = larger(*m, v);
        }
    }
    let most = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &v| larger(m, v));
    x.iter().position(|&v| v == most && v > f32::NEG_INFINITY)
}

/// The smallest and the largest value; NaNs are passed over.
#[inline(always)]
pub(crate) fn extremes(x: &[f32]) -> (f32, f32) {
    let smaller = |m: f32, v: f32| if v < m { v } else { m };
    let larger = |m: f32, v: f32| if v > m { v } else { m };
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for ((least, most), &v) in least.iter_mut().zip(&mut most).zip(chunk) {
            (*least, *most) = (smaller(*least, v), larger(*most, v));
        }
    }
    for ((least, most), &v) in least.iter_mut().zip(&mut most).zip(rest) {
        (*least, *most) = (smaller(*least, v), larger(*most, v));
    }
    (across(least, smaller), across(most, larger))
}

/// `e^x` within 2 units in the last place for x in [-87.3, 88.3]; beyond, the value at the nearer end. NaN stays NaN.
///
/// `e^x = 2^n e^r` with `|r| <= ln 2 / 2`; the polynomial for `e^r` is the one of the Cephes library.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const WHOLE: f32 = 12_582_912.0; // 1.5 * 2^23, as in `round`
    let x = x.clamp(-87.336_54, 88.376_26);
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    // ln 2 in two parts: n times the first is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut e = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        e = e * r + coefficient;
    }
    let e = e * r * r + r + 1.0;
    // n is within -126..=127, so n + 127 is a valid exponent of a normal number.
    let exponent = shifted.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_add(127);
    e * f32::from_bits(exponent << 23)
}

/// IEEE half precision to single, exactly. Without branches, so that loops over it become vector instructions, and
/// without arithmetic on subnormal floats, which is slow.
#[inline(always)]
pub(crate) fn half(bits: u16) -> f32 {
    // The exponent of a half is biased by 15, of a single by 127.
    const REBIAS: u32 = (127 - 15) << 23;
    const SMALLEST_NORMAL: u32 = REBIAS + (1 << 23); // 2^-14
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // All three are computed, and two thrown away. A subnormal m * 2^-24 is the difference of two normal floats.
    let subnormal =
        (f32::from_bits(magnitude.wrapping_add(SMALLEST_NORMAL)) - f32::from_bits(SMALLEST_NORMAL)).to_bits();
    let (normal, special) = (magnitude.wrapping_add(REBIAS), magnitude.wrapping_add(2 * REBIAS));
    let finite = if magnitude < 1 << 23 { subnormal } else { normal };
    let rebiased = if magnitude < 31 << 23 { finite } else { special };
    f32::from_bits(rebiased | u32::from(bits & 0x8000) << 16)
}

/// bfloat16 to single, exactly.
#[inline(always)]
pub(crate) fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{bits:#x}: {ours} {theirs}");
            assert_eq!(ours.is_sign_negative(), theirs.is_sign_negative(), "{bits:#x}");
        }
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -87_300..=88_300 {
            let x = i as f32 / 1000.0 + 0.000_37;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            let unit = exact * f64::from(f32::EPSILON);
            assert!((ours - exact).abs() <= 2.0 * unit, "e^{x}: {ours:e} {exact:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1.3e-38 && exp(f32::INFINITY).is_finite());
    }

    #[test]
    fn the_largest_is_the_first_of_equals_and_nans_are_passed_over() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for (x, place) in [
            (vec![], None),
            (vec![nan], None),
            (vec![nan, 3.0], Some(1)),
            (vec![1.0, nan, 3.0, 3.0, nan], Some(2)),
            (vec![-inf; 9], None),
            (vec![1.0, inf, nan, inf], Some(1)),
            ((0..100).map(|i| ((i * 37) % 41) as f32).collect(), Some(31)),
        ] {
            assert_eq!(largest(&x), place, "{x:?}");
        }
    }
}
