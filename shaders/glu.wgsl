// out = activation(gate) · up.

struct Params {
    cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;    // [rows, 2 * cols], the gate first
@group(0) @binding(2) var<storage, read_write> out: array<f32>;  // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.cols {
        let source = id.y * 2u * params.cols + id.x;
        out[id.y * params.cols + id.x] = activated(gate_up[source]) * gate_up[source + params.cols];
    }
}
