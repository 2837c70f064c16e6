// The same as attend_tile, over a cache in f16, by cooperative matrices of SIDE × SIDE: those that a subgroup multiplies as a whole.
// A workgroup takes ROWS rows of one sequence, of each of HEADS heads that share a key/value head; TEAMS subgroups share them, TEAM_ROWS
// rows of a head each. Every row sees all from position 0 on.
//
// Keys and values are exact in f16. Queries and weights are split in two, the second part what the first leaves over, so that products
// keep 22 bits of them; powers of two bring them to where f16 is widest. Sums are f32's, in an order of the device's own: their last bits
// are not those of attend_tile. But a row's are the same whatever rows are beside it, as a matrix adds up each row for itself, and steps
// are counted from the first position of the sequence.
//
// STEP positions are taken at once. A weight is 2^(score - reference), where a row's reference is its largest score when that was set:
// only where a score is larger by GROWTH it is set anew, and what was summed up so far is scaled. That is rare, and takes a way through
// workgroup memory, as matrices cannot be scaled by rows. Workgroups are TEAMS subgroups of the largest size that the device has, so
// there are that many or more: those beyond repeat the first, as cooperative matrices have to be met by all threads of a workgroup.
//
// Run by llvmpipe of Mesa 26.1, with matrices of 8 × 8, which it lists, and heads of 64 features: near the reference; and once with
// 16 × 16, which it does not list, and heads of 128, in steps of 16. Never run by any graphics card, nor by Metal: where it is used
// unasked, a trial has shown each of its cuts near when the device was opened, and one of them faster. What two compilers make of it is
// in benches/gpu-compilers.md.

struct Params {
    heads: u32,
    kv_heads: u32,
    positions: u32, // of a cache slot
    tiles: u32,     // large ones, of the step
    scale: f32,     // 1 / √HEAD_DIM
}

// Eight features of a cached key or value.
struct Piece {
    first: vec4<f16>,
    second: vec4<f16>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> keys: array<Piece>;    // [slots, kv_heads, positions, LANES]
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>; // [rows, (heads + 2 kv_heads) * HEAD_QUADS]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [rows, heads, HEAD_DIM]
@group(0) @binding(5) var<storage, read> values: array<Piece>;  // as `keys`

const QUERIES: u32 = TEAMS * TEAM_ROWS;              // those of a team after those of another
const ROWS: u32 = QUERIES / HEADS;
const STEP: u32 = 32u;                               // positions
const LANES: u32 = HEAD_DIM / 8u;                    // pieces of a position
const LOADS: u32 = STEP * LANES / THREADS;           // pieces that a thread asks for
const HEAD_QUADS: u32 = HEAD_DIM / 4u;               // four features each
const BLOCKS: u32 = TEAM_ROWS / SIDE;                // matrices of a team along its rows,
const FEATURES: u32 = HEAD_DIM / SIDE;               // along features,
const PLACES: u32 = STEP / SIDE;                     // and along positions
const SHARES: u32 = max(THREADS / QUERIES, 1u);      // threads of a query where weights are made
const SHARE: u32 = STEP / SHARES;                    // positions, or features, of each
const MINE: u32 = QUERIES * SHARES / THREADS;        // queries of a thread
const_assert TEAM_ROWS % SIDE == 0u && TEAMS % HEADS == 0u && HEAD_DIM % STEP == 0u && STEP % SIDE == 0u && SHARE % 4u == 0u;
const_assert MINE * THREADS == QUERIES * SHARES && LOADS * THREADS == STEP * LANES;

const LOG2_E: f32 = 1.4426950408889634;
const LOWEST: f32 = -3.0e38; // below all scores
const RAISED: f32 = 7.0;     // bits that weights are raised by,
const GROWTH: f32 = 8.0;     // and may grow by: to 2^15, within f16

const KEY_STRIDE: u32 = HEAD_DIM + 8u; // whole 16 bytes, and rows begin in other banks
const STRIDE: u32 = STEP + 8u;
const SCORE_STRIDE: u32 = STEP + 4u;

// Keys [STEP, KEY_STRIDE], values [HEAD_DIM, STRIDE], the first parts of weights [QUERIES, STRIDE], and the second; before that,
// a part of the queries [QUERIES, KEY_STRIDE].
const VALUES: u32 = STEP * KEY_STRIDE;
const FIRST_PARTS: u32 = VALUES + HEAD_DIM * STRIDE;
const SECOND_PARTS: u32 = FIRST_PARTS + QUERIES * STRIDE;
var<workgroup> halves: array<f16, max(SECOND_PARTS + QUERIES * STRIDE, QUERIES * KEY_STRIDE)>;
var<workgroup> floats: array<f32, QUERIES * SCORE_STRIDE>; // scores [QUERIES, SCORE_STRIDE]; a part of the sums
var<workgroup> totals: array<f32, QUERIES * SHARES>;
var<workgroup> has_grown: atomic<u32>;                     // whether a step set a reference anew
var<workgroup> from_no_number: atomic<u32>;                // positions from the first value that is none to the end of the slot

alias Pieces = array<Piece, LOADS>;
alias Queries = array<MatrixA, BLOCKS * FEATURES>;
alias Sums = array<MatrixC, BLOCKS * FEATURES>;

// Rows of the step, of the tile: those that it lacks repeat its last. It has none where the first is beyond the last.
struct Rows {
    first: u32,
    last: u32,
    first_head: u32,
}

// What a thread has of a query.
struct Query {
    length: u32,    // positions that it sees
    shift: i32,     // log2 of what it is multiplied with
    reference: f32,
    total: f32,     // of its share of weights
    factor: f32,    // of what was summed up before the present step
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let tile = group.z / HEADS;
    let end = select(step.rows, step.entries[min(tile + 1u, params.tiles - 1u)].large_tile, tile + 1u < params.tiles);
    let first = step.entries[tile].large_tile + group.z % HEADS * ROWS;
    let rows = Rows(first, min(first + ROWS, end) - 1u, group.x * HEADS);
    let kv_head = rows.first_head / (params.heads / params.kv_heads);
    let cache = (step.entries[rows.last].sequence * params.kv_heads + kv_head) * params.positions;
    var longest = 0u;
    var shortest = params.positions;
    for (var row = rows.first; row <= rows.last; row++) {
        longest = max(longest, step.entries[row].position + 1u);
        shortest = min(shortest, step.entries[row].position + 1u);
    }
    let team = subgroup % TEAMS * TEAM_ROWS; // its first query

    var mine: array<Query, MINE>;
    for (var i = 0u; i < MINE; i++) {
        let query = query_of(i, thread);
        let length = step.entries[min(row_of(query, rows), rows.last)].position + 1u;
        mine[i] = Query(length, shift_of(query, rows), LOWEST, 0.0, 1.0);
        store_query(query, mine[i].shift, true, rows, thread);
    }
    if thread == 0u {
        atomicStore(&from_no_number, 0u);
    }
    var first_queries: Queries;
    var second_queries: Queries;
    workgroupBarrier();
    for (var i = 0u; i < BLOCKS * FEATURES; i++) {
        let at = (team + i / FEATURES * SIDE) * KEY_STRIDE + i % FEATURES * SIDE;
        first_queries[i] = coopLoadT<MatrixA>(&halves[at], KEY_STRIDE);
    }
    workgroupBarrier();
    for (var i = 0u; i < MINE; i++) {
        store_query(query_of(i, thread), mine[i].shift, false, rows, thread);
    }
    workgroupBarrier();
    for (var i = 0u; i < BLOCKS * FEATURES; i++) {
        let at = (team + i / FEATURES * SIDE) * KEY_STRIDE + i % FEATURES * SIDE;
        second_queries[i] = coopLoadT<MatrixA>(&halves[at], KEY_STRIDE);
    }
    workgroupBarrier();

    var sums: Sums;
    store_keys(load_keys(cache, max(longest, 1u), thread), thread);
    for (var begin = 0u; begin < longest; begin += STEP) {
        let count = min(longest - begin, STEP);
        let is_whole = shortest >= begin + STEP;
        workgroupBarrier();
        let new_values = load_values(cache + begin, count, thread);
        var scores: array<MatrixC, BLOCKS * PLACES>;
        for (var k = 0u; k < FEATURES; k++) {
            for (var j = 0u; j < PLACES; j++) {
                let key = coopLoad<MatrixB>(&halves[j * SIDE * KEY_STRIDE + k * SIDE], KEY_STRIDE);
                for (var i = 0u; i < BLOCKS; i++) {
                    let score = coopMultiplyAdd(first_queries[i * FEATURES + k], key, scores[i * PLACES + j]);
                    scores[i * PLACES + j] = coopMultiplyAdd(second_queries[i * FEATURES + k], key, score);
                }
            }
        }
        for (var i = 0u; i < BLOCKS * PLACES; i++) {
            coopStoreT(scores[i], &floats[place_of(team, i)], SCORE_STRIDE);
        }
        store_values(new_values, begin, count, is_whole, thread);
        if thread == 0u {
            atomicStore(&has_grown, 0u);
        }
        workgroupBarrier();
        let next = min(begin + STEP, longest - 1u); // after the last, any
        let new_keys = load_keys(cache + next, longest - next, thread);
        for (var i = 0u; i < MINE; i++) {
            mine[i] = weigh(mine[i], query_of(i, thread), begin, is_whole, thread);
        }
        store_keys(new_keys, thread);
        if workgroupUniformLoad(&has_grown) > 0u {
            for (var part = 0u; part < HEAD_DIM / STEP; part++) {
                for (var i = 0u; i < BLOCKS * PLACES; i++) {
                    coopStoreT(sums[sum_of(part, i)], &floats[place_of(team, i)], SCORE_STRIDE);
                }
                workgroupBarrier();
                for (var i = 0u; i < MINE; i++) {
                    for (var j = 0u; j < SHARE; j++) {
                        floats[query_of(i, thread) * SCORE_STRIDE + thread % SHARES * SHARE + j] *= mine[i].factor;
                    }
                }
                workgroupBarrier();
                for (var i = 0u; i < BLOCKS * PLACES; i++) {
                    sums[sum_of(part, i)] = coopLoadT<MatrixC>(&floats[place_of(team, i)], SCORE_STRIDE);
                }
                workgroupBarrier();
            }
        }
        for (var k = 0u; k < PLACES; k++) {
            var first_weights: array<MatrixA, BLOCKS>;
            var second_weights: array<MatrixA, BLOCKS>;
            for (var i = 0u; i < BLOCKS; i++) {
                let at = (team + i * SIDE) * STRIDE + k * SIDE;
                first_weights[i] = coopLoadT<MatrixA>(&halves[FIRST_PARTS + at], STRIDE);
                second_weights[i] = coopLoadT<MatrixA>(&halves[SECOND_PARTS + at], STRIDE);
            }
            for (var j = 0u; j < FEATURES; j++) {
                let value = coopLoad<MatrixB>(&halves[VALUES + j * SIDE * STRIDE + k * SIDE], STRIDE);
                for (var i = 0u; i < BLOCKS; i++) {
                    let sum = coopMultiplyAdd(first_weights[i], value, sums[i * FEATURES + j]);
                    sums[i * FEATURES + j] = coopMultiplyAdd(second_weights[i], value, sum);
                }
            }
        }
    }

    let numbers = params.positions - atomicLoad(&from_no_number);
    for (var i = 0u; i < MINE; i++) {
        let total = select(mine[i].total, not_finite(INFINITY_BITS), mine[i].length > numbers);
        totals[query_of(i, thread) * SHARES + thread % SHARES] = total;
    }
    for (var part = 0u; part < HEAD_DIM / STEP; part++) {
        workgroupBarrier();
        for (var i = 0u; i < BLOCKS * PLACES; i++) {
            coopStoreT(sums[sum_of(part, i)], &floats[place_of(team, i)], SCORE_STRIDE);
        }
        workgroupBarrier();
        for (var i = 0u; i < MINE; i++) {
            write_share(query_of(i, thread), part, rows, thread);
        }
    }
}

fn query_of(i: u32, thread: u32) -> u32 {
    return (i * THREADS + thread) / SHARES;
}

fn row_of(query: u32, rows: Rows) -> u32 {
    return rows.first + query / TEAM_ROWS / HEADS * TEAM_ROWS + query % TEAM_ROWS;
}

fn head_of(query: u32, rows: Rows) -> u32 {
    return rows.first_head + query / TEAM_ROWS % HEADS;
}

// Where in `floats` the i-th matrix of a team's lies, and which of its sums that is in a part of STEP features.
fn place_of(team: u32, i: u32) -> u32 {
    return (team + i / PLACES * SIDE) * SCORE_STRIDE + i % PLACES * SIDE;
}

fn sum_of(part: u32, i: u32) -> u32 {
    return i / PLACES * FEATURES + part * PLACES + i % PLACES;
}

// Four features of a query. Scores are in bits, as weights are powers of two.
fn query_quad(query: u32, quad: u32, rows: Rows) -> vec4<f32> {
    let row = min(row_of(query, rows), rows.last);
    let head = row * (params.heads + 2u * params.kv_heads) + head_of(query, rows);
    return qkv[head * HEAD_QUADS + quad] * (params.scale * LOG2_E);
}

// What brings the largest feature of a query to between 2^14 and 2^15; what is no number stays none.
fn shift_of(query: u32, rows: Rows) -> i32 {
    var largest = 0u;
    for (var quad = 0u; quad < HEAD_QUADS; quad++) {
        largest = max(largest, largest_bits(query_quad(query, quad, rows)));
    }
    return min(14 + 127 - i32(largest >> 23u), 40);
}

fn power_of_two(exponent: i32) -> f32 {
    return bitcast<f32>(u32(127 + exponent) << 23u);
}

fn largest_bits(v: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// The first 11 bits of each: exact in f16, but for what lies below its full precision, which is next to nothing here. That f16 and
// back is less than it was would be for a compiler to say, which may take it for the same.
fn first_part(v: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4<u32>(0xffffe000u));
}

// Puts the first or the second part of a query into workgroup memory, as far as it is this thread's.
fn store_query(query: u32, shift: i32, is_first: bool, rows: Rows, thread: u32) {
    for (var i = 0u; i < HEAD_QUADS / SHARES; i++) {
        let quad = i * SHARES + thread % SHARES;
        let v = query_quad(query, quad, rows) * power_of_two(shift);
        let part = vec4<f16>(select(v - first_part(v), first_part(v), is_first));
        for (var j = 0u; j < 4u; j++) {
            halves[query * KEY_STRIDE + quad * 4u + j] = part[j];
        }
    }
}

// Pieces of a step's keys; those of positions beyond `count` repeat its last.
fn load_keys(positions: u32, count: u32, thread: u32) -> Pieces {
    var pieces: Pieces;
    for (var i = 0u; i < LOADS; i++) {
        let place = i * THREADS + thread;
        pieces[i] = keys[(positions + min(place / LANES, count - 1u)) * LANES + place % LANES];
    }
    return pieces;
}

fn store_keys(pieces: Pieces, thread: u32) {
    for (var i = 0u; i < LOADS; i++) {
        let place = i * THREADS + thread;
        let to = place / LANES * KEY_STRIDE + place % LANES * 8u;
        for (var j = 0u; j < 4u; j++) {
            halves[to + j] = pieces[i].first[j];
            halves[to + 4u + j] = pieces[i].second[j];
        }
    }
}

// The same of values: threads beside each other have positions beside each other, which is how they are laid down.
fn load_values(positions: u32, count: u32, thread: u32) -> Pieces {
    var pieces: Pieces;
    for (var i = 0u; i < LOADS; i++) {
        let place = i * THREADS + thread;
        pieces[i] = values[(positions + min(place % STEP, count - 1u)) * LANES + place / STEP];
    }
    return pieces;
}

// What a row does not see is multiplied by 0, so it has to be a number; a row that does see it is made none at the end.
fn store_values(pieces: Pieces, begin: u32, count: u32, is_whole: bool, thread: u32) {
    for (var i = 0u; i < LOADS; i++) {
        let place = i * THREADS + thread;
        var first = pieces[i].first;
        var second = pieces[i].second;
        if !is_whole && !(are_numbers(first) && are_numbers(second)) {
            first = vec4<f16>();
            second = vec4<f16>();
            atomicMax(&from_no_number, params.positions - (begin + min(place % STEP, count - 1u)));
        }
        let to = VALUES + place / STEP * 8u * STRIDE + place % STEP;
        for (var j = 0u; j < 4u; j++) {
            halves[to + j * STRIDE] = first[j];
            halves[to + (4u + j) * STRIDE] = second[j];
        }
    }
}

fn are_numbers(v: vec4<f16>) -> bool {
    return all((bitcast<vec4<u16>>(v) & vec4<u16>(u16(0x7fffu))) < vec4<u16>(u16(0x7c00u)));
}

fn four_scores(at: u32) -> vec4<f32> {
    return vec4<f32>(floats[at], floats[at + 1u], floats[at + 2u], floats[at + 3u]);
}

// LOWEST for scores of positions that the query does not see.
fn as_seen(scores: vec4<f32>, position: u32, length: u32) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), scores, vec4<u32>(position) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(length));
}

// Lays both parts of this thread's share of a query's weights into workgroup memory.
fn weigh(before: Query, query: u32, begin: u32, is_whole: bool, thread: u32) -> Query {
    let at = query * SCORE_STRIDE;
    let share = thread % SHARES * SHARE;
    var four = vec4<f32>(LOWEST);
    if is_whole {
        for (var i = 0u; i < STEP; i += 4u) {
            four = max(four, four_scores(at + i));
        }
    } else {
        for (var i = 0u; i < STEP; i += 4u) {
            four = max(four, as_seen(four_scores(at + i), begin + i, before.length));
        }
    }
    var now = before;
    let unit = power_of_two(-now.shift);
    let most = max(max(four.x, four.y), max(four.z, four.w)) * unit;
    now.factor = 1.0;
    if most > before.reference + GROWTH {
        now.reference = most;
        now.factor = exp2(before.reference - most);
        if before.reference > LOWEST {
            atomicStore(&has_grown, 1u);
        }
    }
    var total = 0.0;
    var largest = 0u;
    for (var i = 0u; i < SHARE; i += 4u) {
        var scores = four_scores(at + share + i);
        if !is_whole {
            scores = as_seen(scores, begin + share + i, before.length);
        }
        let weights = exp2(fma(scores, vec4<f32>(unit), vec4<f32>(RAISED - now.reference)));
        let first = vec4<f16>(first_part(weights));
        let second = vec4<f16>(weights - first_part(weights));
        for (var j = 0u; j < 4u; j++) {
            halves[FIRST_PARTS + query * STRIDE + share + i + j] = first[j];
            halves[SECOND_PARTS + query * STRIDE + share + i + j] = second[j];
        }
        total += (weights.x + weights.y) + (weights.z + weights.w);
        largest = max(largest, largest_bits(scores));
    }
    // Even −∞, which would weigh nothing, is a sum that left the numbers.
    now.total = before.total * now.factor + select(total, not_finite(largest), largest >= INFINITY_BITS);
    return now;
}

// Writes this thread's share of a part of a query's results.
fn write_share(query: u32, part: u32, rows: Rows, thread: u32) {
    var total = totals[query * SHARES];
    for (var i = 1u; i < SHARES; i++) {
        total += totals[query * SHARES + i];
    }
    let row = row_of(query, rows);
    if row <= rows.last {
        let share = thread % SHARES * SHARE;
        let to = (row * params.heads + head_of(query, rows)) * HEAD_DIM + part * STEP + share;
        for (var i = 0u; i < SHARE; i++) {
            out[to + i] = floats[query * SCORE_STRIDE + share + i] / total;
        }
    }
}
