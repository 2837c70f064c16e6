// The place of the largest logit, the first of equals, in two stages: of each stretch of a row, then of the stretches.

struct Params {
    cols: u32,       // logits of a row, or stretches
    per_group: u32,  // that one workgroup looks at
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<Candidate>;     // [selected, cols]
@group(0) @binding(2) var<storage, read_write> best: array<Chosen>;    // [selected, workgroups of a row]

const THREADS: u32 = 256u;
const NO_TOKEN: u32 = 0xffffffffu;

var<workgroup> bests: array<vec2<u32>, THREADS>; // key, token

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let end = min(params.cols, (group.x + 1u) * params.per_group);
    var mine = vec2<u32>(0u, NO_TOKEN);
    for (var col = group.x * params.per_group + thread; col < end; col += THREADS) {
        mine = better(mine, candidate(logits[group.y * params.cols + col], col));
    }
    bests[thread] = mine;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            bests[thread] = better(bests[thread], bests[thread + half]);
        }
        workgroupBarrier();
    }
    if thread == 0u {
        best[group.y * groups.x + group.x] = chosen(bests[0]);
    }
}

fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));
}
