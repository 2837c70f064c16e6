// RMSNorm of each head by itself, times SiLU of its gates, beside the other heads of its key head. One workgroup a head.

struct Params {
    head_dim: u32,
    heads: u32,
    key_heads: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gates: array<f32>;     // [rows, heads * head_dim]
@group(0) @binding(2) var<storage, read> gain: array<f32>;      // [head_dim]
@group(0) @binding(3) var<storage, read> x: array<f32>;         // [rows, heads * head_dim]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [rows, heads * head_dim]

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let begin = (group.y * params.heads + group.x) * params.head_dim;
    var sum = 0.0;
    for (var i = thread; i < params.head_dim; i += THREADS) {
        sum += x[begin + i] * x[begin + i];
    }
    let factor = rms_factor(sum_shares(sum, thread), params.head_dim, params.epsilon);
    let place = group.x % params.key_heads * (params.heads / params.key_heads) + group.x / params.key_heads;
    let to = (group.y * params.heads + place) * params.head_dim;
    for (var i = thread; i < params.head_dim; i += THREADS) {
        let gate = gates[begin + i];
        out[to + i] = x[begin + i] * factor * gain[i] * gate / (1.0 + exp(-gate));
    }
}
