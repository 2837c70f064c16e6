// 16 bytes of a dense row: eight halves.
const PIECE_VECTORS: u32 = 2u;

fn unpack_piece(bits: vec4<u32>, row: u32, piece: u32) -> array<vec4<f32>, PIECE_VECTORS> {
    return array<vec4<f32>, PIECE_VECTORS>(
        vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)),
        vec4<f32>(unpack2x16float(bits.z), unpack2x16float(bits.w)),
    );
}
