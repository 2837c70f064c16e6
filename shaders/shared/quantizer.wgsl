// int8 a row, as BitNet b1.58 quantises activations: scale = 127 / max|x|, code = round_half_even(x * scale).

const SMALLEST_ABSMAX: f32 = 1e-5;

// 127 / m, correctly rounded: WGSL's division may be off by 2.5 units in the last place, and all devices must make the
// same codes. `m` is finite and at least 1e-5. With the 24-bit integers d of m and q of the quotient, the remainder is
// 127 · 2^s - q · d for some s of at least 39; it is small, so its low 32 bits, those of -q · d, tell all of it.
fn scale_of(m: f32) -> f32 {
    let divisor = (bitcast<u32>(m) & 0x7fffffu) | 0x800000u;
    var quotient_bits = bitcast<u32>(127.0 / m);
    for (var i = 0; i < 4; i++) {
        let quotient = (quotient_bits & 0x7fffffu) | 0x800000u;
        let remainder = bitcast<i32>(0u - quotient * divisor);
        if 2 * remainder > i32(divisor) {
            quotient_bits++;
        } else if 2 * remainder < -i32(divisor) {
            quotient_bits--;
        } else {
            break;
        }
    }
    return bitcast<f32>(quotient_bits);
}

// NaN becomes 0.
fn code_of(v: f32, scale: f32) -> i32 {
    let product = v * scale;
    return select(i32(round(clamp(product, -128.0, 127.0))), 0, is_nan_bits(product));
}
