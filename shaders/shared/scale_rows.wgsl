// One scale for a whole weight row: sums are integers to the end.
alias Sum = i32;
alias PieceFacts = u32; // nothing

fn piece_facts(row: u32, piece: u32, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> PieceFacts {
    return 0u;
}

fn piece_sum(sum: i32, scale_at: u32, about: PieceFacts) -> i32 {
    return sum;
}

fn scale_ahead(scale_at: u32) -> f32 {
    return scales[scale_at];
}

// Codes are trits + 1, so the sum of the activations is too much.
fn product(sum: i32, scale: f32, row: u32) -> f32 {
    let fact = x_fact(x_row_of(row));
    return f32(sum - bitcast<i32>(fact.y)) * (scale / bitcast<f32>(fact.x));
}
