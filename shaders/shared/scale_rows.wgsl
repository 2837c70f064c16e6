// One scale for a whole weight row: sums are integers to the end.
alias Sum = i32;

fn piece_sum(sum: i32, scale_at: u32, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> i32 {
    return sum;
}

// Codes are trits + 1, so the sum of the activations is too much.
fn product(sum: i32, scale_at: u32, fact: vec2<u32>) -> f32 {
    return f32(sum - bitcast<i32>(fact.y)) * (scales[scale_at] / bitcast<f32>(fact.x));
}
