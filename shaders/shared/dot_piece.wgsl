// 64 weights of a piece against their activations: the sum of codes (trit + 1) times int8. Each byte of a piece holds
// columns that are 32 apart, from the top bits down.
fn dot_piece(w: vec4<u32>, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> i32 {
    // The two in the middle stay where they are, so that their sums are sixteen and four times as large: at most 48 in a byte.
    // The top two bits would be the sign.
    let sum0 = dot_words((w >> vec4<u32>(6u)) & vec4<u32>(0x03030303u), x0);
    let sum1 = dot_words(w & vec4<u32>(0x30303030u), x1);
    let sum2 = dot_words(w & vec4<u32>(0x0c0c0c0cu), x2);
    let sum3 = dot_words(w & vec4<u32>(0x03030303u), x3);
    return sum0 + (sum1 >> 4u) + (sum2 >> 2u) + sum3;
}

fn dot_words(w: vec4<u32>, x: vec4<u32>) -> i32 {
    return dot_codes(w.x, x.x) + dot_codes(w.y, x.y) + dot_codes(w.z, x.z) + dot_codes(w.w, x.w);
}
