// Floats by their bits: WGSL lets a compiler assume that no value is NaN or infinite, so those are told by integers.
const INFINITY_BITS: u32 = 0x7f800000u;
const NEGATIVE_INFINITY_BITS: u32 = 0xff800000u;

fn magnitude_bits(v: f32) -> u32 {
    return bitcast<u32>(v) & 0x7fffffffu;
}

fn is_finite_bits(v: f32) -> bool {
    return magnitude_bits(v) < INFINITY_BITS;
}

// NaN, from the bits of what is not finite: a constant would be refused.
fn not_finite(bits: u32) -> f32 {
    return bitcast<f32>(bits | 0x7fc00000u);
}

// The factor of RMSNorm, 1 / √(mean + epsilon), of a sum of squares; NaN where that left the numbers.
fn rms_factor(squares: f32, count: u32, epsilon: f32) -> f32 {
    let mean = squares / f32(count) + epsilon;
    if !is_finite_bits(mean) {
        return not_finite(magnitude_bits(mean));
    }
    return inverseSqrt(mean);
}

// A larger key for a larger float, 0 for what is not finite. Zeros of both signs are equal.
fn rank_key(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    if !is_finite_bits(v) {
        return 0u;
    }
    if magnitude_bits(v) == 0u {
        return 0x80000000u;
    }
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

// The bits of the float of a key that is not 0.
fn rank_bits(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u);
}
