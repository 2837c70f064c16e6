// 16 bytes of a dense row: four floats.
const PIECE_VECTORS: u32 = 1u;

fn unpack_piece(bits: vec4<u32>, row: u32, piece: u32) -> array<vec4<f32>, PIECE_VECTORS> {
    return array<vec4<f32>, PIECE_VECTORS>(bitcast<vec4<f32>>(bits));
}
