// The experts of each row: those of its largest scores, best first, of equals the first; and their weights. One workgroup a row.

struct Params {
    count: u32, // experts
    used: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;           // [rows, count]
@group(0) @binding(2) var<storage, read_write> experts: array<u32>;    // [rows, used]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;    // [rows, used]

var<workgroup> keys: array<u32, MOST>;      // of scores: larger for larger ones, 0 for those that are taken
var<workgroup> best: array<u32, THREADS>;   // the expert of each thread's largest key
var<workgroup> odds: array<f32, MOST_USED>;
var<workgroup> is_finite: atomic<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * params.count;
    if thread == 0u {
        atomicStore(&is_finite, 1u);
    }
    workgroupBarrier();
    for (var expert = thread; expert < params.count; expert += THREADS) {
        let score = scores[first + expert];
        // What is not finite has the key 0; some of a row make all of its weights no numbers.
        keys[expert] = rank_key(score);
        if !is_finite_bits(score) {
            atomicStore(&is_finite, 0u);
        }
    }
    workgroupBarrier();
    for (var place = 0u; place < params.used; place++) {
        var mine = min(thread, params.count - 1u);
        for (var expert = thread; expert < params.count; expert += THREADS) {
            mine = select(mine, expert, keys[expert] > keys[mine]);
        }
        best[thread] = mine;
        workgroupBarrier();
        for (var half = THREADS / 2u; half > 0u; half /= 2u) {
            if thread < half {
                let a = best[thread];
                let b = best[thread + half];
                let is_better = keys[b] > keys[a] || (keys[b] == keys[a] && b < a);
                best[thread] = select(a, b, is_better);
            }
            workgroupBarrier();
        }
        if thread == 0u {
            let chosen = best[0];
            experts[group.x * params.used + place] = chosen;
            odds[place] = scores[first + chosen];
            keys[chosen] = 0u;
        }
        workgroupBarrier();
    }
    if thread == 0u {
        let largest = odds[0];
        var total = 0.0;
        for (var place = 0u; place < params.used; place++) {
            odds[place] = exp(odds[place] - largest);
            total += odds[place];
        }
        for (var place = 0u; place < params.used; place++) {
            var weight = odds[place] / total;
            if atomicLoad(&is_finite) == 0u {
                weight = not_finite(INFINITY_BITS);
            }
            weights[group.x * params.used + place] = weight;
        }
    }
}
