// Causal attention of one row over its sequence's cache: softmax(q · k / √HEAD_DIM) · v (FlashDecoding: the context is
// cut into chunks that are computed apart and merged). A workgroup takes GROUP query heads that share a key/value head,
// and every `params.splits`-th chunk of the context that the row sees. With one split it writes the output; with several it writes the
// partial sums of each chunk, for attend_merge. Queries were rotated and the row appended to the cache before (attend_cached), or
// that is done here too (attend_append).
//
// LANES threads share a position, a piece of 16 bytes each, so that SLOTS positions are read at once; AHEAD such rounds are
// asked for before the first of them is used, and the first of all before anything else is done.

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
const LANES: u32 = HEAD_DIM / 2u / PIECE;    // pieces of a position
const SLOTS: u32 = THREADS / LANES;          // threads beyond these positions have nothing to read
const STRIDE: u32 = LANES | 1u;              // odd, so that rows begin in different banks
const PARTS: u32 = 16u;                      // of a chunk, for what is reduced
const QUERIES: u32 = (GROUP * HEAD_DIM + THREADS - 1u) / THREADS;     // features of queries that a thread makes
const RESULTS: u32 = (TOGETHER * HEAD_DIM + THREADS - 1u) / THREADS;    // that a thread has of TOGETHER vectors
const TURNS: u32 = (GROUP + TOGETHER - 1u) / TOGETHER;
const_assert CHUNK == THREADS;               // a thread weighs one position
const_assert SLOTS > 0u && AHEAD % EXCHANGED == 0u;

var<workgroup> query: array<f32, GROUP * HEAD_DIM>;
var<workgroup> scores: array<f32, CHUNK * GROUP>;              // [CHUNK, GROUP], later weights
var<workgroup> largest: array<f32, GROUP * PARTS>;             // score of a part
var<workgroup> total: array<f32, GROUP * PARTS>;               // of a part's weights
// What lanes have of a score, [GROUP, EXCHANGED * SLOTS, STRIDE]; what slots have of a sum, [TOGETHER, SLOTS, HEAD_DIM].
var<workgroup> exchange: array<f32, max(GROUP * EXCHANGED * SLOTS * STRIDE, TOGETHER * SLOTS * HEAD_DIM)>;

alias Pieces = array<Piece, AHEAD>;
alias Sums = array<array<vec2<f32>, PIECE>, GROUP>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.z;
    let at = step.entries[row];
    let kv_head = group.x / GROUPS;
    let first_head = kv_head * (params.heads / params.kv_heads) + group.x % GROUPS * GROUP;
    let cache = (at.sequence * params.kv_heads + kv_head) * params.positions;
    let length = at.position + 1u;
    let first_seen = length - min(length, params.window);
    let first_chunk = first_seen / CHUNK + group.y;
    let lane = thread % LANES;
    let slot = min(thread / LANES, SLOTS - 1u);

    var keys_ahead: Pieces;
    if first_chunk * CHUNK < length {
        let begin = max(first_chunk * CHUNK, first_seen);
        keys_ahead = load_keys(cache + begin, min((first_chunk + 1u) * CHUNK, length) - begin, 0u, slot, lane);
    }
    let first_vector = row * (params.heads + 2u * params.kv_heads);
    for (var i = 0u; i < QUERIES; i++) {
        let place = min(i * THREADS + thread, GROUP * HEAD_DIM - 1u);
        let first = (first_vector + first_head + place / HEAD_DIM) * HEAD_DIM;
        query[place] = query_feature(first, place % HEAD_DIM, row) * params.scale;
    }
    let writes = group.y == 0u && group.x % GROUPS == 0u;
    append(first_vector, kv_head, (cache + at.position) * LANES, row, thread, writes);
    workgroupBarrier();

    // Of all chunks so far, what this thread has of each vector's sum.
    var before: array<Partial, TURNS * RESULTS>;
    for (var i = 0u; i < TURNS * RESULTS; i++) {
        before[i] = NO_PARTIAL;
    }
    var results: array<f32, TURNS * RESULTS>;
    for (var chunk = first_chunk; chunk * CHUNK < length; chunk += params.splits) {
        let begin = max(chunk * CHUNK, first_seen);
        let count = min((chunk + 1u) * CHUNK, length) - begin;
        if chunk != first_chunk {
            keys_ahead = load_keys(cache + begin, count, 0u, slot, lane);
        }
        score(cache + begin, count, at.position - begin, keys_ahead, slot, lane, thread);
        let values_ahead = load_values(cache + begin, count, 0u, slot, lane);
        weigh(count, thread);
        let sums = weighted(cache + begin, count, at.position - begin, values_ahead, slot, lane);

        for (var turn = 0u; turn < TURNS; turn++) {
            workgroupBarrier();
            if thread < SLOTS * LANES {
                for (var i = 0u; i < TOGETHER; i++) {
                    for (var pair = 0u; pair < PIECE; pair++) {
                        let to = (i * SLOTS + slot) * HEAD_DIM + pair * 2u * LANES + lane;
                        let sum = sums[min(turn * TOGETHER + i, GROUP - 1u)][pair];
                        exchange[to] = sum.x;
                        exchange[to + LANES] = sum.y;
                    }
                }
            }
            workgroupBarrier();
            for (var i = 0u; i < RESULTS; i++) {
                let place = i * THREADS + thread;
                let v = turn * TOGETHER + place / HEAD_DIM;
                if place < TOGETHER * HEAD_DIM && v < GROUP {
                    let first = place / HEAD_DIM * SLOTS * HEAD_DIM + place % HEAD_DIM;
                    var sum = exchange[first];
                    for (var other = 1u; other < SLOTS; other++) {
                        sum += exchange[first + other * HEAD_DIM];
                    }
                    let partial = partial_of(v);
                    let mine = turn * RESULTS + i;
                    if params.splits > 1u {
                        let head = row * params.heads + first_head + v;
                        let to = (head * params.chunks + chunk) * (2u + HEAD_DIM);
                        if place % HEAD_DIM == 0u {
                            out[to] = partial.largest;
                            out[to + 1u] = partial.total;
                        }
                        out[to + 2u + feature_of(place % HEAD_DIM)] = sum;
                    } else {
                        let factors = merge_factors(before[mine], partial);
                        results[mine] = results[mine] * factors.x + sum * factors.y;
                        before[mine] = merge(before[mine], partial);
                    }
                }
            }
        }
    }

    if params.splits == 1u {
        for (var turn = 0u; turn < TURNS; turn++) {
            for (var i = 0u; i < RESULTS; i++) {
                let place = i * THREADS + thread;
                let v = turn * TOGETHER + place / HEAD_DIM;
                if place < TOGETHER * HEAD_DIM && v < GROUP {
                    let head = row * params.heads + first_head + v;
                    let to = head * HEAD_DIM + feature_of(place % HEAD_DIM);
                    out[to] = results[turn * RESULTS + i] / before[turn * RESULTS + i].total;
                }
            }
        }
    }
}

// Slots lay their sums so that neighbouring lanes write neighbouring places.
fn feature_of(place: u32) -> u32 {
    return place % LANES * 2u * PIECE + place / LANES;
}

// A lane's pieces of AHEAD positions, every SLOTS-th from `first + slot` on; those beyond `count` repeat its last.
fn load_keys(positions: u32, count: u32, first: u32, slot: u32, lane: u32) -> Pieces {
    var pieces: Pieces;
    for (var i = 0u; i < AHEAD; i++) {
        pieces[i] = keys[(positions + min(first + i * SLOTS + slot, count - 1u)) * LANES + lane];
    }
    return pieces;
}

fn load_values(positions: u32, count: u32, first: u32, slot: u32, lane: u32) -> Pieces {
    var pieces: Pieces;
    for (var i = 0u; i < AHEAD; i++) {
        pieces[i] = values[(positions + min(first + i * SLOTS + slot, count - 1u)) * LANES + lane];
    }
    return pieces;
}

// The scores of `count` positions with all heads. `own` is the row's own position, counted as they are.
fn score(positions: u32, count: u32, own: u32, ahead: Pieces, slot: u32, lane: u32, thread: u32) {
    var queries: Sums;
    for (var v = 0u; v < GROUP; v++) {
        for (var pair = 0u; pair < PIECE; pair++) {
            let i = v * HEAD_DIM + (lane * PIECE + pair) * 2u;
            queries[v][pair] = vec2<f32>(query[i], query[i + 1u]);
        }
    }
    var next = ahead;
    for (var first = 0u; first < count; first += AHEAD * SLOTS) {
        var pieces = next;
        next = load_keys(positions, count, first + AHEAD * SLOTS, slot, lane);
        for (var round = 0u; round < AHEAD; round += EXCHANGED) {
            workgroupBarrier();
            for (var i = 0u; i < EXCHANGED; i++) {
                let at = (round + i) * SLOTS + slot;
                let piece = or_own_key(pieces[round + i], first + at == own, lane);
                for (var v = 0u; v < GROUP; v++) {
                    var sum = 0.0;
                    for (var pair = 0u; pair < PIECE; pair++) {
                        let key = widen(pair_of(piece, pair));
                        sum = fma(queries[v][pair].x, key.x, sum);
                        sum = fma(queries[v][pair].y, key.y, sum);
                    }
                    if thread < SLOTS * LANES {
                        exchange[((v * EXCHANGED + i) * SLOTS + slot) * STRIDE + lane] = sum;
                    }
                }
            }
            workgroupBarrier();
            for (var i = thread; i < GROUP * EXCHANGED * SLOTS; i += THREADS) {
                let position = first + round * SLOTS + i % (EXCHANGED * SLOTS);
                var sum = exchange[i * STRIDE];
                for (var other = 1u; other < LANES; other++) {
                    sum += exchange[i * STRIDE + other];
                }
                if position < count {
                    scores[position * GROUP + i / (EXCHANGED * SLOTS)] = sum;
                }
            }
        }
    }
    workgroupBarrier();
}

// Turns scores into weights exp(score - largest).
fn weigh(count: u32, thread: u32) {
    for (var i = thread; i < GROUP * PARTS; i += THREADS) {
        let first = i % PARTS * (CHUNK / PARTS);
        var most = LOWEST;
        for (var position = first; position < first + CHUNK / PARTS; position++) {
            // Those beyond `count` were not written.
            most = max(most, select(LOWEST, scores[position * GROUP + i / PARTS], position < count));
        }
        largest[i] = most;
    }
    workgroupBarrier();
    for (var v = 0u; v < GROUP; v++) {
        var weight = 0.0;
        if thread < count {
            let mine = scores[thread * GROUP + v];
            weight = exp(mine - largest_of(v));
            // Even −∞, which would weigh nothing, is a sum that left the numbers.
            if !is_finite_bits(mine) {
                weight = not_finite(magnitude_bits(mine));
            }
        }
        scores[thread * GROUP + v] = weight;
    }
    workgroupBarrier();
    for (var i = thread; i < GROUP * PARTS; i += THREADS) {
        let first = i % PARTS * (CHUNK / PARTS);
        var sum = 0.0;
        for (var position = first; position < first + CHUNK / PARTS; position++) {
            sum += scores[position * GROUP + i / PARTS];
        }
        total[i] = sum;
    }
}

fn largest_of(v: u32) -> f32 {
    var most = largest[v * PARTS];
    for (var i = 1u; i < PARTS; i++) {
        most = max(most, largest[v * PARTS + i]);
    }
    return most;
}

fn partial_of(v: u32) -> Partial {
    var sum = vec4<f32>();
    for (var i = 0u; i < PARTS; i += 4u) {
        let at = v * PARTS + i;
        sum += vec4<f32>(total[at], total[at + 1u], total[at + 2u], total[at + 3u]);
    }
    return Partial(largest_of(v), (sum.x + sum.y) + (sum.z + sum.w));
}

// What a lane has of the weighted sums of values, over the positions of its slot.
fn weighted(positions: u32, count: u32, own: u32, ahead: Pieces, slot: u32, lane: u32) -> Sums {
    var sums: Sums;
    var next = ahead;
    for (var first = 0u; first < count; first += AHEAD * SLOTS) {
        var pieces = next;
        next = load_values(positions, count, first + AHEAD * SLOTS, slot, lane);
        for (var i = 0u; i < AHEAD; i++) {
            let position = first + i * SLOTS + slot;
            if position < count {
                let piece = or_own_value(pieces[i], position == own, lane);
                for (var pair = 0u; pair < PIECE; pair++) {
                    let value = widen(pair_of(piece, pair));
                    for (var v = 0u; v < GROUP; v++) {
                        sums[v][pair] = fma(vec2<f32>(scores[position * GROUP + v]), value, sums[v][pair]);
                    }
                }
            }
        }
    }
    return sums;
}
