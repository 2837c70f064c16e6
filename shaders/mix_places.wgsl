// out[row] += Σ weight · x[place] over the places of the row, best first.

struct Params {
    cols: u32,
    used: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;    // [rows, used]
@group(0) @binding(2) var<storage, read> x: array<f32>;          // [rows, used, cols]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;  // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.cols {
        var sum = 0.0;
        for (var i = 0u; i < params.used; i++) {
            let place = id.y * params.used + i;
            sum += weights[place] * x[place * params.cols + id.x];
        }
        out[id.y * params.cols + id.x] += sum;
    }
}
