// RMSNorm in f32: of all rows, or of those that want logits, packed together (SELECTED); stored, or added to what is there
// (ADD). One workgroup a row.

struct Params {
    cols: u32,
    stride: u32, // columns of `out`: those beyond `cols` become 0
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;          // [rows, cols]
@group(0) @binding(3) var<storage, read> gain: array<f32>;       // [cols]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;  // [rows, stride]

const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var source = group.x * params.cols;
    if SELECTED {
        source = step.entries[group.x].selected * params.cols;
    }
    var sum = 0.0;
    for (var col = thread; col < params.cols; col += THREADS) {
        sum += x[source + col] * x[source + col];
    }
    let factor = rms_factor(sum_shares(sum, thread), params.cols, params.epsilon);
    for (var col = thread; col < params.stride; col += THREADS) {
        let to = group.x * params.stride + col;
        var value = 0.0;
        if col < params.cols {
            value = x[source + col] * factor * gain[col];
        }
        if ADD {
            out[to] += value;
        } else {
            out[to] = value;
        }
    }
}
