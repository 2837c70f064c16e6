// The gated delta rule, step by step: S ← fade · S, u = beta · (v − Sᵀk), S ← S + k uᵀ, out = Sᵀq. A workgroup has some values
// (columns of S) of one head of one sequence, and goes through the rows of the step in their order; LANES threads share a
// column, each with the keys of its part in registers. Columns do not need each other.

struct Params {
    key_heads: u32,
    value_heads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;             // [rows, (2 * key_heads + value_heads) * HEAD_DIM]
@group(0) @binding(3) var<storage, read> steps: array<f32>;           // [rows, 2 * value_heads]: a, then b
@group(0) @binding(4) var<storage, read> rates: array<f32>;           // [value_heads]
@group(0) @binding(5) var<storage, read> biases: array<f32>;          // [value_heads]
@group(0) @binding(6) var<storage, read_write> memories: array<f32>;  // [slots, value_heads, HEAD_DIM keys, HEAD_DIM values]
@group(0) @binding(7) var<storage, read_write> out: array<f32>;       // [rows, value_heads * HEAD_DIM]

const LANES: u32 = 4u;
const COLUMNS: u32 = 32u;
const THREADS: u32 = LANES * COLUMNS;
const CHUNKS: u32 = (HEAD_DIM + COLUMNS - 1u) / COLUMNS;
const PART: u32 = HEAD_DIM / LANES;
// Added to the squares of a query or a key that is brought to length 1.
const LENGTH_EPSILON: f32 = 1e-6;

// Of rows by turns, so that the next row's can be fetched while the last one's are used.
var<workgroup> queries: array<f32, 2u * HEAD_DIM>;
var<workgroup> keys: array<f32, 2u * HEAD_DIM>;
// Sums of each thread: Sᵀk and Sᵀq; k·k, q·q and k·q.
var<workgroup> recalled: array<vec2<f32>, THREADS>;
var<workgroup> lengths: array<vec3<f32>, THREADS>;

fn softplus(x: f32) -> f32 {
    let e = exp(min(x, 20.0));
    // Where e is small, 1 + e would lose it.
    return select(select(log(1.0 + e), e, e < 1e-4), x, x > 20.0);
}

fn length_factor(squares: f32) -> f32 {
    return rms_factor(squares, 1u, LENGTH_EPSILON);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x / CHUNKS;
    let column = group.x % CHUNKS * COLUMNS + thread % COLUMNS;
    let first_key = thread / COLUMNS * PART;
    let begin = step.entries[group.y].begin;
    let sequence = step.entries[begin].sequence;
    let cols = (2u * params.key_heads + params.value_heads) * HEAD_DIM;
    let key_head = head % params.key_heads;
    let memory = ((sequence * params.value_heads + head) * HEAD_DIM + first_key) * HEAD_DIM + column;
    let exists = column < HEAD_DIM;

    var part: array<f32, PART>;
    if exists && step.entries[begin].position > 0u {
        for (var i = 0u; i < PART; i++) {
            part[i] = memories[memory + i * HEAD_DIM];
        }
    }
    var turn = 0u;
    for (var row = begin; row < step.rows; row++) {
        if step.entries[row].sequence != sequence {
            continue;
        }
        let place = row * cols + key_head * HEAD_DIM;
        for (var i = thread; i < HEAD_DIM; i += THREADS) {
            queries[turn * HEAD_DIM + i] = qkv[place + i];
            keys[turn * HEAD_DIM + i] = qkv[place + params.key_heads * HEAD_DIM + i];
        }
        workgroupBarrier();

        if step.entries[row].position == 0u {
            for (var i = 0u; i < PART; i++) {
                part[i] = 0.0;
            }
        }
        var asked = vec2<f32>();
        var length = vec3<f32>();
        for (var i = 0u; i < PART; i++) {
            let k = keys[turn * HEAD_DIM + first_key + i];
            let q = queries[turn * HEAD_DIM + first_key + i];
            asked += part[i] * vec2<f32>(k, q);
            length += vec3<f32>(k * k, q * q, k * q);
        }
        recalled[thread] = asked;
        lengths[thread] = length;
        workgroupBarrier();

        asked = vec2<f32>();
        length = vec3<f32>();
        for (var lane = 0u; lane < LANES; lane++) {
            asked += recalled[lane * COLUMNS + thread % COLUMNS];
            length += lengths[lane * COLUMNS + thread % COLUMNS];
        }
        let key_factor = length_factor(length.x);
        let query_factor = length_factor(length.y) * inverseSqrt(f32(HEAD_DIM));
        let step_row = row * 2u * params.value_heads + head;
        let fade = exp(rates[head] * softplus(steps[step_row] + biases[head]));
        let beta = 1.0 / (1.0 + exp(-steps[step_row + params.value_heads]));
        var value = 0.0;
        if exists {
            value = qkv[row * cols + (2u * params.key_heads + head) * HEAD_DIM + column];
        }
        let u = beta * (value - fade * asked.x * key_factor);
        let added = key_factor * u;
        for (var i = 0u; i < PART; i++) {
            part[i] = part[i] * fade + keys[turn * HEAD_DIM + first_key + i] * added;
        }
        if exists && first_key == 0u {
            let answer = query_factor * (fade * asked.y + length.z * added);
            out[(row * params.value_heads + head) * HEAD_DIM + column] = answer;
        }
        turn = 1u - turn;
    }
    if exists {
        for (var i = 0u; i < PART; i++) {
            memories[memory + i * HEAD_DIM] = part[i];
        }
    }
}
