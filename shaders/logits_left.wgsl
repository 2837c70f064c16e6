// Exact logits of the tokens that a screen leaves in the running: those of which the estimate, and what it may be off by, reach the
// floor, which is the least that the last of the wanted has. The sums are those of `logits`, in the same order. All others become
// smaller than any of them. A workgroup looks at as many tokens as it has threads.

struct Params {
    pieces: u32,   // 16-byte pieces of a row of the head
    rows: u32,     // rows of the head in this shard
    first: u32,    // the output that this shard begins with
    outputs: u32,  // columns of `out`: the vocabulary
    width: u32,    // columns of `x`
    entries: u32,  // of `wanted`
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> head: array<vec4<u32>>;    // [rows, pieces]
@group(0) @binding(2) var<storage, read> wanted: array<vec2<u32>>;  // [selected, entries], keys of floors, the largest counts; tokens
@group(0) @binding(3) var<storage, read> floors: array<f32>;        // [selected, outputs]
// Binding 4: `x`, [selected, width], of the fragment `vectors_aligned` or `vectors_any`.
@group(0) @binding(5) var<storage, read_write> out: array<f32>;     // [selected, outputs]: estimates, then what is exact

alias Sum = f32;

const BEYOND: f32 = -3.0e38;

var<workgroup> floor_key: atomic<u32>;
var<workgroup> count: atomic<u32>;
var<workgroup> found: u32;
var<workgroup> left: array<u32, THREADS>; // rows of the shard

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    if thread == 0u {
        atomicStore(&floor_key, 0u);
        atomicStore(&count, 0u);
    }
    workgroupBarrier();
    for (var i = thread; i < params.entries; i += THREADS) {
        atomicMax(&floor_key, wanted[group.z * params.entries + i].x);
    }
    workgroupBarrier();
    let key = atomicLoad(&floor_key);
    let row = (group.x + group.y * groups.x) * THREADS + thread;
    if row < params.rows {
        let place = group.z * params.outputs + params.first + row;
        let estimate = out[place];
        // As far above it as the floor is below; rounding takes nothing away.
        let upper = estimate + (estimate - floors[place]) * 1.0001 + abs(estimate) * 4.8e-7;
        // Where no floor is known, or this one is no number, all are left.
        let is_beyond = key != 0u && key != 0xffffffffu && is_finite_bits(upper) && upper < bitcast<f32>(rank_bits(key));
        if is_beyond {
            out[place] = BEYOND;
        } else {
            left[atomicAdd(&count, 1u)] = row;
        }
    }
    workgroupBarrier();
    let lane = thread % LANES;
    let team = thread / LANES;
    if thread == 0u {
        found = atomicLoad(&count);
    }
    let rows = workgroupUniformLoad(&found);
    for (var first = 0u; first < rows; first += TEAMS) {
        let mine = left[min(first + team, rows - 1u)];
        var sum = 0.0;
        for (var piece = lane; piece < params.pieces; piece += LANES) {
            let weights = unpack_piece(head[mine * params.pieces + piece], mine, piece);
            for (var vector = 0u; vector < PIECE_VECTORS; vector++) {
                sum += dot(weights[vector], x_vector(group.z, piece * PIECE_VECTORS + vector));
            }
        }
        lane_sums[0][thread] = sum;
        workgroupBarrier();
        if lane == 0u && first + team < rows {
            out[group.z * params.outputs + params.first + mine] = lanes_sum(team, 0u, 0u);
        }
        workgroupBarrier();
    }
}
