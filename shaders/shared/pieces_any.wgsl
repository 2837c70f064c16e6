// One pair of cached keys or values at a time, of heads that are no multiple of 16 bytes.
alias Piece = Pair;
const PIECE: u32 = 1u; // pairs

fn pair_of(piece: Piece, i: u32) -> Pair {
    return piece;
}

fn piece_of(pairs: array<Pair, PIECE>) -> Piece {
    return pairs[0];
}
