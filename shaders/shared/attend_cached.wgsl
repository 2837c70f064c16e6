// Attention over a cache that holds the rows already; their queries were rotated.
@group(0) @binding(2) var<storage, read> keys: array<Piece>;    // [slots, kv_heads, positions, LANES]
@group(0) @binding(5) var<storage, read> values: array<Piece>;  // as `keys`

fn query_feature(first: u32, i: u32, row: u32) -> f32 {
    return qkv[first + i];
}

fn append(first_vector: u32, kv_head: u32, place: u32, row: u32, thread: u32, writes: bool) {}

fn or_own_key(piece: Piece, own: bool, lane: u32) -> Piece {
    return piece;
}

fn or_own_value(piece: Piece, own: bool, lane: u32) -> Piece {
    return piece;
}
