// Attention of rows of different sequences, which are rotated and appended to the cache on the way. Every workgroup rotates
// what it needs for itself; one of each key/value head writes it to the cache. What is read at that place is never used.
@group(0) @binding(5) var<storage, read_write> keys: array<Piece>;   // [slots, kv_heads, positions, LANES]
@group(0) @binding(6) var<storage, read_write> values: array<Piece>; // as `keys`

const PAIRS: u32 = HEAD_DIM / 2u;
const OWN: u32 = (PAIRS + THREADS - 1u) / THREADS; // pairs of a thread

var<workgroup> own_key: array<Pair, PAIRS>;
var<workgroup> own_value: array<Pair, PAIRS>;
var<workgroup> largest_key: atomic<u32>;   // bits of its largest magnitude
var<workgroup> largest_value: atomic<u32>; // likewise

fn feature(first: u32, i: u32) -> f32 {
    return qkv[first + i];
}

fn query_feature(first: u32, i: u32, row: u32) -> f32 {
    return turn(first, i, row, params.pairs);
}

fn append(first_vector: u32, kv_head: u32, place: u32, row: u32, thread: u32, writes: bool) {
    let key = (first_vector + params.heads + kv_head) * HEAD_DIM;
    let value = key + params.kv_heads * HEAD_DIM;
    if thread == 0u {
        atomicStore(&largest_key, 0u);
        atomicStore(&largest_value, 0u);
    }
    workgroupBarrier();
    var turned: array<vec2<f32>, OWN>;
    var plain: array<vec2<f32>, OWN>;
    for (var own = 0u; own < OWN; own++) {
        let i = min(thread + own * THREADS, PAIRS - 1u);
        turned[own] = vec2<f32>(turn(key, 2u * i, row, params.pairs), turn(key, 2u * i + 1u, row, params.pairs));
        plain[own] = vec2<f32>(qkv[value + 2u * i], qkv[value + 2u * i + 1u]);
        atomicMax(&largest_key, max(magnitude_bits(turned[own].x), magnitude_bits(turned[own].y)));
        atomicMax(&largest_value, max(magnitude_bits(plain[own].x), magnitude_bits(plain[own].y)));
    }
    workgroupBarrier();
    for (var own = 0u; own < OWN; own++) {
        let i = thread + own * THREADS;
        if i < PAIRS {
            own_key[i] = narrow_of(atomicLoad(&largest_key), turned[own]);
            own_value[i] = narrow_of(atomicLoad(&largest_value), plain[own]);
        }
    }
    workgroupBarrier();
    if writes && thread < LANES {
        keys[place + thread] = own_key_piece(thread);
        values[place + thread] = own_value_piece(thread);
    }
}

fn own_key_piece(lane: u32) -> Piece {
    var pairs: array<Pair, PIECE>;
    for (var i = 0u; i < PIECE; i++) {
        pairs[i] = own_key[lane * PIECE + i];
    }
    return piece_of(pairs);
}

fn own_value_piece(lane: u32) -> Piece {
    var pairs: array<Pair, PIECE>;
    for (var i = 0u; i < PIECE; i++) {
        pairs[i] = own_value[lane * PIECE + i];
    }
    return piece_of(pairs);
}

fn or_own_key(piece: Piece, own: bool, lane: u32) -> Piece {
    if own {
        return own_key_piece(lane);
    }
    return piece;
}

fn or_own_value(piece: Piece, own: bool, lane: u32) -> Piece {
    if own {
        return own_value_piece(lane);
    }
    return piece;
}
