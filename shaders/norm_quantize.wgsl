// RMSNorm (or not), then int8 with a scale a row. One workgroup a row.

struct Params {
    cols: u32,
    vectors: u32, // of a quantised row: padded columns / 16
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                    // [rows, cols]
@group(0) @binding(2) var<storage, read> gain: array<f32>;                 // [cols]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;      // [rows, vectors], sixteen int8 each
@group(0) @binding(4) var<storage, read_write> facts: array<vec2<u32>>;    // [rows]: bits of the scale, sum of the codes

fn load(row: u32, col: u32) -> f32 {
    return x[row * params.cols + col];
}

fn store(row: u32, vector: u32, codes: vec4<u32>) {
    out[row * params.vectors + vector] = codes;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    let fact = quantize_row(row, params.cols, params.vectors, params.epsilon, thread);
    if thread == 0u {
        facts[row] = fact;
    }
}
