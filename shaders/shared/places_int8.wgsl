// Activations that were quantised before: four int8 of a row, and what one step of them stands for.
@group(0) @binding(4) var<storage, read> x: array<u32>;            // [rows, 16 * pieces]
@group(0) @binding(5) var<storage, read> facts: array<vec2<u32>>;  // [rows, x_scales]: bits of the scale, sums

fn x_vector(row: u32, vector: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(x[row * params.pieces * 16u + vector]));
}

fn x_step(row: u32, piece: u32) -> f32 {
    // One scale for a row, or one for each block of two pieces.
    let place = row * params.x_scales + select(piece / 2u, 0u, params.x_scales == 1u);
    return 1.0 / bitcast<f32>(facts[place].x);
}
