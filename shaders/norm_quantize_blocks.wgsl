// RMSNorm (or not), then int8 with a scale for each block of 128 columns. One workgroup a row.

struct Params {
    cols: u32,
    blocks: u32, // of a quantised row
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                    // [rows, cols]
@group(0) @binding(2) var<storage, read> gain: array<f32>;                 // [cols]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;      // [rows, blocks, 8], sixteen int8 each
@group(0) @binding(4) var<storage, read_write> facts: array<vec2<u32>>;    // [rows, blocks]: bits of the scale, sums of halves

fn load(row: u32, col: u32) -> f32 {
    return x[row * params.cols + col];
}

fn store(row: u32, vector: u32, codes: vec4<u32>) {
    out[row * params.blocks * TEAM + vector] = codes;
}

fn store_fact(row: u32, block: u32, fact: vec2<u32>) {
    facts[row * params.blocks + block] = fact;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    quantize_blocks(group.x, params.cols, params.blocks, params.epsilon, thread);
}
