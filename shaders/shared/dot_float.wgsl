// Four products of unsigned codes (0..3, or as far as 48) and int8 activations, in floats: the sum is at most 4 * 48 * 128, so it is exact.
fn dot_codes(codes: u32, x: u32) -> i32 {
    return i32(dot(vec4<f32>(unpack4xU8(codes)), vec4<f32>(unpack4xI8(x))));
}
