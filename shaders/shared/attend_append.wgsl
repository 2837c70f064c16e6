// Attention of rows of different sequences, which are rotated and appended to the cache on the way. Every workgroup rotates
// what it needs for itself; one of each key/value head writes it to the cache. The others never read it there.
@group(0) @binding(5) var<storage, read_write> keys: array<Pair>;   // [slots, kv_heads, positions, HEAD_DIM / 2]
@group(0) @binding(6) var<storage, read_write> values: array<Pair>; // as `keys`

var<workgroup> own_key: array<Pair, HEAD_DIM / 2u>;
var<workgroup> own_value: array<Pair, HEAD_DIM / 2u>;

fn feature(first: u32, i: u32) -> f32 {
    return qkv[first + i];
}

fn query_feature(first: u32, i: u32, row: u32) -> f32 {
    return turn(first, i, row, params.pairs);
}

fn append(first_vector: u32, kv_head: u32, place: u32, row: u32, thread: u32, writes: bool) {
    let key = (first_vector + params.heads + kv_head) * HEAD_DIM;
    let value = key + params.kv_heads * HEAD_DIM;
    for (var i = thread; i < PAIRS; i += THREADS) {
        own_key[i] = narrow(vec2<f32>(turn(key, 2u * i, row, params.pairs), turn(key, 2u * i + 1u, row, params.pairs)));
        own_value[i] = narrow(vec2<f32>(qkv[value + 2u * i], qkv[value + 2u * i + 1u]));
        if writes {
            keys[place + i] = own_key[i];
            values[place + i] = own_value[i];
        }
    }
}

fn cached_key(at: u32, own: bool, pair: u32) -> Pair {
    if own {
        return own_key[pair];
    }
    return keys[at];
}

fn cached_value(at: u32, own: bool, pair: u32) -> Pair {
    if own {
        return own_value[pair];
    }
    return values[at];
}
