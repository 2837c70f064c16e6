// What the odds of a row's tokens add up to, relative to those of the largest logit: at temperature 1, and at the row's own.
// One workgroup a row: the largest logit first, then the sums. NaN where a logit is not finite.

struct Params {
    cols: u32, // logits of a row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;          // [selected, cols]
@group(0) @binding(2) var<storage, read> factors: array<f32>;         // [selected], inverse temperatures
@group(0) @binding(3) var<storage, read_write> totals: array<f32>;    // [selected, 2]

const THREADS: u32 = 256u;

var<workgroup> keys: array<u32, THREADS>;
var<workgroup> magnitudes: array<u32, THREADS>; // bits without their signs
var<workgroup> sums: array<vec2<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * params.cols;
    var largest = 0u;
    var magnitude = 0u;
    for (var col = thread; col < params.cols; col += THREADS) {
        largest = max(largest, rank_key(logits[first + col]));
        magnitude = max(magnitude, magnitude_bits(logits[first + col]));
    }
    keys[thread] = largest;
    magnitudes[thread] = magnitude;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            keys[thread] = max(keys[thread], keys[thread + half]);
            magnitudes[thread] = max(magnitudes[thread], magnitudes[thread + half]);
        }
        workgroupBarrier();
    }
    let most = bitcast<f32>(rank_bits(max(keys[0], 1u)));
    let factor = factors[group.x];
    var sum = vec2<f32>(0.0, 0.0);
    for (var col = thread; col < params.cols; col += THREADS) {
        let logit = logits[first + col];
        let below = logit - most;
        sum += exp(vec2<f32>(below, below * factor));
    }
    sums[thread] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            sums[thread] += sums[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        var total = sums[0];
        if magnitudes[0] >= INFINITY_BITS {
            total = vec2<f32>(not_finite(magnitudes[0]));
        }
        totals[2u * group.x] = total.x;
        totals[2u * group.x + 1u] = total.y;
    }
}
