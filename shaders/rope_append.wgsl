// Rotates the queries of a row in place, and writes its rotated keys and its values to the cache. One workgroup a head. Heads
// of queries and keys are normed before or after that, where the model does so (head_norm, or head_as_it_is).

struct Params {
    heads: u32,
    kv_heads: u32,
    pairs: u32,     // that are turned; features beyond 2 * pairs are not
    positions: u32, // of a cache slot
    epsilon: f32,   // of the norm
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
// Binding 2: `rotations`, of the fragment `rotation`.
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;    // [rows, (heads + 2 kv_heads) * HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> keys: array<Pair>;  // [slots, kv_heads, positions, HEAD_DIM / 2]
@group(0) @binding(5) var<storage, read_write> values: array<Pair>; // as `keys`

const THREADS: u32 = 64u;
const FEATURES: u32 = (HEAD_DIM + THREADS - 1u) / THREADS; // of a thread

var<workgroup> head: array<f32, HEAD_DIM>;
var<workgroup> largest: atomic<u32>; // bits of the head's largest magnitude

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let all_heads = params.heads + 2u * params.kv_heads;
    let first = (row * all_heads + group.x) * HEAD_DIM;
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        head[i] = qkv[first + i];
    }
    if thread == 0u {
        atomicStore(&largest, 0u);
    }
    workgroupBarrier();
    let is_query = group.x < params.heads;
    let is_value = group.x >= params.heads + params.kv_heads;
    if !is_value {
        if NORM_BEFORE {
            norm_head(is_query, thread);
        }
        var turned: array<f32, FEATURES>;
        for (var i = 0u; i < FEATURES; i++) {
            turned[i] = turn(0u, min(thread + i * THREADS, HEAD_DIM - 1u), row, params.pairs);
        }
        workgroupBarrier();
        for (var i = 0u; i < FEATURES; i++) {
            if thread + i * THREADS < HEAD_DIM {
                head[thread + i * THREADS] = turned[i];
            }
        }
        workgroupBarrier();
        if NORM_AFTER {
            norm_head(is_query, thread);
        }
    }
    if is_query {
        for (var i = thread; i < HEAD_DIM; i += THREADS) {
            qkv[first + i] = head[i];
        }
        return;
    }
    let kv_head = (group.x - params.heads) % params.kv_heads;
    let at = step.entries[row];
    let place = ((at.sequence * params.kv_heads + kv_head) * params.positions + at.position) * (HEAD_DIM / 2u);
    var mine = 0u;
    for (var i = thread; i < HEAD_DIM; i += THREADS) {
        mine = max(mine, magnitude_bits(head[i]));
    }
    atomicMax(&largest, mine);
    workgroupBarrier();
    for (var i = thread; i < HEAD_DIM / 2u; i += THREADS) {
        let pair = narrow_of(atomicLoad(&largest), vec2<f32>(head[2u * i], head[2u * i + 1u]));
        if is_value {
            values[place + i] = pair;
        } else {
            keys[place + i] = pair;
        }
    }
}

fn feature(first: u32, i: u32) -> f32 {
    return head[i];
}
