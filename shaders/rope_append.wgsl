// Rotates the queries of a row in place, and writes its rotated keys and its values to the cache. One workgroup a head.

struct Params {
    heads: u32,
    kv_heads: u32,
    pairs: u32,     // that are turned; features beyond 2 * pairs are not
    positions: u32, // of a cache slot
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
// Binding 2: `rotations`, of the fragment `rotation`.
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
            qkv[first + i] = turn(0u, i, row, params.pairs);
        }
        return;
    }
    let kv_head = (group.x - params.heads) % params.kv_heads;
    let at = step.entries[row];
    let place = ((at.sequence * params.kv_heads + kv_head) * params.positions + at.position) * (HEAD_DIM / 2u);
    for (var i = thread; i < HEAD_DIM / 2u; i += 64u) {
        if turned {
            keys[place + i] = narrow(vec2<f32>(turn(0u, 2u * i, row, params.pairs), turn(0u, 2u * i + 1u, row, params.pairs)));
        } else {
            values[place + i] = narrow(vec2<f32>(head[2u * i], head[2u * i + 1u]));
        }
    }
}

fn feature(first: u32, i: u32) -> f32 {
    return head[i];
}
