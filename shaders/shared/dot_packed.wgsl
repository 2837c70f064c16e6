// Four products of unsigned codes (0..3, or as far as 48) and int8 activations, by the packed dot product.
fn dot_codes(codes: u32, x: u32) -> i32 {
    return dot4I8Packed(codes, x);
}
