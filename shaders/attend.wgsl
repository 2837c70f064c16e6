// Causal attention of one row over its sequence's cache: softmax(q · k / √HEAD_DIM) · v (FlashDecoding: the context is
// cut into chunks that are computed apart and merged). A workgroup takes GROUP query heads that share a key/value head,
// and every `params.splits`-th chunk of the context that the row sees. With one split it writes the output; with several it writes the
// partial sums of each chunk, for attend_merge. Queries were rotated and the row appended to the cache before (attend_cached), or
// that is done here too (attend_append).

struct Params {
    heads: u32,
    kv_heads: u32,
    positions: u32, // of a cache slot
    splits: u32,
    chunks: u32,    // that the output has room for
    scale: f32,     // 1 / √HEAD_DIM
    pairs: u32,     // of features that are turned, in attend_append
    window: u32,    // positions that a row sees, its own the last of them
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(3) var<storage, read> qkv: array<f32>;       // [rows, (heads + 2 kv_heads) * HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [rows, heads, HEAD_DIM], or [rows, heads, chunks, 2 + HEAD_DIM]

const THREADS: u32 = 128u;
const PAIRS: u32 = HEAD_DIM / 2u;
const STRIDE: u32 = PAIRS + 1u;    // odd, so that rows begin in different banks
const SUMS: u32 = (GROUP * PAIRS + THREADS - 1u) / THREADS; // of a thread

const_assert CHUNK <= THREADS;     // a thread weighs one position

var<workgroup> query: array<f32, GROUP * HEAD_DIM>;
var<workgroup> tile: array<Pair, TILE * STRIDE>;      // keys, later values, of TILE positions
var<workgroup> scores: array<f32, GROUP * CHUNK>;
var<workgroup> reduced: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.z;
    let at = step.entries[row];
    let kv_head = group.x / GROUPS;
    let first_head = kv_head * (params.heads / params.kv_heads) + group.x % GROUPS * GROUP;
    let cache = (at.sequence * params.kv_heads + kv_head) * params.positions;
    let length = at.position + 1u;
    let first_seen = length - min(length, params.window);

    let first_vector = row * (params.heads + 2u * params.kv_heads);
    for (var i = thread; i < GROUP * HEAD_DIM; i += THREADS) {
        query[i] = query_feature((first_vector + first_head + i / HEAD_DIM) * HEAD_DIM, i % HEAD_DIM, row) * params.scale;
    }
    append(first_vector, kv_head, (cache + at.position) * PAIRS, row, thread, group.y == 0u && group.x % GROUPS == 0u);

    var before: array<Partial, GROUP>;
    for (var g = 0u; g < GROUP; g++) {
        before[g] = NO_PARTIAL;
    }
    var sums: array<vec2<f32>, SUMS>; // [GROUP, PAIRS], spread over the threads
    for (var chunk = first_seen / CHUNK + group.y; chunk * CHUNK < length; chunk += params.splits) {
        let begin = max(chunk * CHUNK, first_seen);
        let count = min((chunk + 1u) * CHUNK, length) - begin;
        for (var first = 0u; first < count; first += TILE) {
            workgroupBarrier();
            load_keys((cache + begin + first) * PAIRS, min(TILE, count - first), thread, at.position - begin - first);
            workgroupBarrier();
            for (var i = thread; i < GROUP * TILE; i += THREADS) {
                let g = i / TILE;
                let position = i % TILE;
                if first + position < count {
                    scores[g * CHUNK + first + position] = score(g, position);
                }
            }
        }
        workgroupBarrier();

        var chunk_sums = array<vec2<f32>, SUMS>();
        var partials: array<Partial, GROUP>;
        for (var g = 0u; g < GROUP; g++) {
            partials[g] = weigh(g, count, thread);
        }
        for (var first = 0u; first < count; first += TILE) {
            workgroupBarrier();
            load_values((cache + begin + first) * PAIRS, min(TILE, count - first), thread, at.position - begin - first);
            workgroupBarrier();
            for (var i = 0u; i < SUMS; i++) {
                let place = thread + i * THREADS;
                let g = min(place / PAIRS, GROUP - 1u);
                for (var position = 0u; position < min(TILE, count - first); position++) {
                    let weight = scores[g * CHUNK + first + position];
                    chunk_sums[i] += weight * widen(tile[position * STRIDE + place % PAIRS]);
                }
            }
        }

        for (var i = 0u; i < SUMS; i++) {
            let place = thread + i * THREADS;
            let g = min(place / PAIRS, GROUP - 1u);
            if params.splits > 1u {
                if place < GROUP * PAIRS {
                    let to = ((row * params.heads + first_head + g) * params.chunks + chunk) * (2u + HEAD_DIM);
                    if place % PAIRS == 0u {
                        out[to] = partials[g].largest;
                        out[to + 1u] = partials[g].total;
                    }
                    out[to + 2u + place % PAIRS * 2u] = chunk_sums[i].x;
                    out[to + 3u + place % PAIRS * 2u] = chunk_sums[i].y;
                }
            } else {
                let factors = merge_factors(before[g], partials[g]);
                sums[i] = sums[i] * factors.x + chunk_sums[i] * factors.y;
            }
        }
        for (var g = 0u; g < GROUP; g++) {
            before[g] = merge(before[g], partials[g]);
        }
    }

    if params.splits == 1u {
        for (var i = 0u; i < SUMS; i++) {
            let place = thread + i * THREADS;
            if place < GROUP * PAIRS {
                let result = sums[i] / before[place / PAIRS].total;
                let to = (row * params.heads + first_head) * HEAD_DIM + 2u * place;
                out[to] = result.x;
                out[to + 1u] = result.y;
            }
        }
    }
}

// `own` is the row's own position, counted from the first of the tile.
fn load_keys(first: u32, count: u32, thread: u32, own: u32) {
    for (var i = thread; i < count * PAIRS; i += THREADS) {
        tile[i / PAIRS * STRIDE + i % PAIRS] = cached_key(first + i, i / PAIRS == own, i % PAIRS);
    }
}

fn load_values(first: u32, count: u32, thread: u32, own: u32) {
    for (var i = thread; i < count * PAIRS; i += THREADS) {
        tile[i / PAIRS * STRIDE + i % PAIRS] = cached_value(first + i, i / PAIRS == own, i % PAIRS);
    }
}

fn score(g: u32, position: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < PAIRS; i++) {
        let key = widen(tile[position * STRIDE + i]);
        sum += query[g * HEAD_DIM + 2u * i] * key.x + query[g * HEAD_DIM + 2u * i + 1u] * key.y;
    }
    return sum;
}

// Turns the scores of one head into weights exp(score - largest). Every thread owns one position of the chunk.
fn weigh(g: u32, count: u32, thread: u32) -> Partial {
    var mine = -3.0e38;
    if thread < count {
        mine = scores[g * CHUNK + thread];
    }
    reduced[thread] = mine;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            reduced[thread] = max(reduced[thread], reduced[thread + half]);
        }
        workgroupBarrier();
    }
    let largest = reduced[0];
    workgroupBarrier();
    var weight = 0.0;
    if thread < count {
        weight = exp(mine - largest);
        // Even −∞, which would weigh nothing, is a sum that left the numbers.
        if !is_finite_bits(mine) {
            weight = not_finite(magnitude_bits(mine));
        }
        scores[g * CHUNK + thread] = weight;
    }
    reduced[thread] = weight;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            reduced[thread] += reduced[thread + half];
        }
        workgroupBarrier();
    }
    let total = reduced[0];
    workgroupBarrier();
    return Partial(largest, total);
}
