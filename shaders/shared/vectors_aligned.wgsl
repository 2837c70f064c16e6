// Rows of floats whose width is a multiple of four.
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;

// Columns 4 * vector.. of a row; columns beyond the width repeat others.
fn x_vector(row: u32, vector: u32) -> vec4<f32> {
    let vectors = params.width / 4u;
    return x[row * vectors + min(vector, vectors - 1u)];
}
