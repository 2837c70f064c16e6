// A scale for each group of columns: the integer sum of a piece is exact, sums of pieces are floats.
alias Sum = f32;

fn piece_sum(sum: i32, scale_at: u32, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> f32 {
    let ones = vec4<u32>(0x01010101u);
    let x_sum = dot_words(ones, x0) + dot_words(ones, x1) + dot_words(ones, x2) + dot_words(ones, x3);
    return f32(sum - x_sum) * scales[scale_at];
}

fn product(sum: f32, scale_at: u32, fact: vec2<u32>) -> f32 {
    return sum / bitcast<f32>(fact.x);
}
