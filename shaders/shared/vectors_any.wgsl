// Rows of floats of any width.
@group(0) @binding(4) var<storage, read> x: array<f32>;

// Columns 4 * vector.. of a row; columns beyond the width repeat the last.
fn x_vector(row: u32, vector: u32) -> vec4<f32> {
    let last = params.width - 1u;
    let first = row * params.width;
    let col = vector * 4u;
    return vec4<f32>(
        x[first + min(col, last)],
        x[first + min(col + 1u, last)],
        x[first + min(col + 2u, last)],
        x[first + min(col + 3u, last)],
    );
}
