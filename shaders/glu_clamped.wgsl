// out = silu(min(gate, clamp)) · clamp(up, −clamp, clamp). Written so that NaN stays NaN.

struct Params {
    cols: u32,
    clamp: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate_up: array<f32>;    // [rows, 2 * cols], the gate first
@group(0) @binding(2) var<storage, read_write> out: array<f32>;  // [rows, cols]

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.cols {
        let source = id.y * 2u * params.cols + id.x;
        var gate = gate_up[source];
        gate = select(gate, params.clamp, gate > params.clamp);
        var up = gate_up[source + params.cols];
        up = select(up, params.clamp, up > params.clamp);
        up = select(up, -params.clamp, up < -params.clamp);
        out[id.y * params.cols + id.x] = gate / (1.0 + exp(-gate)) * up;
    }
}
