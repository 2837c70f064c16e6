// Attention over a cache that holds the row already; its queries were rotated.
@group(0) @binding(2) var<storage, read> keys: array<Pair>;    // [slots, kv_heads, positions, HEAD_DIM / 2]
@group(0) @binding(5) var<storage, read> values: array<Pair>;  // as `keys`

fn query_feature(first: u32, i: u32, row: u32) -> f32 {
    return qkv[first + i];
}

fn append(first_vector: u32, kv_head: u32, place: u32, row: u32, thread: u32, writes: bool) {}

fn cached_key(at: u32, own: bool, pair: u32) -> Pair {
    return keys[at];
}

fn cached_value(at: u32, own: bool, pair: u32) -> Pair {
    return values[at];
}
