// int8 as BitNet b1.58 quantises activations: scale = 127 / max|x|, code = round_half_even(x * scale). NORM says whether
// there is a norm before it: with y = x · gain, the norm's factor cancels in the codes, which are round(y · 127 / max|y|), and
// only the scale 127 / (max|y| · factor) depends on it.

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

// Where the product is NaN the codes mean nothing, and are 0.
fn code_of(v: f32, scale: f32) -> i32 {
    let product = v * scale;
    return select(i32(round(clamp(product, -128.0, 127.0))), 0, magnitude_bits(product) > INFINITY_BITS);
}

// y: `load` gives x, `gain` is bound by the shader. Columns beyond the row are 0.
fn gained(row: u32, col: u32, cols: u32) -> f32 {
    if col >= cols {
        return 0.0;
    }
    if NORM {
        return load(row, col) * gain[col];
    }
    return load(row, col);
}

// The scale that codes are to be divided by, and what y is multiplied with to make them. `largest` are the bits of max|y|, which
// are infinity's or NaN's where a y is not finite; `factor` is that of the norm. What is not finite gets the scale NaN, so that
// nothing that is made of its codes is a number.
fn multipliers(largest: u32, factor: f32) -> vec2<f32> {
    if largest >= INFINITY_BITS {
        return vec2<f32>(not_finite(largest), 0.0);
    }
    if !NORM {
        return vec2<f32>(scale_of(max(bitcast<f32>(largest), SMALLEST_ABSMAX)));
    }
    let normed = bitcast<f32>(largest) * factor;
    if !is_finite_bits(normed) || !is_finite_bits(factor) {
        return vec2<f32>(not_finite(magnitude_bits(factor)), 0.0);
    }
    if normed < SMALLEST_ABSMAX {
        let scale = scale_of(SMALLEST_ABSMAX);
        return vec2<f32>(scale, scale * factor);
    }
    return vec2<f32>(scale_of(normed), 127.0 / bitcast<f32>(largest));
}

struct Packed {
    codes: vec4<u32>, // of sixteen columns, four in a word
    sum: i32,         // of the codes
}

// The codes of the columns from 16 * vector on.
fn pack_codes(row: u32, vector: u32, cols: u32, scale: f32) -> Packed {
    var packed: vec4<u32>;
    var sum = 0;
    for (var word = 0u; word < 4u; word++) {
        let col = vector * 16u + word * 4u;
        let codes = vec4<i32>(
            code_of(gained(row, col, cols), scale),
            code_of(gained(row, col + 1u, cols), scale),
            code_of(gained(row, col + 2u, cols), scale),
            code_of(gained(row, col + 3u, cols), scale),
        );
        sum += codes.x + codes.y + codes.z + codes.w;
        packed[word] = pack4xI8(codes);
    }
    return Packed(packed, sum);
}
