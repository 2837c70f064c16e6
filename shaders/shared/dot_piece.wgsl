// 64 weights of a piece against their activations: the sum of codes (trit + 1) times int8. Each byte of a piece holds
// columns that are 32 apart, from the top bits down.
fn dot_piece(w: vec4<u32>, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> i32 {
    let mask = vec4<u32>(0x03030303u);
    let w0 = (w >> vec4<u32>(6u)) & mask;
    let w1 = (w >> vec4<u32>(4u)) & mask;
    let w2 = (w >> vec4<u32>(2u)) & mask;
    let w3 = w & mask;
    return dot_words(w0, x0) + dot_words(w1, x1) + dot_words(w2, x2) + dot_words(w3, x3);
}

fn dot_words(w: vec4<u32>, x: vec4<u32>) -> i32 {
    return dot_codes(w.x, x.x) + dot_codes(w.y, x.y) + dot_codes(w.z, x.z) + dot_codes(w.w, x.w);
}
