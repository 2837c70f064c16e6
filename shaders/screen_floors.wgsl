// What the exact logits are at least: estimates of the screen, less their bounds times the length of the hidden vector. NaN where
// nothing can be said of them.

struct Params {
    width: u32,     // columns of `x`
    cols: u32,      // logits of a row
    per_group: u32, // that one workgroup makes
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                  // [selected, width]
@group(0) @binding(2) var<storage, read> bounds: array<f32>;             // [cols]
@group(0) @binding(3) var<storage, read> estimates: array<f32>;          // [selected, cols]
@group(0) @binding(4) var<storage, read_write> floors: array<f32>;       // [selected, cols]

const THREADS: u32 = 256u;
const BATCH: u32 = 8u;
// Squares of less vanish in floats, those of more leave them.
const SHORTEST: f32 = 1e-24;
const LONGEST: f32 = 1e30;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var col = thread; col < params.width; col += THREADS) {
        let v = x[group.y * params.width + col];
        sum += v * v;
    }
    let total = sum_shares(sum, thread);
    // Its own sum is off by no more than the bounds allow for.
    let length = sqrt(total) * (1.0 + f32(params.width + 16u) * 4.8e-7);
    let is_told = is_finite_bits(total) && total > SHORTEST && total < LONGEST;
    let end = min(params.cols, (group.x + 1u) * params.per_group);
    let row = group.y * params.cols;
    for (var first = group.x * params.per_group + thread; first < end; first += THREADS * BATCH) {
        var made: array<f32, BATCH>;
        for (var i = 0u; i < BATCH; i++) {
            let col = min(first + i * THREADS, end - 1u);
            made[i] = estimates[row + col] - bounds[col] * length;
        }
        for (var i = 0u; i < BATCH; i++) {
            if first + i * THREADS < end {
                floors[row + first + i * THREADS] = select(not_finite(INFINITY_BITS), made[i], is_told);
            }
        }
    }
}
