// RMSNorm (or not), then int8 with a scale for each block of 128 columns. One workgroup a row.

struct Params {
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Bindings 1 and 2: `x` and `gain`, of the fragment `quads_aligned` or `quads_any`.
@group(0) @binding(3) var<storage, read_write> out: array<u32>;            // [rows, PADDED_QUADS], four int8 each
@group(0) @binding(4) var<storage, read_write> facts: array<vec2<u32>>;    // [rows, BLOCKS]: bits of the scale, sums of halves

fn store(row: u32, quad: u32, codes: u32) {
    out[row * PADDED_QUADS + quad] = codes;
}

fn store_fact(row: u32, block: u32, fact: vec2<u32>) {
    facts[row * BLOCKS + block] = fact;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    quantize_blocks(group.x, params.epsilon, thread);
}
