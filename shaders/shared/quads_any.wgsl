// Rows of floats of any width, four columns at once. X is the first of two bindings.
@group(0) @binding(X) var<storage, read> x: array<f32>;         // [rows, COLS]
@group(0) @binding(X + 1u) var<storage, read> gain: array<f32>; // [COLS], if NORM

// Columns beyond the row repeat its last one.
fn x_quad(row: u32, quad: u32) -> vec4<f32> {
    let at = row * COLS + quad_columns(quad);
    return vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn gain_quad(quad: u32) -> vec4<f32> {
    let at = quad_columns(quad);
    return vec4<f32>(gain[at.x], gain[at.y], gain[at.z], gain[at.w]);
}

fn quad_columns(quad: u32) -> vec4<u32> {
    return min(quad * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(COLS - 1u));
}
