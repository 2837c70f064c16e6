// RMSNorm (or not), then int8 with a scale a row. One workgroup a row.

struct Params {
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Bindings 1 and 2: `x` and `gain`, of the fragment `quads_aligned` or `quads_any`.
@group(0) @binding(3) var<storage, read_write> out: array<u32>;            // [rows, PADDED_QUADS], four int8 each
@group(0) @binding(4) var<storage, read_write> facts: array<vec2<u32>>;    // [rows]: bits of the scale, sum of the codes

fn store(row: u32, quad: u32, codes: u32) {
    out[row * PADDED_QUADS + quad] = codes;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.x;
    let scale = quantize_row(row, params.epsilon, thread);
    workgroupBarrier();
    if thread < PARTS {
        add_codes(thread);
    }
    workgroupBarrier();
    if thread == 0u {
        facts[row] = vec2<u32>(bitcast<u32>(scale), sum_of_codes());
    }
}
