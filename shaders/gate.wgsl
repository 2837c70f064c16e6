// x = x · sigmoid(gates).

struct Params {
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gates: array<f32>;    // [rows, cols]
@group(0) @binding(2) var<storage, read_write> x: array<f32>;  // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.cols {
        let place = id.y * params.cols + id.x;
        x[place] /= 1.0 + exp(-gates[place]);
    }
}
