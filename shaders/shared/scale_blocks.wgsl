// A scale for each block of activations, and any scales of weights: the integer sum of a piece, which is half a block, is
// exact, sums of pieces are floats.
alias Sum = f32;
alias PieceFacts = vec2<f32>; // the sum of a piece's activations; what one step of them stands for

fn piece_facts(row: u32, piece: u32, x0: vec4<u32>, x1: vec4<u32>, x2: vec4<u32>, x3: vec4<u32>) -> PieceFacts {
    let fact = x_fact(x_row_of(row) * (params.pieces / 2u) + piece / 2u);
    let sum = extractBits(bitcast<i32>(fact.y), 16u * (piece % 2u), 16u);
    return vec2<f32>(f32(sum), 1.0 / bitcast<f32>(fact.x));
}

// Both sums are below 2^24, and so exact as floats.
fn piece_sum(sum: i32, scale_at: u32, about: PieceFacts) -> f32 {
    return (f32(sum) - about.x) * (scales[scale_at] * about.y);
}

// Scales were counted with the pieces.
fn scale_ahead(scale_at: u32) -> f32 {
    return 1.0;
}

fn product(sum: f32, scale: f32, row: u32) -> f32 {
    return sum;
}
