// Attention of rows of different sequences, which are rotated and appended to the cache on the way. Every workgroup rotates
// what it needs for itself; one of each key/value head writes it to the cache. The others never read it there.
@group(0) @binding(5) var<storage, read_write> keys: array<Pair>;   // [slots, kv_heads, positions, HEAD_DIM / 2]
@group(0) @binding(6) var<storage, read_write> values: array<Pair>; // as `keys`

const OWN: u32 = (HEAD_DIM / 2u + THREADS - 1u) / THREADS; // pairs of a thread

var<workgroup> own_key: array<Pair, HEAD_DIM / 2u>;
var<workgroup> own_value: array<Pair, HEAD_DIM / 2u>;
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
            if writes {
                keys[place + i] = own_key[i];
                values[place + i] = own_value[i];
            }
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
