// 16 bytes of a dense row: sixteen int8, a scale for each group of columns. Four neighbours are in one group.
const PIECE_VECTORS: u32 = 4u;

fn unpack_piece(bits: vec4<u32>, row: u32, piece: u32) -> array<vec4<f32>, PIECE_VECTORS> {
    var values: array<vec4<f32>, PIECE_VECTORS>;
    for (var i = 0u; i < PIECE_VECTORS; i++) {
        let col = min(piece * 16u + i * 4u, params.width - 1u);
        values[i] = vec4<f32>(unpack4xI8(bits[i])) * scales[row * params.row_scales + col / params.group];
    }
    return values;
}
