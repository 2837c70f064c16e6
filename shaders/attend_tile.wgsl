// Causal attention of a tile of a prompt: QUERIES query vectors, those of GROUP heads that share a key/value head in ROWS rows of one
// sequence, against every `params.splits`-th chunk of the context, so that keys and values are read and widened once for all of them.
// Sums are those of attend, in its order: a key's pieces apart, then together; the positions of a slot, then slots; parts of a
// chunk's weights; chunk after chunk. Queries were rotated and rows appended before; every row sees all from position 0 on.
//
// A thread has the scores of four queries with four positions, and then sums of QUADS * 4 queries in four features. Keys are laid into
// workgroup memory by SLICE features, values by STAGED positions of a slot; the next are asked for meanwhile.

struct Params {
    heads: u32,
    kv_heads: u32,
    positions: u32, // of a cache slot
    splits: u32,
    chunks: u32,    // that the output has room for
    scale: f32,     // 1 / √HEAD_DIM
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> keys: array<Piece>;    // [slots, kv_heads, positions, LANES]
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>; // [rows, (heads + 2 kv_heads) * HEAD_DIM / 4]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [rows, heads, HEAD_DIM], or [rows, heads, chunks, 2 + HEAD_DIM]
@group(0) @binding(5) var<storage, read> values: array<Piece>;  // as `keys`

const THREADS: u32 = 128u;
const QUERIES: u32 = TILE_ROWS;
const ROWS: u32 = QUERIES / GROUP;
const LANES: u32 = HEAD_DIM / 2u / PIECE;             // pieces of a position
const SLOTS: u32 = THREADS / LANES;
const RUN: u32 = CHUNK / SLOTS;                       // positions of a slot
const PIECE_QUADS: u32 = PIECE / 2u;                  // four features each
const HEAD_QUADS: u32 = HEAD_DIM / 4u;
const SLICE: u32 = 16u;                               // features
const SLICE_LANES: u32 = SLICE / 2u / PIECE;
const SLICE_QUADS: u32 = SLICE / 4u;
const KEY_STRIDE: u32 = SLICE_QUADS + 1u;             // odd, so that rows begin in different banks
const KEY_LOADS: u32 = CHUNK * SLICE_LANES / THREADS; // pieces of a slice that a thread asks for
const STAGED: u32 = min(RUN, 1024u / HEAD_DIM);       // positions
const VALUE_LOADS: u32 = (STAGED * LANES + THREADS - 1u) / THREADS;
const QUADS: u32 = (HEAD_DIM + 127u) / 128u;          // of queries
const PARTS: u32 = 16u;                               // of a chunk, whose weights are added up
const APART: u32 = 32u;                               // between a thread's positions
const_assert CHUNK == THREADS && CHUNK == 4u * APART && LANES * SLOTS == THREADS && HEAD_DIM % SLICE == 0u;

// Of a slice, keys [CHUNK, KEY_STRIDE] and queries [QUERIES, SLICE_QUADS]; then weights [QUERIES / 4, CHUNK], of four queries
// each, and values [STAGED, HEAD_QUADS].
const SLICE_QUERIES: u32 = CHUNK * KEY_STRIDE;
const VALUES: u32 = QUERIES / 4u * CHUNK;
var<workgroup> quads: array<vec4<f32>, max(SLICE_QUERIES + QUERIES * SLICE_QUADS, VALUES + STAGED * HEAD_QUADS)>;
var<workgroup> parts: array<vec4<f32>, THREADS>;     // the largest score of a thread's; sums of weights
var<workgroup> largest_parts: array<vec4<f32>, 32u>; // [QUERIES / 4, 8]
var<workgroup> largest: array<vec4<f32>, QUERIES / 4u>;
var<workgroup> total: array<vec4<f32>, QUERIES / 4u>;

alias Keys = array<Piece, KEY_LOADS>;
alias Values = array<Piece, VALUE_LOADS>;

// Rows of the step: of the tile, those from `first` to `last`, which rows that it lacks repeat.
struct Rows {
    first: u32,
    last: u32,
    first_head: u32,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let tile = group.z / GROUP;
    var end = step.rows;
    if tile + 1u < step.tiles {
        end = step.entries[tile + 1u].tile;
    }
    let first = step.entries[tile].tile + group.z % GROUP * ROWS;
    if first >= end {
        return;
    }
    let rows = Rows(first, min(first + ROWS, end) - 1u, group.x * GROUP);
    let kv_head = rows.first_head / (params.heads / params.kv_heads);
    let cache = (step.entries[first].sequence * params.kv_heads + kv_head) * params.positions;
    var longest = 0u;
    var shortest = params.positions;
    for (var row = rows.first; row <= rows.last; row++) {
        longest = max(longest, step.entries[row].position + 1u);
        shortest = min(shortest, step.entries[row].position + 1u);
    }
    let scored = thread / APART; // which four queries
    let summed = thread / HEAD_QUADS * QUADS;
    let feature_quad = thread % HEAD_QUADS;
    let scored_lengths = lengths_of(rows, scored);
    var lengths: array<vec4<u32>, QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        lengths[quad] = lengths_of(rows, min(summed + quad, QUERIES / 4u - 1u));
    }

    // Of all chunks so far.
    var before: array<Partial, QUADS * 4u>;
    var results: array<vec4<f32>, QUADS * 4u>;
    for (var i = 0u; i < QUADS * 4u; i++) {
        before[i] = NO_PARTIAL;
    }
    for (var chunk = group.y; chunk * CHUNK < longest; chunk += params.splits) {
        let begin = chunk * CHUNK;
        let count = min(longest - begin, CHUNK);
        weigh(cache + begin, count, counts_of(scored_lengths, begin), rows, thread);
        let is_whole = shortest >= begin + CHUNK;
        let sums = weighted(cache + begin, count, is_whole, lengths, begin, summed, feature_quad, thread);
        if thread < QUERIES / 4u / QUADS * HEAD_QUADS {
            for (var i = 0u; i < QUADS * 4u; i++) {
                let partial = Partial(largest[summed + i / 4u][i % 4u], total[summed + i / 4u][i % 4u]);
                if lengths[i / 4u][i % 4u] > begin {
                    let query = summed * 4u + i;
                    let row = rows.first + query / GROUP;
                    let head = row * params.heads + rows.first_head + query % GROUP;
                    if params.splits == 1u {
                        let factors = merge_factors(before[i], partial);
                        results[i] = results[i] * factors.x + sums[i] * factors.y;
                        before[i] = merge(before[i], partial);
                    } else if row <= rows.last {
                        let to = (head * params.chunks + chunk) * (2u + HEAD_DIM);
                        if feature_quad == 0u {
                            out[to] = partial.largest;
                            out[to + 1u] = partial.total;
                        }
                        write_quad(to + 2u + feature_quad * 4u, sums[i]);
                    }
                }
            }
        }
    }
    if params.splits == 1u && thread < QUERIES / 4u / QUADS * HEAD_QUADS {
        for (var i = 0u; i < QUADS * 4u; i++) {
            let query = summed * 4u + i;
            let row = rows.first + query / GROUP;
            if row <= rows.last {
                let head = row * params.heads + rows.first_head + query % GROUP;
                write_quad(head * HEAD_DIM + feature_quad * 4u, results[i] / before[i].total);
            }
        }
    }
}

fn write_quad(to: u32, v: vec4<f32>) {
    out[to] = v.x;
    out[to + 1u] = v.y;
    out[to + 2u] = v.z;
    out[to + 3u] = v.w;
}

// Positions that the rows of four queries see.
fn lengths_of(rows: Rows, quad: u32) -> vec4<u32> {
    var lengths: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
        lengths[i] = step.entries[min(rows.first + (quad * 4u + i) / GROUP, rows.last)].position + 1u;
    }
    return lengths;
}

// Of these, those in the chunk that begins at `begin`.
fn counts_of(lengths: vec4<u32>, begin: u32) -> vec4<u32> {
    return min(max(lengths, vec4<u32>(begin)) - begin, vec4<u32>(CHUNK));
}

fn quad_of(piece: Piece, i: u32) -> vec4<f32> {
    return vec4<f32>(widen(pair_of(piece, 2u * i)), widen(pair_of(piece, 2u * i + 1u)));
}

// Pieces of a slice of features; positions beyond `count` repeat its last.
fn load_keys(positions: u32, count: u32, slice: u32, thread: u32) -> Keys {
    var pieces: Keys;
    for (var i = 0u; i < KEY_LOADS; i++) {
        let place = i * THREADS + thread;
        let position = positions + min(place / SLICE_LANES, count - 1u);
        pieces[i] = keys[position * LANES + slice * SLICE_LANES + place % SLICE_LANES];
    }
    return pieces;
}

fn load_query(slice: u32, rows: Rows, thread: u32) -> vec4<f32> {
    let query = thread / SLICE_QUADS % QUERIES;
    let row = min(rows.first + query / GROUP, rows.last);
    let head = row * (params.heads + 2u * params.kv_heads) + rows.first_head + query % GROUP;
    return qkv[head * HEAD_QUADS + slice * SLICE_QUADS + thread % SLICE_QUADS];
}

// Adds the products of four features of a thread's four queries with its four positions.
fn add_products(before: array<vec4<f32>, 4>, quad: u32, thread: u32) -> array<vec4<f32>, 4> {
    var sums = before;
    let queries = SLICE_QUERIES + thread / APART * 4u * SLICE_QUADS + quad;
    let a = quads[queries];
    let b = quads[queries + SLICE_QUADS];
    let c = quads[queries + 2u * SLICE_QUADS];
    let d = quads[queries + 3u * SLICE_QUADS];
    for (var i = 0u; i < 4u; i++) {
        let key = quads[(thread % APART + i * APART) * KEY_STRIDE + quad];
        sums[i] = fma(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(key.x), sums[i]);
        sums[i] = fma(vec4<f32>(a.y, b.y, c.y, d.y), vec4<f32>(key.y), sums[i]);
        sums[i] = fma(vec4<f32>(a.z, b.z, c.z, d.z), vec4<f32>(key.z), sums[i]);
        sums[i] = fma(vec4<f32>(a.w, b.w, c.w, d.w), vec4<f32>(key.w), sums[i]);
    }
    return sums;
}

// Lays exp(score - largest) of the chunk's positions into workgroup memory, for each query. A thread's queries see `counts` of them.
fn weigh(positions: u32, count: u32, counts: vec4<u32>, rows: Rows, thread: u32) {
    let four = thread / APART;
    let place = thread % APART;
    var scores: array<vec4<f32>, 4>; // of four queries with each position
    var keys_ahead = load_keys(positions, count, 0u, thread);
    var query_ahead = load_query(0u, rows, thread);
    for (var slice = 0u; slice < HEAD_DIM / SLICE; slice++) {
        workgroupBarrier();
        for (var i = 0u; i < KEY_LOADS; i++) {
            let at = i * THREADS + thread;
            for (var quad = 0u; quad < PIECE_QUADS; quad++) {
                let to = at / SLICE_LANES * KEY_STRIDE + at % SLICE_LANES * PIECE_QUADS + quad;
                quads[to] = quad_of(keys_ahead[i], quad);
            }
        }
        if thread < QUERIES * SLICE_QUADS {
            quads[SLICE_QUERIES + thread] = query_ahead * params.scale;
        }
        workgroupBarrier();
        let next = min(slice + 1u, HEAD_DIM / SLICE - 1u);
        keys_ahead = load_keys(positions, count, next, thread);
        query_ahead = load_query(next, rows, thread);
        for (var quad = 0u; quad < SLICE_QUADS; quad += PIECE_QUADS) {
            var sums = add_products(array<vec4<f32>, 4>(), quad, thread);
            if PIECE_QUADS == 2u {
                sums = add_products(sums, quad + 1u, thread);
            }
            for (var i = 0u; i < 4u; i++) {
                scores[i] += sums[i];
            }
        }
    }

    var most = vec4<f32>(LOWEST);
    for (var i = 0u; i < 4u; i++) {
        most = max(most, select(vec4<f32>(LOWEST), scores[i], vec4<u32>(place + i * APART) < counts));
    }
    parts[thread] = most;
    workgroupBarrier();
    if thread < 32u {
        let origin = thread * 4u;
        largest_parts[thread] = max(max(parts[origin], parts[origin + 1u]), max(parts[origin + 2u], parts[origin + 3u]));
    }
    workgroupBarrier();
    most = vec4<f32>(LOWEST);
    for (var i = 0u; i < 8u; i++) {
        most = max(most, largest_parts[four * 8u + i]);
    }
    if place == 0u {
        largest[four] = most;
    }
    for (var i = 0u; i < 4u; i++) {
        // Even −∞, which would weigh nothing, is a sum that left the numbers.
        let bits = bitcast<vec4<u32>>(scores[i]) & vec4<u32>(0x7fffffffu);
        let none = bitcast<vec4<f32>>(bits | vec4<u32>(0x7fc00000u));
        let weights = select(exp(scores[i] - most), none, bits >= vec4<u32>(INFINITY_BITS));
        quads[four * CHUNK + place + i * APART] = select(vec4<f32>(), weights, vec4<u32>(place + i * APART) < counts);
    }
    workgroupBarrier();
    if thread < QUERIES / 4u * PARTS {
        var sum = vec4<f32>();
        for (var i = 0u; i < CHUNK / PARTS; i++) {
            sum += quads[thread * (CHUNK / PARTS) + i];
        }
        parts[thread] = sum;
    }
}

// Pieces of STAGED positions of a slot, in their order; those beyond `count` repeat its last.
fn load_values(positions: u32, count: u32, stage: u32, thread: u32) -> Values {
    var pieces: Values;
    for (var i = 0u; i < VALUE_LOADS; i++) {
        let place = (i * THREADS + thread) % (STAGED * LANES);
        let position = position_of(stage, place / LANES);
        pieces[i] = values[(positions + min(position, count - 1u)) * LANES + place % LANES];
    }
    return pieces;
}

fn position_of(stage: u32, i: u32) -> u32 {
    return stage / (RUN / STAGED) + (stage % (RUN / STAGED) * STAGED + i) * SLOTS;
}

// The weighted sums of a chunk's values, in four features of each query. Where rows do not see all of it, what they do not see may be no
// number, and is left out.
fn weighted(
    positions: u32,
    count: u32,
    is_whole: bool,
    lengths: array<vec4<u32>, QUADS>,
    begin: u32,
    summed: u32,
    feature_quad: u32,
    thread: u32,
) -> array<vec4<f32>, QUADS * 4u> {
    var counts = lengths;
    for (var quad = 0u; quad < QUADS; quad++) {
        counts[quad] = counts_of(lengths[quad], begin);
    }
    let origin = min(summed, QUERIES / 4u - QUADS) * CHUNK;
    var sums: array<vec4<f32>, QUADS * 4u>;
    var of_slot: array<vec4<f32>, QUADS * 4u>;
    var ahead = load_values(positions, count, 0u, thread);
    for (var stage = 0u; stage < CHUNK / STAGED; stage++) {
        workgroupBarrier();
        for (var i = 0u; i < VALUE_LOADS; i++) {
            let at = i * THREADS + thread;
            for (var quad = 0u; quad < PIECE_QUADS; quad++) {
                if at < STAGED * LANES {
                    quads[VALUES + at * PIECE_QUADS + quad] = quad_of(ahead[i], quad);
                }
            }
        }
        if stage == 0u && thread < QUERIES / 4u {
            var four: array<vec4<f32>, 4>; // every fourth part
            for (var i = 0u; i < PARTS; i++) {
                four[i % 4u] += parts[thread * PARTS + i];
            }
            total[thread] = (four[0] + four[1]) + (four[2] + four[3]);
        }
        workgroupBarrier();
        ahead = load_values(positions, count, min(stage + 1u, CHUNK / STAGED - 1u), thread);
        let first = origin + position_of(stage, 0u);
        if is_whole {
            for (var i = 0u; i < STAGED; i++) {
                let value = quads[VALUES + i * HEAD_QUADS + feature_quad];
                for (var quad = 0u; quad < QUADS; quad++) {
                    let weights = quads[first + quad * CHUNK + i * SLOTS];
                    of_slot[quad * 4u] = fma(vec4<f32>(weights.x), value, of_slot[quad * 4u]);
                    of_slot[quad * 4u + 1u] = fma(vec4<f32>(weights.y), value, of_slot[quad * 4u + 1u]);
                    of_slot[quad * 4u + 2u] = fma(vec4<f32>(weights.z), value, of_slot[quad * 4u + 2u]);
                    of_slot[quad * 4u + 3u] = fma(vec4<f32>(weights.w), value, of_slot[quad * 4u + 3u]);
                }
            }
        }
        // A count that compilers do not know keeps this loop as short as it stands.
        for (var i = select(0u, STAGED, is_whole); i < STAGED; i++) {
            let value = quads[VALUES + i * HEAD_QUADS + feature_quad];
            for (var v = 0u; v < QUADS * 4u; v++) {
                let weight = quads[first + v / 4u * CHUNK + i * SLOTS][v % 4u];
                let is_seen = position_of(stage, i) < counts[v / 4u][v % 4u];
                of_slot[v] = select(of_slot[v], fma(vec4<f32>(weight), value, of_slot[v]), is_seen);
            }
        }
        if stage % (RUN / STAGED) == RUN / STAGED - 1u {
            for (var v = 0u; v < QUADS * 4u; v++) {
                sums[v] += of_slot[v];
                of_slot[v] = vec4<f32>();
            }
        }
    }
    return sums;
}
