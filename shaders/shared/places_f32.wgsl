// Activations in f32, zeros beyond the columns.
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;      // [rows, 16 * pieces]
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;  // nothing

fn x_vector(row: u32, vector: u32) -> vec4<f32> {
    return x[row * params.pieces * 16u + vector];
}

fn x_step(row: u32, piece: u32) -> f32 {
    return 1.0;
}
