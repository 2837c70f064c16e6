// 16 bytes of a dense row: eight bfloat16, each the upper half of a float.
const PIECE_VECTORS: u32 = 2u;

fn unpack_piece(bits: vec4<u32>, row: u32, piece: u32) -> array<vec4<f32>, PIECE_VECTORS> {
    let even = bitcast<vec4<f32>>(bits << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(bits & vec4<u32>(0xffff0000u));
    return array<vec4<f32>, PIECE_VECTORS>(
        vec4<f32>(even.x, odd.x, even.y, odd.y),
        vec4<f32>(even.z, odd.z, even.w, odd.w),
    );
}
