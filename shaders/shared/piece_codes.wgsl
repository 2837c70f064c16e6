// 16 bytes of a screened row: sixteen int8, with one scale for the row, by which SCALED_AFTER multiplies the sum.
const PIECE_VECTORS: u32 = 4u;

fn unpack_piece(bits: vec4<u32>, row: u32, piece: u32) -> array<vec4<f32>, PIECE_VECTORS> {
    var values: array<vec4<f32>, PIECE_VECTORS>;
    for (var i = 0u; i < PIECE_VECTORS; i++) {
        values[i] = vec4<f32>(unpack4xI8(bits[i]));
    }
    return values;
}
