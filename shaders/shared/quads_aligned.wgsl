// Rows of floats whose width is a multiple of four, four columns at once. X is the first of two bindings.
@group(0) @binding(X) var<storage, read> x: array<vec4<f32>>;         // [rows, COLS]
@group(0) @binding(X + 1u) var<storage, read> gain: array<vec4<f32>>; // [COLS], if NORM

// Quads beyond the row repeat its last one.
fn x_quad(row: u32, quad: u32) -> vec4<f32> {
    return x[row * QUADS + min(quad, QUADS - 1u)];
}

fn gain_quad(quad: u32) -> vec4<f32> {
    return gain[min(quad, QUADS - 1u)];
}
