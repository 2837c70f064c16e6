// 16 bytes of cached keys or values: four pairs of halves.
alias Piece = vec4<u32>;
const PIECE: u32 = 4u; // pairs

fn pair_of(piece: Piece, i: u32) -> Pair {
    return piece[i];
}

fn piece_of(pairs: array<Pair, PIECE>) -> Piece {
    return vec4<u32>(pairs[0], pairs[1], pairs[2], pairs[3]);
}
