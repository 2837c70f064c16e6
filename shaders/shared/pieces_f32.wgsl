// 16 bytes of cached keys or values: two pairs in single precision.
alias Piece = vec4<f32>;
const PIECE: u32 = 2u; // pairs

fn pair_of(piece: Piece, i: u32) -> Pair {
    return select(piece.xy, piece.zw, i == 1u);
}

fn piece_of(pairs: array<Pair, PIECE>) -> Piece {
    return vec4<f32>(pairs[0], pairs[1]);
}
