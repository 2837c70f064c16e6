// Activations that were quantised before.
@group(0) @binding(5) var<storage, read> x: array<vec4<u32>>;       // [rows, 4 * pieces], int8
// [rows], or [rows, pieces / 2] in blocks: bits of the scale, sums.
@group(0) @binding(6) var<storage, read> facts: array<vec2<u32>>;

fn prepare_x(thread: u32) {}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return x[x_row_of(row) * params.pieces * 4u + at];
}

fn x_fact(place: u32) -> vec2<u32> {
    return facts[place];
}
