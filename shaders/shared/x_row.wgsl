// Codes of a step's only row, which every workgroup normalises and quantises for itself: that is less work than waiting for another
// shader to do it once.
var<workgroup> x_row: array<u32, PADDED_QUADS>; // [16 * pieces], four int8 each: scalars, as four threads write a vector's worth

fn store(row: u32, quad: u32, codes: u32) {
    x_row[quad] = codes;
}

fn x_codes(row: u32, at: u32) -> vec4<u32> {
    return vec4<u32>(x_row[4u * at], x_row[4u * at + 1u], x_row[4u * at + 2u], x_row[4u * at + 3u]);
}
