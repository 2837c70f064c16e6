// Rotates the queries of a row in place, and writes its rotated keys and its values to the cache. One workgroup a head.

struct Params {
    heads: u32,
    kv_heads: u32,
    pairs: u32,     // that are turned; features beyond 2 * pairs are not
    positions: u32, // of a cache slot
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> rotations: array<f32>;    // [rows, 2 * pairs], cosines first
@group(0) @binding(3) var<storage, read_write> qkv: array<f32>;    // [rows, (heads + 2 kv_heads) * HEAD_DIM]
@group(0) @binding(4) var<storage, read_write> keys: array<Pair>;  // [slots, kv_heads, positions, HEAD_DIM / 2]
@group(0) @binding(5) var<storage, read_write> values: array<Pair>; // as `keys`

var<workgroup> head: array<f32, HEAD_DIM>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    let all_heads = params.heads + 2u * params.kv_heads;
    let first = (row * all_heads + group.x) * HEAD_DIM;
    for (var i = thread; i < HEAD_DIM; i += 64u) {
        head[i] = qkv[first + i];
    }
    workgroupBarrier();
    let turned = group.x < params.heads + params.kv_heads;
    if group.x < params.heads {
        for (var i = thread; i < HEAD_DIM; i += 64u) {
            qkv[first + i] = turn(i, row);
        }
        return;
    }
    let kv_head = (group.x - params.heads) % params.kv_heads;
    let at = step.entries[row];
    let place = ((at.sequence * params.kv_heads + kv_head) * params.positions + at.position) * (HEAD_DIM / 2u);
    for (var i = thread; i < HEAD_DIM / 2u; i += 64u) {
        if turned {
            keys[place + i] = narrow(vec2<f32>(turn(2u * i, row), turn(2u * i + 1u, row)));
        } else {
            values[place + i] = narrow(vec2<f32>(head[2u * i], head[2u * i + 1u]));
        }
    }
}

// Feature `i` of the head after its pair was turned: (a cos - b sin, a sin + b cos).
fn turn(i: u32, row: u32) -> f32 {
    if i >= 2u * params.pairs {
        return head[i];
    }
    var pair = i % params.pairs;
    var second = i >= params.pairs;
    var other = select(i + params.pairs, i - params.pairs, second);
    if INTERLEAVED {
        pair = i / 2u;
        second = i % 2u == 1u;
        other = i ^ 1u;
    }
    let cos = rotations[row * 2u * params.pairs + pair];
    let sin = rotations[row * 2u * params.pairs + params.pairs + pair];
    return select(head[i] * cos - head[other] * sin, head[other] * sin + head[i] * cos, second);
}
