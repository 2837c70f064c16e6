// A scale for each group of columns: the integer sum of a piece is exact, sums of pieces are floats.
alias Sum = f32;
alias PieceFacts = i32; // the sum of a piece's activations

fn piece_facts(row: u32, piece: u32, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> PieceFacts {
    let ones = vec4<u32>(0x01010101u);
    return dot_words(ones, x0) + dot_words(ones, x1) + dot_words(ones, x2) + dot_words(ones, x3);
}

fn piece_sum(sum: i32, scale_at: u32, about: PieceFacts) -> f32 {
    return f32(sum - about) * scales[scale_at];
}

// Scales were counted with the pieces.
fn scale_ahead(scale_at: u32) -> f32 {
    return 1.0;
}

fn product(sum: f32, scale: f32, row: u32) -> f32 {
    return sum / bitcast<f32>(x_fact(x_row_of(row)).x);
}
